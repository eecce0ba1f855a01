"""A flow with handlers that use the App: an async one starts another run and reads, and so does a plain one."""

from __future__ import annotations

import asyncio

from choreo import Event, Flow, Service, StepContext
from choreo.core.errors import ConflictError
from choreo.settings import Settings
from choreo.wiring import App
from tests.support.running import ended, importable, running

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
    """The flow, the App it runs in, and its handlers' answers."""

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
        importable("asking_project", flow=self.flow)

    async def play(self, settings: Settings, *, memory: bool = False) -> list[str]:
        """Run it all until the last of the runs has ended; returns the handlers' answers."""
        async with running(settings, memory=memory) as app:
            self.app = app
            for key in ("async", "plain", "last"):
                # The same start as a handler's, or the first: a repeated one is published once.
                receipt = await app.publisher.publish(FLOW, Asked(key=key))
                await ended(app, receipt.position, key, FLOW)
        return sorted(self.seen)

    async def _use(self, key: str, *, starts: str) -> None:
        """Call all that a handler may use: read, follow, publish, and be refused."""
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


FOUND = sorted(["plain", "async Asked", "ConflictError", "last", "plain Asked", "ConflictError"])
"""By the async handler and by the plain one."""
