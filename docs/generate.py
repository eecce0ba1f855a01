"""Fill in what the reference takes from the code: the public names, the help of every command, codes, metrics.

A hook of mkdocs. A page asks with an HTML comment; names come from `__all__`, so that a new one is never forgotten.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from typing import Any

from choreo.app.metrics import CATALOGUE, series
from choreo.cli.check import explained
from choreo.cli.program import COMMANDS, command

_NAMES = re.compile(r"<!-- names: (\S+) -->")
_COMMANDS = "<!-- commands of choreo -->"
_CODES = "<!-- codes of choreo check -->"
_METRICS = "<!-- metrics of choreo -->"
_COLUMNS = "100"
"""Of a terminal that shows the help: wide enough for the longest option, and for a page."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with its comments filled in."""
    markdown = _NAMES.sub(lambda found: names_of(found[1]), markdown)
    markdown = markdown.replace(_CODES, codes()) if _CODES in markdown else markdown
    markdown = markdown.replace(_METRICS, metrics()) if _METRICS in markdown else markdown
    return markdown.replace(_COMMANDS, "\n".join(_pages())) if _COMMANDS in markdown else markdown


def codes() -> str:
    """Return the explanation of every code, its sections below those of the page."""
    return re.sub(r"^#", "##", explained.page(), flags=re.MULTILINE)


def metrics() -> str:
    """Return a table of the catalogue of metrics."""
    rows = []
    for name, metric in CATALOGUE.items():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{series(name)}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(["| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows])


def names_of(module: str) -> str:
    """Return a block of mkdocstrings for each public name of a module."""
    public: list[str] = importlib.import_module(module).__all__
    return "\n\n".join(f"::: {module}.{name}" for name in public)


def helps() -> Iterator[tuple[str, str, str]]:
    """Yield each command with its section and its help."""
    os.environ["COLUMNS"] = os.environ["TERMINAL_WIDTH"] = _COLUMNS
    root = command()
    for section, names in COMMANDS.items():
        for name in names:
            context = root.commands[name].make_context(name, [], resilient_parsing=True)
            context.info_name = f"choreo {name}"
            yield section, f"choreo {name}", context.command.get_help(context)
            for below, each in sorted(getattr(context.command, "commands", {}).items()):
                inner = each.make_context(f"choreo {name} {below}", [], resilient_parsing=True)
                yield section, f"choreo {name} {below}", each.get_help(inner)


def _pages() -> Iterator[str]:
    before = ""
    for section, name, text in helps():
        if section != before:
            yield f"## {section}\n"
        before = section
        yield f"### {name}\n\n```text\n{text.strip()}\n```\n"
