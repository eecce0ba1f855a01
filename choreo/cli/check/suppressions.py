"""Suppressions: warnings that the user accepts, each for one place and with a reason.

They stand in pyproject.toml: `[tool.choreo.check] ignore = [{code = "C302", where = "payment.charge", reason = "…"}]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from choreo.cli.check.found import Found
from choreo.core.checks.codes import CODES
from choreo.core.wording import did_you_mean

_FILE = "pyproject.toml"
_FORM = 'Write {code = "C302", where = "payment.charge", reason = "why it is safe"}.'


class Suppression(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One accepted warning: its code, the name of its step, wait, event or flow, and why it is accepted."""

    code: str
    where: str
    reason: str

    def covers(self, found: Found) -> bool:
        """Return whether it accepts this finding."""
        return found.code == self.code and found.level == "warning" and self.where in (found.where, *found.names)


class Accepted(msgspec.Struct, frozen=True):
    """A warning that is set aside, and the reason."""

    finding: Found
    reason: str


class Sorted(NamedTuple):
    """Findings that count, and warnings that are set aside."""

    findings: list[Found]
    accepted: list[Accepted]


def applied(config: Mapping[str, Any], findings: Iterable[Found], *, whole: bool = True) -> Sorted:
    """Set the suppressed warnings aside; a suppression that is refused, or not used, is a finding itself.

    `whole`: the whole project was checked, so that one that nothing uses is known to be of no use.
    """
    suppressions, problems = _read(config)
    kept, accepted, used = [], [], set()
    for found in findings:
        by = next((each for each in suppressions if each.covers(found)), None)
        if by is None:
            kept.append(found)
        else:
            accepted.append(Accepted(found, by.reason))
            used.add(by)
    unused = [_unused(each) for each in suppressions if whole and each not in used]
    return Sorted([*kept, *problems, *unused], accepted)


def _read(config: Mapping[str, Any]) -> tuple[list[Suppression], list[Found]]:
    """Return the suppressions of the settings, and a finding for each that is refused."""
    suppressions: list[Suppression] = []
    others = [name for name in config if name != "ignore"]
    problems = [_refused(name, f"there is no setting check.{name}", "Known here: ignore.") for name in others]
    listed = config.get("ignore", [])
    if not isinstance(listed, list):
        return [], [*problems, _refused("ignore", "it is no list", f"Write ignore = [...]. {_FORM}")]
    for number, each in enumerate(listed, 1):
        where = f"ignore, entry {number}"
        try:
            suppression = msgspec.convert(each, Suppression)
        except msgspec.ValidationError as error:
            problems.append(_refused(where, str(error)[:1].lower() + str(error)[1:], _FORM))
            continue
        if why := _why_not(suppression):
            problems.append(_refused(where, *why))
        else:
            suppressions.append(suppression)
    return suppressions, problems


def _why_not(one: Suppression) -> tuple[str, str] | None:
    """Return why a suppression is refused, and the remedy; None if it is sound."""
    if one.code not in CODES:
        return f"there is no code {one.code}", f"{did_you_mean(one.code, CODES)}`choreo check` prints the code."
    if CODES[one.code].level == "error":
        return f"{one.code} is an error, and only warnings can be suppressed", "Mend the declaration."
    if not one.where.strip():
        return "it names no place", f"Name the step, wait, event or flow. {_FORM}"
    return None if one.reason.strip() else ("it has no reason", f"Say why the warning is accepted. {_FORM}")


def _refused(where: str, what: str, remedy: str) -> Found:
    return Found("C001", "error", "suppressions", f"tool.choreo.check, {where}", what, remedy, file=_FILE)


def _unused(one: Suppression) -> Found:
    return Found(
        "C002",
        "warning",
        "suppressions",
        f"tool.choreo.check, {one.code} at {one.where}",
        "no such warning was found",
        "Take the suppression out, or correct its place.",
        file=_FILE,
    )
