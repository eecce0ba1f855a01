"""The client of a round: `python -m bench.flight_watch FOLDER SYNCHRONOUS ORDERS` sees when orders can be read.

A process of its own with connections of its own, so that looking costs what is measured nothing: it looks for what is
committed, whether flushed or not, and reads an order's end once more as a client would be shown it. Says "ready", then
in one line for each order the moments (monotonic clock, seconds) at which its confirmation stood in the log, 0 if it
has none, and at which the read model showed it ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from bench.flight import ENDED, FLOW, settings_of, slow_key
from bench.saga import OrderConfirmed
from choreo.wiring import App, open_app

LOOK_S = 0.0005
"""Between two looks: half a millisecond more than the truth at the most."""


class _Order:
    """How far an order was seen."""

    def __init__(self, number: int) -> None:
        self.key = slow_key(number)
        self.after = -1
        self.confirmed_s = 0.0
        self.ended_s = 0.0

    async def look(self, app: App, client: App) -> bool:
        """Whether it stands in the read model at all."""
        view = await app.backend.read_model.instance(FLOW, self.key)
        if view is None:
            return False
        now_s = time.monotonic()
        if not self.confirmed_s:
            for record in await app.backend.read_model.history(FLOW, self.key, self.after):
                self.after = record.offset
                if record.event.type == OrderConfirmed.event_type:
                    self.confirmed_s = now_s
        if view.status in ENDED:
            await client.backend.read_model.instance(FLOW, self.key)
            self.ended_s = time.monotonic()
        return True


async def watch(folder: Path, synchronous: str, orders: int) -> list[tuple[float, float]]:
    """The moments of each order, in their order; they are placed one after the other."""
    coming = [_Order(number) for number in range(orders)]
    seen: list[_Order] = []
    async with (
        open_app(settings_of(folder, "NORMAL")) as app,
        open_app(settings_of(folder, synchronous)) as client,
    ):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while coming or any(not order.ended_s for order in seen):
            if coming and await coming[0].look(app, client):
                seen.append(coming.pop(0))
            for order in seen:
                if not order.ended_s:
                    await order.look(app, client)
            await asyncio.sleep(LOOK_S)
    return [(order.confirmed_s, order.ended_s) for order in seen]


if __name__ == "__main__":
    moments = asyncio.run(watch(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
    sys.stdout.write(json.dumps(moments) + "\n")
