"""The kinds of faults of `choreo simulate`, as a table: name, sentence, and the flows that it can meet.

Knows flow definitions; nothing of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from choreo.core.definition import FlowDefinition, StepDefinition
from choreo.core.errors import SettingsError
from choreo.core.wording import did_you_mean

Definitions = Mapping[str, FlowDefinition]


class Kind(NamedTuple):
    """One kind of fault."""

    text: str
    applies: Callable[[Definitions], bool]
    """Whether a project can meet it."""


def steps_of(definitions: Definitions) -> list[StepDefinition]:
    """Return the steps that have handlers, each once."""
    found = {step.name: step for flow in definitions.values() for step in flow.steps if step.children is None}
    return list(found.values())


def older_versions(flow: FlowDefinition) -> list[int]:
    """Return the numbers of the flow's frozen versions before the present one."""
    return sorted(each.version for each in flow.frozen if each.version < flow.version)


def reactions_of(definitions: Definitions) -> list[str]:
    """Return the steps on nothing but failures: their dead letters can be redriven after the end of a run."""
    found: list[str] = []
    for flow in definitions.values():
        failures = {flow.fails, *(type_ for step in flow.steps for type_ in step.fails)}
        found += [step.name for step in flow.steps if not step.children and failures.issuperset(step.triggers)]
    return found


def _has_reactions(definitions: Definitions) -> bool:
    return bool(reactions_of(definitions))


def _always(_: Definitions) -> bool:
    return True


def _has_effects(definitions: Definitions) -> bool:
    return any(step.compensation for step in steps_of(definitions))


def _has_fails(definitions: Definitions) -> bool:
    return any(step.fails for step in steps_of(definitions))


def _has_timeouts(definitions: Definitions) -> bool:
    return any(step.timeout_ms for step in steps_of(definitions))


def _has_waits(definitions: Definitions) -> bool:
    return any(wait.answers for flow in definitions.values() for wait in flow.waits)


def _has_versions(definitions: Definitions) -> bool:
    return any(older_versions(flow) for flow in definitions.values())


OLD_VERSION: str = "old-version"
KINDS: Mapping[str, Kind] = {
    "kill": Kind("a process dies at any await point, and another one starts later", _always),
    "handler-death": Kind("a process dies in a handler, before its work or after it", _always),
    "zombie": Kind("a process stands still, loses its partitions, and goes on", _always),
    "rebalance": Kind("another process of a role joins, and leaves in order", _always),
    "slow-network": Kind("every request of a process takes longer", _always),
    "broker-away": Kind("the brokers do not answer", _always),
    "redis-away": Kind("the inboxes and the read model do not answer", _always),
    "lost-answer": Kind("a request is done, and its answer is lost", _always),
    "torn-batch": Kind("a batch is published in part, and the request fails", _always),
    "clock-skew": Kind("the clock of a process is wrong", _always),
    "broker-skew": Kind("the clock of a partition's leader is wrong", _always),
    "inbox-emptied": Kind("a service's inbox loses everything", _always),
    "read-model-emptied": Kind("the read model loses everything", _always),
    "duplicate": Kind("a record stands in the log a second time", _always),
    "foreign-duplicate": Kind("a foreign producer repeats an event under another id", _always),
    "foreign-start": Kind("a foreign producer starts a key that has a run", _always),
    OLD_VERSION: Kind("a run was started under an older version of its flow", _has_versions),
    "poison": Kind("a record cannot be decoded", _always),
    "handler-error": Kind("a handler raises before its work", _always),
    "late-error": Kind("a handler raises after its work", _always),
    "slow-handler": Kind("a handler takes long, before its work or after it", _always),
    "hanging-handler": Kind("a handler never answers", _has_timeouts),
    "declared-failure": Kind("a handler returns a declared failure", _has_fails),
    "compensation-error": Kind("a compensation fails several times", _has_effects),
    "cancel": Kind("an operator cancels a run", _always),
    "pause": Kind("an operator pauses a run, and resumes it", _always),
    "terminate": Kind("an operator terminates a run", _always),
    "compensation-retry": Kind("an operator retries failed compensations", _has_effects),
    "redrive": Kind("an operator redrives the dead letter of a reaction to a failure", _has_reactions),
    "outside-early": Kind("an outside event comes before its wait", _has_waits),
    "outside-late": Kind("an outside event comes after its wait's time", _has_waits),
    "outside-never": Kind("an outside event never comes", _has_waits),
}


def applicable(definitions: Definitions) -> list[str]:
    """Return the kinds that can meet these flows."""
    return [name for name, kind in KINDS.items() if kind.applies(definitions)]


def chosen(wanted: Iterable[str], definitions: Definitions) -> list[str]:
    """Return the wanted kinds in their order in the table; none wanted: all that apply. Raises SettingsError.

    "none" stands for no fault at all; "-kill" takes a kind away.
    """
    words = [word.strip() for word in wanted if word.strip()]
    known = applicable(definitions)
    for word in words:
        name = word.removeprefix("-")
        if name not in KINDS and name != "none":
            raise SettingsError(
                f"there is no kind of fault {name!r}",
                where="--faults",
                remedy=f"{did_you_mean(name, KINDS)}Kinds: {', '.join(KINDS)}; none: no fault; -kind: all others.",
            )
        if name in KINDS and name not in known and not word.startswith("-"):
            raise SettingsError(
                f"{name} cannot meet these flows: {KINDS[name].text}",
                where="--faults",
                remedy=f"Leave it out. Kinds that can: {', '.join(known)}.",
            )
    taken = {word.removeprefix("-") for word in words if word.startswith("-")}
    named = {word for word in words if not word.startswith("-")}
    return [name for name in known if name not in taken and (not named or name in named)]
