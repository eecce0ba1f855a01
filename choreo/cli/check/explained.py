"""The page of the codes: the failure that each prevents, an example and the remedy.

One text, `codes.md`, for `choreo check --explain`, for SARIF and for the documentation.
"""

from __future__ import annotations

import re
from importlib.resources import files

from choreo.core.checks.codes import CODES
from choreo.core.errors import NotFoundError
from choreo.core.wording import did_you_mean

_HEADING = re.compile(r"^## (?P<code>C\d{3}): (?P<title>.+?) \{#(?P<anchor>\w+)\}$", re.MULTILINE)


def page() -> str:
    """Return the whole text, in Markdown."""
    return files("choreo.cli.check").joinpath("codes.md").read_text(encoding="utf-8")


def sections() -> dict[str, str]:
    """Return code → its text in Markdown, without its heading."""
    text = page()
    heads = list(_HEADING.finditer(text))
    ends = [each.start() for each in heads[1:]] + [len(text)]
    return {
        head["code"]: re.sub(r"\n+# [^\n]*\Z", "", text[head.end() : end].rstrip()).strip()
        for head, end in zip(heads, ends, strict=True)
    }


def titles() -> dict[str, str]:
    """Return code → the title of its section."""
    return {head["code"]: head["title"] for head in _HEADING.finditer(page())}


def explain(code: str) -> str:
    """Return title, severity and text of a code; raises NotFoundError on one that does not exist."""
    known = CODES.get(code.upper())
    if known is None:
        remedy = f"{did_you_mean(code.upper(), CODES)}`choreo check` prints the code of each finding."
        raise NotFoundError(f"there is no code {code!r:.40}", where="--explain", remedy=remedy)
    return f"{known.code}: {known.title} ({known.level})\n\n{sections()[known.code]}"
