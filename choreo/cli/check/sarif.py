"""The answer of `choreo check` as SARIF 2.1.0, which code hosts show beside the lines of a change.

Every code of the table is a rule with its explanation. A suppressed warning is a result with its justification.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from choreo.cli.check.explained import sections
from choreo.cli.check.found import Found
from choreo.cli.check.suppressions import Accepted
from choreo.core.checks.codes import CODES

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_ROOT = "PROJECT"


def log(findings: Sequence[Found], accepted: Sequence[Accepted], version: str) -> dict[str, Any]:
    """Return the findings as a SARIF log of one run."""
    texts = sections()
    rules = [_rule(code, texts[code]) for code in CODES]
    results = [_result(found) for found in findings]
    results += [{**_result(each.finding), "suppressions": [_suppression(each.reason)]} for each in accepted]
    driver = {"name": "choreo check", "semanticVersion": version, "rules": rules}
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": True}],
        "originalUriBaseIds": {_ROOT: {"description": {"text": "The folder of the project."}}},
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: str, text: str) -> dict[str, Any]:
    known = CODES[code]
    first = text.split("\n\n", 1)[0].replace("\n", " ")
    return {
        "id": code,
        "shortDescription": {"text": f"{known.title}."},
        "fullDescription": {"text": first},
        "help": {"text": text, "markdown": text},
        "defaultConfiguration": {"level": known.level},
    }


def _result(found: Found) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": found.code,
        "ruleIndex": list(CODES).index(found.code),
        "level": found.level,
        "message": {"text": f"{found.where}: {found.what}. {found.remedy}"},
    }
    location: dict[str, Any] = {}
    if found.file:
        path = Path(found.file)
        at = {"uri": path.as_uri()} if path.is_absolute() else {"uri": quote(path.as_posix()), "uriBaseId": _ROOT}
        location["physicalLocation"] = {"artifactLocation": at}
        if found.line:
            location["physicalLocation"]["region"] = {"startLine": found.line}
    if found.names:
        location["logicalLocations"] = [{"fullyQualifiedName": found.where, "name": found.names[-1]}]
    return {**result, "locations": [location]} if location else result


def _suppression(reason: str) -> dict[str, Any]:
    return {"kind": "external", "justification": reason}
