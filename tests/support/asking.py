"""A flow whose handlers use the App: an async one starts another run and reads, and so does a plain one."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType

from choreo import Event, Flow, Service, StepContext
from choreo.core.errors import ConflictError
from choreo.settings import Settings
from choreo.wiring import App, everything, open_app, run

FLOW = "asking"


class Asked(Event):
    """A question came in."""

    key: str


class Passed(Event):
    """It was passed on."""

    key: str


class Told(Event):
    """The answer is known."""

    key: str


class Asking:
    """The flow, the App it runs in, and what its handlers found."""

    def __init__(self) -> None:
        self.app: App | None = None
        self.seen: list[str] = []
        service = Service("desk")

        @service.step(on=Asked, emits=Passed, effect=False)
        async def pass_on(event: Asked, ctx: StepContext) -> Passed:
            if event.key == "async":
                await self._use(event.key, starts="plain")
            return Passed(key=event.key)

        @service.step(on=Passed, emits=Told, effect=False)
        def tell(event: Passed, ctx: StepContext) -> Told:
            if event.key == "plain":
                asyncio.run(self._use(event.key, starts="last"))
            return Told(key=event.key)

        self.flow = Flow(FLOW, key="key", starts=Asked, completes=Told, services=[service], deadline="1h")
        module = sys.modules.setdefault("asking_project", ModuleType("asking_project"))
        module.flow = self.flow  # type: ignore[attr-defined]

    async def play(self, settings: Settings, *, memory: bool = False) -> list[str]:
        """Run it all until the last of the runs has ended; returns what the handlers found."""
        async with open_app(settings, memory=memory) as app:
            self.app, stop = app, asyncio.Event()
            if app.kafka is not None:
                await app.kafka.make_topics()
            parts = asyncio.create_task(run(app, everything(app, rest=False), stop))
            try:
                receipt = await app.publisher.publish(FLOW, Asked(key="async"))
                await self._ended(app, receipt.key)
                await self._ended(app, "plain")
                await self._ended(app, "last")
            finally:
                stop.set()
                await parts
        return sorted(self.seen)

    async def _use(self, key: str, *, starts: str) -> None:
        """What a handler may do: read, follow, publish, and be refused."""
        assert self.app is not None
        receipt = await self.app.publisher.publish(FLOW, Asked(key=starts))
        await self.app.queries.reached(receipt.position, 30)
        self.seen.append((await self.app.queries.instance(FLOW, starts)).row.key)
        async for row in self.app.queries.follow(FLOW, key):
            if row is not None:
                self.seen.append(f"{key} {row.type}")
                break
        try:
            await self.app.publisher.publish(FLOW, Told(key=key))
        except ConflictError as error:
            self.seen.append(type(error).__name__)

    async def _ended(self, app: App, key: str) -> None:
        """Return when the key's run has ended; it may begin a moment later."""
        position = (await app.publisher.publish(FLOW, Asked(key=key))).position  # the same start, or the first
        await app.queries.reached(position, 30)
        async for _ in app.queries.follow(FLOW, key):
            pass


FOUND = sorted(["plain", "async Asked", "ConflictError", "last", "plain Asked", "ConflictError"])
"""By the async handler and by the plain one."""
