"""The world outside the flow, through the real REST view: customers and the warehouse post to the REST view.

A client that is refused or gets no answer asks again under the same Idempotency-Key, as people's programs do.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import httpx

from services.demo import Demo, Placed
from tests.audit.order import START, WAIT_CLOSES, WAIT_OPENS
from tests.audit.reading import Fact
from tests.chaos.foreign import Foreign

AT_ONCE = 8
"""Customers that wait for an answer at the same time."""
AGAIN_S = 0.2
OPERATOR_S = 3.0
ANSWER_S = 30.0
_ACCEPTED = (200, 201, 202)


class Environment:
    """Places orders, answers shipments, and retries undos that failed, as an operator does."""

    def __init__(self, door: str, demo: Demo, foreign: Foreign) -> None:
        """Start with nothing posted."""
        self.acknowledged: dict[str, str] = {}
        """Id → key of every start that was acknowledged."""
        self.waiting = 0
        """Requests that have no answer yet."""
        self.refused: Counter[str] = Counter()
        """Answers other than an acknowledgement, and missing answers."""
        self.retried: set[str] = set()
        """Undos that had failed and were asked for again by the operator."""
        self._demo = demo
        self._foreign = foreign
        self._client = httpx.AsyncClient(base_url=door, timeout=ANSWER_S)
        self._created: asyncio.Queue[Fact] = asyncio.Queue()
        self._free = asyncio.Semaphore(AT_ONCE)

    def hear(self, fact: Fact) -> None:
        """React to a fact of the log; repeats of foreign programs for a known shipment change nothing."""
        if fact.type == WAIT_OPENS and not fact.is_foreign:
            self._created.put_nowait(fact)

    async def place(self, orders: Iterable[Placed]) -> None:
        """Post these orders, each twice where its customer is impatient; returns when all are acknowledged."""
        async with asyncio.TaskGroup() as group:
            for order in orders:
                group.create_task(self._place(order))

    async def answer(self) -> None:
        """Act as the warehouse, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._answer(await self._created.get()))

    async def operate(self) -> None:
        """Act as the operator, until cancelled: retry the failed compensations of each stuck run."""
        while True:
            with suppress(httpx.HTTPError):
                listed = await self._client.get("/flows/order/instances", params={"status": "stuck", "limit": 200})
                for row in listed.json()["items"] if listed.status_code in _ACCEPTED else ():
                    await self._retry(f"/flows/order/instances/{row['key']}", row["run"])
            await _pause(OPERATOR_S)

    async def _retry(self, path: str, run: str) -> None:
        seen = await self._client.get(path, params={"run": run})
        for effect in seen.json()["ledger"] if seen.status_code in _ACCEPTED else ():
            again = f"{path}/compensations/{effect['entry']}/retry"
            if effect["state"] == "failed":
                answer = await self._client.post(again, params={"run": run}, json={"reason": "it was away"})
                if answer.status_code in _ACCEPTED:
                    self.retried.add(f"{effect['entry']}/{effect['round']}")

    async def view(self, key: str, run: str) -> str:
        """Return what the REST view shows of a run, or why it shows nothing."""
        try:
            return (await self._client.get(f"/flows/order/instances/{key}", params={"run": run})).text
        except httpx.HTTPError as error:
            return repr(error)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _place(self, order: Placed) -> None:
        fields = order.event.model_dump(mode="json")
        async with self._free:
            for attempt in ("", "again")[: 1 + order.kind.started_twice]:
                receipt = await self._publish(START, fields, attempt)
                self.acknowledged[receipt["id"]] = receipt["key"]

    async def _answer(self, created: Fact) -> None:
        """Answer as a warehouse; a tenth of them do not use the REST view: they write into the log themselves."""
        key, number = created.key, int(created.key.removeprefix("o-"))
        answer = self._demo.answer(key)
        if isinstance(answer, bytes):
            await self._foreign.poison_pick(key)
        elif answer is not None and number % 20 in (3, 7):
            await self._foreign.pick(created, astray=number % 20 == 7)
        elif answer is not None:
            async with self._free:
                await self._publish(WAIT_CLOSES, answer.model_dump(mode="json"), created.id)

    async def _publish(self, type_: str, fields: dict[str, Any], idempotency_key: str) -> Any:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return await self._post("/flows/order/events?allow_early=true", {"type": type_, "fields": fields}, headers)

    async def _post(self, path: str, body: Any, headers: Any) -> Any:
        """Post until it is acknowledged."""
        self.waiting += 1
        try:
            while True:
                try:
                    answer = await self._client.post(path, json=body, headers=headers)
                except httpx.TransportError as error:
                    self.refused[type(error).__name__] += 1
                else:
                    if answer.status_code in _ACCEPTED:
                        return answer.json()
                    self.refused[f"{answer.status_code}"] += 1
                    assert answer.status_code >= 500, answer.text
                await _pause(AGAIN_S)
        finally:
            self.waiting -= 1


async def _pause(seconds: float) -> None:
    """Wait as a person does before the next request."""
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)
