"""Write `docs/runbooks/causes.md`, a heading for each cause of `choreo why`, from the table of their words.

`python docs/write_causes.py`; a test fails when the page is stale.
"""

from __future__ import annotations

import re
from pathlib import Path

from choreo.app.query.why.words import WORDS, Cause, Words

PAGE = Path(__file__).parent / "runbooks" / "causes.md"
_VALUE = re.compile(r"\{(\w+)\}")

HEAD = """# Causes

Each fault that `choreo why KEY` names has a heading here, with the words that the command line, the REST view and the
web page show. Names in capitals stand for values of the run. [Ask why a run stands still](../how-to/why.md) has the
order in which they are tested.

This page is written by `docs/write_causes.py`.
"""


def page() -> str:
    """Return the text of the page."""
    return "\n".join([HEAD, *(_section(cause, WORDS[cause]) for cause in Cause if not WORDS[cause].healthy)])


def _section(cause: Cause, words: Words) -> str:
    return f"## {cause}\n\n> {shown(words.sentence)}\n\n{shown(words.remedy)}\n\nNext: `{shown(words.command)}`\n"


def shown(template: str) -> str:
    """Return a template with the names of its values in capitals."""
    return _VALUE.sub(lambda found: found[1].upper(), template)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
