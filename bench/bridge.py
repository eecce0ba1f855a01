"""The speed of the bridge: `python -m bench.bridge [--json] [--events N]`. Events go from one log to another.

`copied_events_s`: the same event, its bytes as they are. `made_events_s`: decoded, made anew by a function, encoded.
The baseline beside them, `raw_events_s`, reads the same records and appends them to the other log. All on SQLite.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from bench.figures import medians, rounded, say
from choreo import Event, Flow, Service, StepContext
from choreo.app.bridge import rules
from choreo.core.events import Envelope
from choreo.hosts.bridge import POLL_SIZE, BridgeHost
from choreo.settings import load
from choreo.wiring import App, open_app

EVENTS, ROUNDS, PARTITIONS = 10_000, 3, 4


class Done(Event):
    """The end of the one flow and the start of the other."""

    key: str
    cents: int = 0


class Asked(Event):
    """The start of the one flow."""

    key: str


service = Service("work")


@service.step(on=Asked, emits=Done, effect=False)
def work(event: Asked, ctx: StepContext) -> Done:  # noqa: ARG001 - a handler
    """Work."""
    return Done(key=event.key)


@service.step(on=Done, emits=Asked, effect=False)
def ask(event: Done, ctx: StepContext) -> Asked:  # noqa: ARG001 - a handler
    """Ask."""
    return Asked(key=event.key)


def made(event: Done) -> Done:
    """Return another event."""
    return Done(key=event.key, cents=event.cents + 1)


first = Flow("first", key="key", starts=Asked, completes=Done, services=[service.only(work)])
copied = Flow("copied", key="key", starts=Done, completes=Asked, services=[service.only(ask)])
made_anew = Flow("made_anew", key="key", starts=Done, completes=Asked, services=[service.only(ask)])
first.carries(Done, to=copied)
first.carries(Done, to=made_anew, makes=made)
NAMES = ("first", "copied", "made_anew")


async def fill(app: App, events: int) -> None:
    """Write the events of the first flow."""
    data, kind = app.codec.encode(Done(key="k", cents=5)), app.codec.content_type
    made = [
        Envelope(f"e-{number}", "Done", f"k-{number}", "first", content_type=kind, data=data)
        for number in range(events)
    ]
    for begin in range(0, events, POLL_SIZE):
        await app.backend.log.append("first", made[begin : begin + POLL_SIZE])


async def carried(app: App, to: str) -> float:
    """Return how long a bridge needs for everything."""
    chosen = [
        rule for rule in rules(app.flows, app.definitions, app.codec)["first"] if rule.name == f"bridge.{to}.Done"
    ]
    host = BridgeHost("first", chosen, app.backend.log, app.clock, name=to, metrics=app.metrics)
    began_s = time.perf_counter()
    running = asyncio.create_task(host.run())
    while await _behind(app):  # noqa: ASYNC110 - another process would see no more
        await asyncio.sleep(0.005)
    took_s = time.perf_counter() - began_s
    await host.stop()
    await running
    return took_s


async def _behind(app: App) -> bool:
    committed = await app.backend.log.committed("first", "bridge")
    return any([await app.backend.log.end("first", number) > offset for number, offset in committed.items()])


async def raw(app: App) -> float:
    """Return how long it takes to read and append the records, with nothing between."""
    began_s = time.perf_counter()
    for partition in range(PARTITIONS):
        offset = 0
        while records := await app.backend.log.read("first", partition, offset, POLL_SIZE):
            await app.backend.log.append("copied", [record.event for record in records])
            offset = records[-1].offset + 1
    return time.perf_counter() - began_s


async def once(events: int) -> dict[str, float]:
    """Return the events a second of each way, each on a file of its own."""
    found = {}
    for name in ("raw", "copied", "made_anew"):
        with tempfile.TemporaryDirectory() as folder:
            settings = load(
                flows=tuple(f"bench.bridge:{flow}" for flow in NAMES),
                database=Path(folder) / "bench.db",
                topics=Path(folder) / "none",
                partitions=PARTITIONS,
            )
            async with open_app(settings) as app:
                await fill(app, events)
                took_s = await raw(app) if name == "raw" else await carried(app, name)
        found[name] = events / took_s
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    rounds = [asyncio.run(once(arguments.events)) for _ in range(arguments.rounds)]
    middle = medians(rounds)
    figures = {
        "raw_events_s": middle["raw"],
        "copied_events_s": middle["copied"],
        "made_events_s": middle["made_anew"],
        "made_over_raw": rounded(middle["made_anew"] / middle["raw"]),
    }
    say(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
