"""Every page of the documentation: its snippets and commands run, in an environment with only the wheel."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from choreo.cli.program import command
from tests.support.reader import MARKS, Reader, blocks_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
# Each of these pages is one story, from an empty folder to its end.
STORIES = [page for page in PAGES if {"snippet"} <= {block.kind for block in blocks_of(page)}]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# Diagrams, formats and answers are no code.
NOT_CODE = {"mermaid", "text", ""}
_SPAN = re.compile(r"`(choreo [^`\n]+(?:\n[^`\n]+)?)`")
_LINE = re.compile(r"^(?:[A-Z_]+=\S+ )*(choreo .*?)(?:\s+#.*|\s*&|\s*\|\|.*)?$", re.MULTILINE)
_TARGET = re.compile(r"`make ([a-z]+)|^make ([a-z]+)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_fence_says_how_it_is_tried(page: Path) -> None:
    """Code and commands of a page are run, or the page gives the reason why not."""
    for block in blocks_of(page):
        where = f"{page.name}:{block.line}"
        assert block.kind in MARKS or block.language in NOT_CODE, f"{where}: nobody tries this"
        if block.kind in ("snippet", "append", "commands", "example"):
            assert block.argument, f"{where}: {block.kind} of what?"


@pytest.mark.parametrize("page", STORIES, ids=[page.stem for page in STORIES])
def test_a_page_works_word_for_word(page: Path, newcomer: Reader) -> None:
    """Files, commands and answers, from an empty folder on."""
    assert newcomer.follows(page) >= 2


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_command_of_a_page_exists_with_its_options(page: Path) -> None:
    """Also those that stand in a sentence."""
    text = page.read_text()
    shell = "\n".join(block.text for block in blocks_of(page) if block.language == "sh")
    calls = [
        *_SPAN.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)),
        *_LINE.findall(shell.replace("\\\n", " ")),
    ]
    for call in calls:
        _require(" ".join(call.split()), page)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_target_of_make_exists(page: Path) -> None:
    """The Makefile has each that a page names."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {first or second for first, second in _TARGET.findall(page.read_text())} <= targets


def test_every_event_of_choreos_own_is_documented() -> None:
    """The reference names each, and no other."""
    from choreo.core import facts

    known = {value for name, value in vars(facts).items() if name.isupper() and str(value).startswith(facts.PREFIX)}
    named = set(re.findall(r"`(choreo\.[A-Z]\w+)`", (DOCS / "reference" / "events.md").read_text()))
    assert named == known - {facts.PREFIX}


def _require(call: str, page: Path) -> None:
    """Fail if a call names a command or an option that there is not."""
    try:
        words = shlex.split(call)[1:]
    except ValueError:
        words = call.split()[1:]
    here: Any = command()
    for name in [word for word in words[:2] if not word.startswith("-")]:
        if name in getattr(here, "commands", {}):
            here = here.commands[name]
            here = here.make_context(name, [], resilient_parsing=True).command
        else:
            assert not hasattr(here, "commands") or not name.islower(), f"{page.name}: {call}: there is no {name}"
    known = {option for parameter in here.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        option = word.split("=")[0].strip(".,;[]")
        if re.match(r"--?[a-z]", option):
            assert option in known | {"--help", "--debug"}, f"{page.name}: {call}: there is no {option}"
