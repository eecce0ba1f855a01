"""Flows made from a seed: parallel steps, a join, and behind it some of a wait, a timer, children and a plain step.

The seed stands in the environment, so that every process makes the same flows. Each step leaves one file as its effect;
its compensation turns it, or bars the attempt that may still come. A start says which step refuses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

from choreo import Event, Flow, Service, StepContext, all_of
from choreo.core import ids

SEED, BOOKS = "CHOREO_TESTS_SEED", "CHOREO_TESTS_BOOKS"
FLOWS = ("tests.support.generated:made", "tests.support.generated:kid")
KIDS = 3


class Placed(Event):
    """A run begins. `refuses` names the step that refuses it; `kid.book` one of its children's."""

    key: str
    refuses: str = ""


class KidPlaced(Event):
    """A child begins."""

    key: str
    refuses: str = ""


def event(name: str, **fields: Any) -> Any:
    """Return an event class with the key and these fields."""
    return type(Event)(name, (Event,), {"__annotations__": {"key": str, **fields}, "__module__": __name__})


Answered, Denied, Silent = event("Answered"), event("Denied"), event("Silent", reason=str)
Later, Done = event("Later"), event("Done")
KidsDone, KidsFailed = event("KidsDone", completed=int), event("KidsFailed", reason=str)


def effect_of(step: str, key: str, idempotency_key: str) -> Path:
    """Return the file that is the effect of an attempt; it holds one word."""
    return Path(os.environ[BOOKS]) / f"{key}~{step}~{ids.derive(idempotency_key)}"


def taken(path: Path, word: str) -> str:
    """Write the word if nobody has, whole or not at all; return the one that stands there."""
    draft = path.with_name(f".{path.name}-{os.getpid()}-{word}")
    draft.write_text(word)
    try:
        os.link(draft, path)
    except FileExistsError:
        return path.read_text()
    return word


def turned(path: Path) -> bool:
    """Undo the effect, or bar it; return whether it was there."""
    if taken(path, "barred") == "barred":
        return False
    draft = path.with_name(f".{path.name}-{os.getpid()}-undone")
    draft.write_text("undone")
    draft.replace(path)
    return True


def declare(service: Service, name: str, trigger: Any, placed: type[Event] | None = None, **options: Any) -> Any:
    """Declare a step with an effect; return the class of its outcome. `placed`: the start may name it to refuse."""
    title = name.title()
    good, bad, back = event(f"{title}Done"), event(f"{title}Refused"), event(f"{title}Undone")
    place = f"{service.name}.{name}"

    def work(_: Any, ctx: StepContext, start: Any = None) -> Any:
        refused = start is not None and start.refuses == place
        if refused or taken(effect_of(place, ctx.key, ctx.idempotency_key), "done") == "barred":
            return bad(key=ctx.key)
        return good(key=ctx.key)

    def undo(_: Any, ctx: StepContext) -> Any:
        was_there = turned(effect_of(place, ctx.key, ctx.undoes))
        return back(key=ctx.key) if was_there else None

    handler = _typed(work, trigger, placed, good | bad)
    step = service.step(on=trigger, emits=good, fails=bad, name=name, timeout="30s", **options)(handler)
    undo.__annotations__ = {"_": good | None, "ctx": StepContext, "return": back | None}
    step.compensate(emits=back)(undo)
    return good


def _typed(work: Callable[..., Any], trigger: Any, placed: type[Event] | None, returns: Any) -> Callable[..., Any]:
    """Return a handler with the arguments of its declaration: members of the trigger, the start, the context."""
    members = list(getattr(trigger, "classes", [trigger]))
    needed = [placed] if placed is not None and placed not in members else []
    names = [f"event_{number}" for number in range(len(members) + len(needed))]
    text = f"def handler({', '.join(names)}, ctx): return work({names[0]}, ctx, {names[-1] if placed else None})"
    space: dict[str, Any] = {"work": work}
    exec(text, space)  # noqa: S102 - an argument for each event: their number is the seed's
    handler: Callable[..., Any] = space["handler"]
    classes = dict(zip(names, [*members, *needed], strict=True))
    handler.__annotations__ = {**classes, "ctx": StepContext, "return": returns}
    return handler


def make_kid() -> Flow:
    """Return the children's flow: two steps after each other."""
    service = Service("kid")
    booked = declare(service, "book", KidPlaced, KidPlaced)
    told = declare(service, "tell", booked)
    return Flow("kid", key="key", starts=KidPlaced, completes=told, services=[service], deadline="5d")


def make(seed: int, child: Flow) -> Flow:
    """Return the flow of this seed."""
    chance = Random(seed)
    left, right, end = Service("left"), Service("right"), Service("end")
    branches = [
        declare(chance.choice((left, right)), f"work{number}", Placed, Placed)
        for number in range(chance.choice((2, 3)))
    ]
    met = declare(end, "meet", all_of(*branches), Placed)
    tails = chance.sample(("wait", "timer", "children", "plain"), chance.choice((2, 3, 4)))
    last = []
    if "wait" in tails:
        last.append(declare(right, "told", Answered))
    if "timer" in tails:
        last.append(declare(left, "late", Later))
    if "plain" in tails:
        last.append(declare(left, "plain", met, Placed))
    if "children" in tails:
        last.append(KidsDone)
        _with_children(end, met, child, window=chance.choice((0, 1, 2)))
    close = _typed(lambda _, ctx, __: Done(key=ctx.key), all_of(*last), None, Done)
    end.step(on=all_of(*last), emits=Done, effect=False, name="close")(close)
    services = [service for service in (left, right, end) if service.steps]
    flow = Flow("made", key="key", starts=Placed, completes=Done, services=services, deadline="9d")
    if "wait" in tails:
        flow.wait("answer", on=met, until=Answered, refused=Denied, timeout="8s", fails=Silent)
    if "timer" in tails:
        flow.timer("later", on=met, after="2s", emits=Later)
    return flow


def _with_children(service: Service, met: Any, child: Flow, window: int) -> None:
    def split(_: Any, placed: Any, ctx: StepContext) -> Any:
        for number in range(KIDS):
            refuses = placed.refuses if placed.refuses.startswith("kid.") and number == 1 else ""
            yield KidPlaced(key=f"{ctx.key}-{number}", refuses=refuses)

    split.__annotations__ = {"_": met, "placed": Placed, "ctx": StepContext, "return": Iterable[KidPlaced]}
    service.children(on=met, flow=child, emits=KidsDone, fails=KidsFailed, window=window, deadline="2d")(split)


kid = make_kid()
made = make(int(os.environ.get(SEED, "1")), kid)
