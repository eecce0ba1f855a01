"""Compare two declarations of a flow: which changes a run in flight can bear, and which need a new version.

A run is folded by the definition of its version for its whole life. A change is compatible if no run that was started
before can need the old meaning, or lack the new one. A field that this file does not know is no compatible change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

import msgspec

from choreo.core.definition import FlowDefinition
from choreo.core.durations import human
from choreo.core.flow_table import FlowTable

Plain: TypeAlias = Mapping[str, Any]

_HOST_ONLY = frozenset({"timeout_ms", "retry", "takes", "heartbeat_ms", "runs_in", "emits_some"})
"""Only the host of an attempt, or no one but the checks, reads them: the next attempt takes the new values."""
_LONGER_ONLY = frozenset({"deadline_ms", "timeout_ms"})
_MORE_ONLY = frozenset({"emits", "fails"})


class FlowChange(msgspec.Struct, frozen=True):
    """A difference to the frozen definition. `breaks` says why a run in flight cannot bear it; empty: it can."""

    where: str
    what: str
    breaks: str = ""


def flow_changes(frozen: FlowDefinition, declared: FlowDefinition) -> list[FlowChange]:
    """Return every difference between two declarations of one version, those that need a new version first."""
    before, now = _plain(frozen), _plain(declared)
    known = frozen.types
    found = [
        *_of_flow(before, now),
        *_of_steps(before, now, known),
        *_of_waits(before, now, known),
        *_of_roles(frozen, declared),
    ]
    return sorted(found, key=lambda change: not change.breaks)


def _of_flow(before: Plain, now: Plain) -> Iterator[FlowChange]:
    """Yield the changes beside steps and waits."""
    where = f"flow {now['name']}"
    for name in _differing(before, now, {"steps", "waits", "version", "time_scale", "frozen"}):
        old, new = before.get(name), now.get(name)
        if name in ("linger_ms", "events", "carries", "attributes"):
            yield FlowChange(where, f"{_word(name)} changed")
        elif name == "deadline_ms":
            yield _of_duration(where, name, old or 0, new or 0)
        elif name == "hops_max":
            breaks = "a run in flight may have gone further than that" if now[name] < before[name] else ""
            yield FlowChange(where, f"max_hops is {new}, it was {old}", breaks)
        else:
            yield FlowChange(where, _replaced(name, old, new), "runs in flight began under the other one")


def _of_steps(before: Plain, now: Plain, known: AbstractSet[str]) -> Iterator[FlowChange]:
    old, new = _by_name(before["steps"]), _by_name(now["steps"])
    for name, step in old.items():
        where = f"flow {now['name']}, step {name}"
        if name in new:
            yield from _of_step(where, step, new[name], known)
            continue
        twin = next((n for n, s in new.items() if n not in old and s["on"] == step["on"]), "")
        what = f"it was renamed to {twin}" if twin else "it was removed"
        yield FlowChange(where, what, "runs in flight may be at this step, or have an effect of it to undo")
    for name in new.keys() - old.keys():
        yield _added(f"flow {now['name']}, step {name}", _started_by(new[name]), known)


def _of_step(where: str, before: Plain, now: Plain, known: AbstractSet[str]) -> Iterator[FlowChange]:
    """Yield the changes of a step that both have."""
    for name in _differing(before, now, {"name", "service", "compensation"}):
        old, new = before.get(name), now.get(name)
        if name in _MORE_ONLY:
            whole = name == "emits" and bool(now.get("emits_all"))
            yield from _of_outcomes(where, name, old or (), new or (), known, whole=whole)
        elif name in _HOST_ONLY:
            yield FlowChange(where, f"{_word(name)} changed")
        elif name == "children" and old and new and {**old, "window": 0} == {**new, "window": 0}:
            yield FlowChange(where, "the window of its children changed")
        elif name == "deadline_ms":
            yield _of_duration(where, name, old or 0, new or 0)
        else:
            yield FlowChange(where, _replaced(name, old, new), "runs in flight were promised the other")
    undo, undone = before.get("compensation"), now.get("compensation")
    if (undo is None) != (undone is None):
        what = "its compensation was taken away" if undone is None else "it has a compensation now"
        yield FlowChange(where, what, "effects of runs in flight were, or were not, entered to be undone")
    elif undo is not None and undone is not None:
        for name in _differing(undo, undone, set()):
            yield from _of_compensation(where, name, undo.get(name), undone.get(name))


def _of_compensation(where: str, name: str, old: Any, new: Any) -> Iterator[FlowChange]:
    if name in _HOST_ONLY:
        yield FlowChange(where, f"{_word(name)} of its compensation changed")
    elif name == "deadline_ms":
        yield _of_duration(f"{where}, compensation", name, old, new)
    elif name == "emits" and set(old) < set(new):
        yield FlowChange(where, f"its compensation may emit {_listed(new, old)}, too")
    elif name == "takes":
        yield FlowChange(where, "its compensation takes other events")
    elif name in ("takes_none", "bars") and new and not old:
        yield FlowChange(where, f"its compensation has {name}, which it had not")
    else:
        what = f"of its compensation {_replaced(name, old, new)}"
        yield FlowChange(where, what, "runs in flight may have an effect of it to undo")


def _of_outcomes(
    where: str, name: str, old: Any, new: Any, known: AbstractSet[str], *, whole: bool
) -> Iterator[FlowChange]:
    """Yield the events that a step may emit or fail with no more, and those that are new.

    `whole`: a success emits every event of it, so that a new one belongs to each.
    """
    if gone := _listed(old, new):
        yield FlowChange(where, f"{name} has {gone} no more", "attempts of runs in flight may have ended with it")
    if more := _listed(new, old):
        again = ", ".join(sorted((set(new) - set(old)) & known))
        breaks = f"{again} already means something in runs in flight" if again else ""
        if whole:
            breaks = "a success emits all of them, and steps of runs in flight have succeeded without it"
        yield FlowChange(where, f"{name} has {more}, too", breaks)


def _of_waits(before: Plain, now: Plain, known: AbstractSet[str]) -> Iterator[FlowChange]:
    old, new = _by_name(before["waits"]), _by_name(now["waits"])
    for name, wait in old.items():
        where = f"flow {now['name']}, {name}"
        if name not in new:
            yield FlowChange(where, "it was removed", "runs in flight may stand at this wait")
            continue
        for field in _differing(wait, new[name], set()):
            if field in _LONGER_ONLY:
                yield _of_duration(where, field, wait.get(field) or 0, new[name].get(field) or 0)
            else:
                what = _replaced(field, wait.get(field), new[name].get(field))
                yield FlowChange(where, what, "runs in flight may stand at this wait")
    for name in new.keys() - old.keys():
        wait = new[name]
        yield _added(f"flow {now['name']}, {name}", [wait["on"], wait["until"]], known)


def _of_roles(frozen: FlowDefinition, declared: FlowDefinition) -> Iterator[FlowChange]:
    """Yield the steps with another place in the graph: ids and slots of a step on a cycle are made otherwise."""
    before, now = FlowTable(frozen), FlowTable(declared)
    for name in sorted(before.steps.keys() & now.steps.keys()):
        where, breaks = f"flow {declared.name}, step {name}", "runs in flight may be at this step"
        if (name in before.cyclic) != (name in now.cyclic):
            now_is = "lies on a cycle now" if name in now.cyclic else "lies on no cycle any more"
            yield FlowChange(where, f"it {now_is}", breaks)
        if (name in before.reactions) != (name in now.reactions):
            now_is = "reacts to a failure now" if name in now.reactions else "is a step of the way forward now"
            yield FlowChange(where, f"it {now_is}", breaks)


def _started_by(step: Plain) -> list[str]:
    """Return the types that start a step."""
    return [step["on"], *step["any_of"], *step["all_of"]]


def _added(where: str, needs: list[str], known: AbstractSet[str]) -> FlowChange:
    """Return the change by something new; a run that has passed its event already would wait for it in vain."""
    if passed := sorted(set(needs) & known):
        breaks = f"a run in flight may have passed {', '.join(passed)} already, and would expect it for ever"
        return FlowChange(where, "it is new", breaks)
    return FlowChange(where, "it is new")


def _of_duration(where: str, name: str, old: int, new: int) -> FlowChange:
    """Return the change of a duration; 0 stands for none, which is the longest."""
    shorter = bool(new) and (not old or new < old)
    breaks = "runs in flight were promised more time" if shorter else ""
    return FlowChange(where, f"{_word(name)} is {_time(new)}, it was {_time(old)}", breaks)


def _time(duration_ms: int) -> str:
    return human(duration_ms) if duration_ms else "none"


def _replaced(name: str, old: Any, new: Any) -> str:
    return f"{_word(name)} is {_shown(new)}, it was {_shown(old)}"


def _word(name: str) -> str:
    """Return the name that a declaration uses for a field of the definition."""
    return {"hops_max": "max_hops", "takes_none": "whether it takes None"}.get(name, name.removesuffix("_ms"))


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(each) for each in value) or "none"
    return str(value) if value not in (None, "") else "none"


def _listed(some: Any, without: Any) -> str:
    return ", ".join(sorted(set(some) - set(without)))


def _differing(before: Plain, now: Plain, besides: set[str]) -> list[str]:
    return [name for name in {**before, **now} if name not in besides and before.get(name) != now.get(name)]


def _by_name(parts: Any) -> dict[str, Plain]:
    return {part["name"]: part for part in parts}


def _plain(flow: FlowDefinition) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(flow)
    return plain
