"""Measure child flows: `python -m bench.children [--json] [--children N] [--window N]`.

One parent on the embedded log starts so many children, each of two steps, and joins them. Figures: children a second
from the parent's start to its end, the memory of the process, and the bytes of the parent's state at its end.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from bench.figures import rounded, say
from choreo import Event, Flow, Service, StepContext
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import KeyState, encode
from choreo.settings import load
from choreo.wiring import App, everything, open_app, run

CHILDREN, WINDOW = 10_000, 50
PARENT = "batch-1"
FLOWS = ("bench.children:batch", "bench.children:item")


class ItemGiven(Event):
    """An item is to be done."""

    item_id: str


class ItemBegun(Event):
    """The item is under way."""

    item_id: str


class ItemDone(Event):
    """The item is done."""

    item_id: str


class BatchGiven(Event):
    """Many items are to be done."""

    batch_id: str
    items: int


class BatchDone(Event):
    """All items are done."""

    batch_id: str
    completed: int


work, split = Service("work"), Service("split")


@work.step(on=ItemGiven, emits=ItemBegun, effect=False)
async def begin(event: ItemGiven, _ctx: StepContext) -> ItemBegun:
    """Begin it."""
    return ItemBegun(item_id=event.item_id)


@work.step(on=ItemBegun, emits=ItemDone, effect=False)
async def do(event: ItemBegun, _ctx: StepContext) -> ItemDone:
    """Do it."""
    return ItemDone(item_id=event.item_id)


item = Flow("item", key="item_id", starts=ItemGiven, completes=ItemDone, services=[work], deadline="1d")


def declare(window: int) -> Flow:
    """Declare the parent with this window."""
    split.steps.clear()

    @split.children(on=BatchGiven, flow=item, emits=BatchDone, window=window, deadline="1d")
    def each(event: BatchGiven, _ctx: StepContext) -> Iterable[ItemGiven]:
        """Yield an item for each number."""
        return [ItemGiven(item_id=f"item-{number}") for number in range(event.items)]

    return Flow("batch", key="batch_id", starts=BatchGiven, completes=BatchDone, services=[split], deadline="7d")


batch = declare(WINDOW)


async def measure(children: int) -> dict[str, float]:
    """Return the figures of one parent with so many children."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load(flows=FLOWS, database=Path(folder) / "c.db", topics=Path(folder) / "none", partitions=2)
        async with open_app(settings) as app:
            await app.backend.create_topics()
            stop = asyncio.Event()
            roles = asyncio.create_task(run(app, everything(app, rest=False), stop))
            try:
                return await _one(app, children)
            finally:
                stop.set()
                await roles


async def _one(app: App, children: int) -> dict[str, float]:
    began_s = time.monotonic()
    receipt = await app.publisher.publish("batch", BatchGiven(batch_id=PARENT, items=children))
    await app.queries.reached(receipt.position, 60)
    async for _ in app.queries.follow("batch", PARENT):
        pass
    took_s = time.monotonic() - began_s
    view = await app.queries.instance("batch", PARENT)
    if view.row.status != "completed":
        raise SystemExit(f"the parent is {view.row.status}: {view.row.cause}")
    return {
        "children_s": rounded(children / took_s),
        "took_s": rounded(took_s),
        "memory_mb": rounded(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "state_bytes": float(await _state_bytes(app, receipt.position.partition)),
    }


async def _state_bytes(app: App, partition: int) -> int:
    """Return the size of the parent's state, folded from the log."""
    table, state, offset = FlowTable(app.definitions["batch"]), KeyState(), 0
    while records := await app.backend.log.read("batch", partition, offset, 1_000):
        for record in records:
            state, _ = react(table, state, record)
        offset = records[-1].offset + 1
    return len(encode(state))


def main(arguments: list[str]) -> None:
    """Print the figures."""
    global batch  # noqa: PLW0603 - the settings name it
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--children", type=int, default=CHILDREN)
    parser.add_argument("--window", type=int, default=WINDOW)
    chosen = parser.parse_args(arguments)
    sys.modules["bench.children"] = sys.modules[__name__]
    batch = declare(chosen.window)
    say(asyncio.run(measure(chosen.children)), as_json=chosen.json)


if __name__ == "__main__":
    main(sys.argv[1:])
