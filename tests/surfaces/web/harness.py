"""The page for tests in a real browser: a project on the embedded backend behind a server of this machine.

`Site` is the running project, `Watched` a browser page whose every fault is kept: an error in the console, an exception
of a script, a violation of the content security policy. A test fails on a fault that it did not expect.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from choreo.adapters.access.api_keys import ApiKeys
from choreo.core.events import Envelope
from choreo.ports.dead_letters import DeadLetter
from choreo.settings import Settings
from choreo.surfaces.rest.access_control import AccessControl
from choreo.surfaces.rest.server import use_cases_of
from choreo.surfaces.web import create_site
from choreo.surfaces.web.app import create_pages
from choreo.surfaces.web.changes import Changes
from choreo.wiring import App
from tests.core.shop import Picked
from tests.support.page_shop import Ordered
from tests.support.patience import PATIENCE_S
from tests.support.running import running, until
from tests.support.serving import served

STATES = {
    "open-1": "running",
    "declined-1": "compensated",
    "stuck-1": "stuck",
    "retry-1": "running",
    "done-1": "completed",
}
"""Runs of a played site by key, with their statuses."""

LETTER = "00000000-0000-4000-8000-000000000001"
"""The dead letter of a played site that can be redriven."""
PAGES = [
    "/flows",
    "/flows/order",
    "/flows/order/instances",
    "/flows/order/publish",
    *(f"/flows/order/instances/{key}{page}" for key in STATES for page in ("", "/graph", "/timeline")),
    "/flows/order/instances/stuck-1?at=2100-01-01T00:00:00Z",
    "/flows/order/instances/stuck-1/changes",
    "/flows/order/instances/stuck-1/history",
    "/flows/order/instances/open-1/preview/cancel",
    "/flows/order/instances/stuck-1/preview/undo-retry?entry=stock.reserve",
    "/flows/order/batches",
    "/flows/order/batches?action=pause&status=running&rate=10",
    "/flows/order/timers",
    "/flows/order/groups/payment/partitions/0/runs",
    "/stalled",
    "/groups",
    "/events",
    "/dead-letters",
    f"/dead-letters/{LETTER}",
    "/audit",
    "/nothing",
]
"""Every kind of page of a played site; a new one belongs here."""
TIMEOUT_MS = 30_000
"""Bound of each step of the browser."""


@dataclass
class Site:
    """A running project with its page."""

    app: App
    port: int
    changes: Changes
    """The watcher of changes of its server."""

    @property
    def url(self) -> str:
        """Return the address of the page."""
        return f"http://127.0.0.1:{self.port}/ui"

    @asynccontextmanager
    async def served(self, keys: Path) -> AsyncIterator[str]:
        """Serve the same project once more, with access control by this file of keys; yields the address."""
        access = AccessControl([ApiKeys(keys, self.app.clock)], self.app.clock)
        async with served(create_site(replace(use_cases_of(self.app), access=access))) as port:
            yield f"http://127.0.0.1:{port}"

    def run(self, key: str, *more: str) -> str:
        """Return the address of a run's page; the key is encoded already."""
        return "/".join((self.url, "flows/order/instances", key, *more))

    async def start(self, key: str, **fields: Any) -> str:
        """Start an order; return its run."""
        receipt = await self.app.publisher.publish("order", Ordered(order_id=key, **fields))
        await self.app.queries.reached(receipt.position, PATIENCE_S)
        return receipt.run

    async def seen(self, key: str, type_: str) -> None:
        """Wait until the run shows an event of this type."""
        async for row in self.app.queries.follow("order", key):
            if row is not None and row.type == type_:
                return

    async def poison(self, key: str) -> None:
        """Put a start into the log that no class can decode, and wait until it is set aside."""
        known = await self.app.queries.dead_letter_count("order")
        event = Envelope(f"poison-{key}", "Ordered", key, "order", content_type="application/json", data=b"{broken")
        await self.app.backend.log.append("order", [event])

        async def is_set_aside() -> bool:
            return await self.app.queries.dead_letter_count("order") > known

        await until(self.app, is_set_aside)

    async def set_aside(self, key: str, letter: str) -> None:
        """Keep a dead letter of the charge of an order that has not ended, as a host does."""
        records = await self.app.backend.read_model.history("order", key)
        record = next(record for record in records if record.event.type == "Reserved")
        now_ms = self.app.clock.now_ms()
        cause = "field order_id: 17 is no text"
        one = DeadLetter(
            letter, "order", record.partition, record.offset, "payment", "payment.charge", cause, now_ms, record
        )
        await self.app.backend.dead_letters.add([one])

    async def play(self) -> None:
        """Bring about a run in each of the states."""
        for key in STATES:
            await self.start(key, note=f"note of {key}")
        await self.seen("open-1", "Charged")
        await self.seen("retry-1", "choreo.StepAttemptFailed")
        await self.seen("stuck-1", "choreo.FlowStuck")
        await self.seen("declined-1", "choreo.FlowCompensated")
        await self.seen("done-1", "Charged")
        await self.app.publisher.publish("order", Picked(order_id="done-1"))
        await self.seen("done-1", "choreo.FlowCompleted")
        await self.poison("poison-1")
        await self.set_aside("open-1", LETTER)


def settings_in(folder: Path) -> Settings:
    """Return the settings of the project with its log in this folder."""
    flows = ("tests.support.page_shop:order",)
    return Settings(flows=flows, database=folder / "page.db", topics=folder / "none", port=0)


@asynccontextmanager
async def site_in(folder: Path, without: Collection[str] = ()) -> AsyncIterator[Site]:
    """Run the project, but for the roles named, and its page."""
    async with running(settings_in(folder), without=without) as app:
        use_cases = use_cases_of(app)
        pages = create_pages(use_cases)
        async with served(create_site(use_cases, pages)) as port:
            yield Site(app, port, pages.state.changes)


@dataclass
class Watched:
    """A page of the browser, with its faults."""

    page: Any
    faults: list[str] = field(default_factory=list)
    _expected: list[str] = field(default_factory=list)

    async def shows(self, selector: str, pattern: str) -> None:
        """Wait until the element's text matches; the policy forbids waits that evaluate a text as a script."""
        from playwright.async_api import expect

        await expect(self.page.locator(selector)).to_have_text(re.compile(pattern), timeout=TIMEOUT_MS)

    async def follow(self, link: Any) -> None:
        """Click on a link, or on the button of a form that leads to a page; wait until that page is whole."""
        async with self.page.expect_navigation():
            await link.click()

    async def send_without_a_reason(self, button: str) -> None:
        """Press the first button of this text though the browser requires a reason, before a refresh comes between."""
        await self.page.get_by_role("button", name=button, exact=True).first.evaluate(
            "button => { button.form.noValidate = true; button.click(); }"
        )

    def expect(self, pattern: str) -> None:
        """Expect faults that match this pattern; at least one has to come."""
        self._expected.append(pattern)

    def check(self) -> None:
        """Fail on each fault that was not expected, and on each expected one that did not come; begin anew."""
        unexpected = [fault for fault in self.faults if not any(re.search(each, fault) for each in self._expected)]
        missing = [each for each in self._expected if not any(re.search(each, fault) for fault in self.faults)]
        self.faults.clear()
        self._expected.clear()
        assert not unexpected, "\n".join(unexpected)
        assert not missing, f"expected faults that did not come: {missing}"


_TELL_VIOLATIONS = """document.addEventListener('securitypolicyviolation', violation =>
    console.error(`policy violated: ${violation.violatedDirective} ${violation.blockedURI} ${violation.sample}`))"""


@asynccontextmanager
async def watched(browser: Any, **options: Any) -> AsyncIterator[Watched]:
    """Open a page in a context of its own, with these options of Playwright; check its faults at the end."""
    context = await browser.new_context(**options)
    try:
        await context.add_init_script(_TELL_VIOLATIONS)
        own = Watched(await context.new_page())
        own.page.set_default_timeout(TIMEOUT_MS)
        own.page.on("console", lambda said: own.faults.append(said.text) if said.type == "error" else None)
        own.page.on("pageerror", lambda error: own.faults.append(f"exception: {error}"))
        yield own
        own.check()
    finally:
        await context.close()
