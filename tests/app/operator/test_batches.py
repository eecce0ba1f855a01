"""Batches: planned, run at a rate, stopped, gone on with; after any crash each item is acted on once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from choreo.app.operator.batch_plans import Draft, Planner, Wish
from choreo.app.operator.batches import BEAT_MS
from choreo.core import batch, facts
from choreo.core.access import Actor
from choreo.core.batch import State
from choreo.core.errors import ConflictError, DecodeError, NotFoundError, StorageError
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.read_model import Filter
from tests.app.harness import Shop, batches_of

T = TypeVar("T")

ANN = Actor("ann", "api-key")


class CrashedError(BaseException):
    """The process is no more."""


class Crashing:
    """A part whose call of this number crashes, before or after it has done its work."""

    def __init__(self, part: Any, name: str, number: int, *, after: bool) -> None:
        self._part, self._name, self._left, self._after = part, name, number, after

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._part, name)
        if name != self._name:
            return real

        async def call(*arguments: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise CrashedError
            answer = await real(*arguments)
            if self._left == 0:
                raise CrashedError
            return answer

        return call


@pytest.fixture
async def shop() -> Shop:
    """Return an empty shop."""
    return await Shop().open()


def wish(action: str, rate: float = 1_000, name: str = "t", reason: str = "asked") -> Wish:
    """Return a wish of Ann's."""
    return Wish(action, "order", ANN, rate, name, reason)


def planner(shop: Shop) -> Planner:
    """Return the planner of the shop."""
    return Planner(shop.queries, shop.operator.redriver, shop.clock)


async def with_letters(shop: Shop, number: int) -> list[DeadLetter]:
    """Start so many orders, each with a dead letter of its first step."""
    for key in range(number):
        await shop.start(f"o-{key}")
    starts = [(await shop.backend.read_model.history("order", f"o-{key}"))[0] for key in range(number)]
    letters = [
        DeadLetter(f"l-{n}", "order", r.partition, r.offset, "stock", "stock.reserve", f"order {n}: broken", 5, r)
        for n, r in enumerate(starts)
    ]
    await shop.backend.dead_letters.add(letters)
    return letters


async def through(shop: Shop, work: Coroutine[Any, Any, T]) -> T:
    """Let time pass until the work is done; return its result."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await shop.clock.advance(0.5)  # type: ignore[attr-defined]
    return await task


async def redriven(shop: Shop) -> Counter[str]:
    """Return how many distinct facts each dead letter's record was redriven by."""
    found: dict[str, str] = {}
    for number in range(4):
        for record in await shop.backend.log.read("order", number, 0, 10_000):
            if record.event.type == facts.REDRIVEN:
                found[record.event.id] = record.event.key
    return Counter(found.values())


async def test_a_dry_run_counts_and_tells_what_would_be_refused(shop: Shop) -> None:
    """It writes nothing; runs that the action does not fit are left out, with the reason."""
    await shop.charged("o-1")
    await shop.completed("o-2")
    await shop.start("o-3")
    draft = await planner(shop).of_runs(wish("cancel"), Filter(), dry=True)
    assert {item.key for item in draft.first} == {"o-1", "o-3"}
    (left,) = draft.reasons
    assert (draft.refused, left.key, "the run has ended: completed" in left.why) == (1, "o-2", True)
    assert await batches_of(shop).list() == []
    one = await planner(shop).of_runs(wish("cancel"), Filter(key="o-3"), dry=True)
    assert [item.key for item in one.first] == ["o-3"]


async def test_a_batch_acts_on_every_item_with_its_author(shop: Shop) -> None:
    """The facts are those of single actions; an item that has ended meanwhile is refused, with the reason."""
    for key in ("o-1", "o-2", "o-3"):
        await shop.charged(key)
    draft = await planner(shop).of_runs(wish("cancel"), Filter(), dry=False)
    await shop.operator.terminate("order", "o-2", reason="meanwhile")
    await shop.track()
    known = batches_of(shop)
    await known.begin(draft.plan)
    progress = await through(shop, known.run(draft.plan.id, asyncio.Event()))
    await shop.track()
    assert (progress.state, progress.done, progress.refused) == (State.DONE, 2, 1)
    assert progress.reasons[0].key == "o-2"
    assert {key: shop.run(key).status for key in ("o-1", "o-2", "o-3")} == {
        "o-1": "compensating",
        "o-2": "terminated",
        "o-3": "compensating",
    }
    audit = await shop.operator.audit("order", 10)
    assert {row.actor for row in audit.items if row.type == facts.CANCEL_REQUESTED} == {"ann"}


async def test_two_clicks_are_one_batch(shop: Shop) -> None:
    """The same token names the same batch; another one another."""
    await with_letters(shop, 2)
    known = batches_of(shop)
    for token in ("t", "t", "u"):
        draft = await planner(shop).of_dead_letters(wish("redrive", name=token), "")
        await known.begin(draft.plan)
        await through(shop, known.run(draft.plan.id, asyncio.Event()))
    assert len(await known.list("order")) == 2
    assert await redriven(shop) == Counter({"o-0": 1, "o-1": 1})


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("part", "call", "number"),
    [
        *(("notes", "swap", number) for number in (1, 2, 3)),
        *(("log", "append", number) for number in (1, 2, 3)),
        *(("dead_letters", "redriven", number) for number in (1, 7, 12)),
    ],
)
async def test_a_crash_anywhere_leaves_each_item_acted_on_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, part: str, call: str, number: int, *, after: bool
) -> None:
    """Another process goes on; the facts of a portion that is published once more have the same ids."""
    monkeypatch.setattr(batch, "PORTION_MAX", 5)
    await with_letters(shop, 12)
    draft = await planner(shop).of_dead_letters(wish("redrive"), "")
    await batches_of(shop).begin(draft.plan)
    real = getattr(shop.backend, part)
    dying = batches_of(shop, "one", **{part: Crashing(real, call, number, after=after)})
    with pytest.raises(CrashedError):
        await through(shop, dying.run(draft.plan.id, asyncio.Event()))
    progress = await through(shop, batches_of(shop, "two").run(draft.plan.id, asyncio.Event()))
    assert (progress.state, progress.done, progress.refused) == (State.DONE, 12, 0)
    assert await redriven(shop) == Counter({f"o-{key}": 1 for key in range(12)})
    assert [letter.redriven for letter in await shop.backend.dead_letters.list("order", 20)] == [1] * 12


async def test_two_processes_that_overlap_act_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that writes goes on; the others leave off. Only the count of redrives may be too high."""
    monkeypatch.setattr(batch, "PORTION_MAX", 3)
    await with_letters(shop, 10)
    draft = await planner(shop).of_dead_letters(wish("redrive"), "")
    await batches_of(shop).begin(draft.plan)
    names = ("one", "two", "three")

    async def overlapping() -> None:
        await asyncio.gather(*(batches_of(shop, name).run(draft.plan.id, asyncio.Event()) for name in names))

    await through(shop, overlapping())
    await through(shop, batches_of(shop, "four").run(draft.plan.id, asyncio.Event()))
    assert await redriven(shop) == Counter({f"o-{key}": 1 for key in range(10)})
    assert all(letter.redriven for letter in await shop.backend.dead_letters.list("order", 20))


async def test_a_batch_that_is_stopped_goes_on_where_it_was(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop lets the portion under way end."""
    monkeypatch.setattr(batch, "PORTION_MAX", 4)
    await with_letters(shop, 12)
    draft = await planner(shop).of_dead_letters(wish("redrive"), "")
    known = batches_of(shop)
    await known.begin(draft.plan)

    async def stop_soon() -> None:
        await known.stop(draft.plan.id)

    tasks: list[asyncio.Task[None]] = []
    working = known.run(draft.plan.id, asyncio.Event(), lambda _: tasks.append(asyncio.create_task(stop_soon())))
    progress = await through(shop, working)
    assert progress.state is State.STOPPED
    assert 0 < progress.done < 12
    assert sum((await redriven(shop)).values()) == progress.done
    assert (await known.get(draft.plan.id)).progress.state is State.STOPPED
    await asyncio.gather(*tasks, return_exceptions=True)
    await known.resume(draft.plan.id)
    assert (await through(shop, known.run(draft.plan.id, asyncio.Event()))).done == 12
    with pytest.raises(ConflictError, match="the batch is done"):
        await known.stop(draft.plan.id)


async def test_the_rate_is_held(shop: Shop) -> None:
    """100 items at 50 a second take two seconds, less the first portion."""
    await with_letters(shop, 100)
    draft = await planner(shop).of_dead_letters(wish("redrive", rate=50), "")
    known = batches_of(shop)
    await known.begin(draft.plan)
    begun_ms = shop.clock.now_ms()
    running = asyncio.create_task(known.run(draft.plan.id, asyncio.Event()))
    while not running.done():
        await shop.clock.advance(0.05)  # type: ignore[attr-defined]
    assert (await running).done == 100
    took_ms = shop.clock.now_ms() - begun_ms
    assert 1_500 <= took_ms <= 2_600, took_ms


async def test_a_process_takes_batches_that_nobody_works_on(shop: Shop) -> None:
    """At once where its process has ended in order, after ten seconds where it has died."""
    await with_letters(shop, 3)
    draft = await planner(shop).of_dead_letters(wish("redrive"), "")
    await batches_of(shop).begin(draft.plan)
    dying = batches_of(shop, "one", log=Crashing(shop.backend.log, "append", 1, after=False))
    with pytest.raises(CrashedError):
        await through(shop, dying.run(draft.plan.id, asyncio.Event()))
    stop, other = asyncio.Event(), batches_of(shop, "two")
    working = asyncio.create_task(other.work(stop))
    await shop.clock.advance(BEAT_MS / 1_000 - 2)  # type: ignore[attr-defined]
    assert (await other.get(draft.plan.id)).progress.done == 0
    while (await other.get(draft.plan.id)).progress.state is not State.DONE:
        await shop.clock.advance(1)  # type: ignore[attr-defined]
    stop.set()
    await working
    assert await redriven(shop) == Counter({"o-0": 1, "o-1": 1, "o-2": 1})


async def test_a_note_that_cannot_be_read_stops_no_other_batch(shop: Shop) -> None:
    """It is named, with a remedy."""
    await with_letters(shop, 2)
    known = batches_of(shop)
    drafts: list[Draft] = [await planner(shop).of_dead_letters(wish("redrive", name=t), "") for t in "ab"]
    for draft in drafts:
        await known.begin(draft.plan)
    name = f"batch/{drafts[1].plan.id}/progress"
    assert await shop.backend.notes.swap(name, "{", await shop.backend.notes.get(name))
    with pytest.raises(StorageError, match="its note cannot be read"):
        await through(shop, known.run(drafts[1].plan.id, asyncio.Event()))
    stop = asyncio.Event()
    working = asyncio.create_task(known.work(stop))
    while (await known.get(drafts[0].plan.id)).progress.state is not State.DONE:
        await shop.clock.advance(1)  # type: ignore[attr-defined]
    stop.set()
    await shop.clock.advance(10)  # type: ignore[attr-defined]
    await working


async def test_groups_hold_letters_of_one_cause(shop: Shop) -> None:
    """Numbers and quoted values in the cause make no group of their own."""
    letters = await with_letters(shop, 3)
    (group,) = await planner(shop).groups("order")
    assert (group.count, group.redriven, group.step, group.cause) == (3, 0, "stock.reserve", "order …: broken")
    await shop.operator.redrive(letters[0].id)
    draft = await planner(shop).of_dead_letters(wish("redrive"), group.id)
    assert {item.id for item in draft.plan.items} == {"l-1", "l-2"}
    with pytest.raises(NotFoundError, match="there is no group"):
        await planner(shop).of_dead_letters(wish("redrive"), "00000000")


@pytest.mark.parametrize(
    "act",
    [
        lambda shop: planner(shop).of_runs(wish("cancel", rate=0.5), Filter(), dry=True),
        lambda shop: planner(shop).of_runs(wish("terminate", reason=" "), Filter(), dry=False),
        lambda shop: batches_of(shop).get("none"),
    ],
    ids=["rate", "reason", "unknown"],
)
async def test_a_wish_that_cannot_be_met_is_refused(shop: Shop, act: Callable[[Shop], Awaitable[object]]) -> None:
    """With a remedy."""
    await shop.start("o-1")
    with pytest.raises((DecodeError, NotFoundError)):
        await act(shop)
