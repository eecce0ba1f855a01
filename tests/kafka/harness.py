"""Shared by the tests of consumers: the partition assignment as processes report it, and the records of the log."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from choreo import Event
from choreo.core.events import Record
from choreo.core.partition import partition_of
from choreo.wiring import App
from schemas.orders import Item, OrderPlaced
from services.gateways.warehouse import Warehouse
from tests.support.fleet import Fleet, Worker
from tests.support.patience import PATIENCE_S

FLOW = "order"
PARTITIONS = 8
LOOK_S = 0.05
_MOVES = re.compile(r"(owns|assigned|revoked|lost) partitions \[([\d, ]*)\]")
_PAGE = 1_000


class Harness:
    """One installation on the shared servers."""

    def __init__(self, app: App, fleet: Fleet, books: Path) -> None:
        """Put stock for every order on the books; no process runs yet."""
        self.app = app
        self.fleet = fleet
        self.books = books
        self._read: dict[int, int] = {}
        self._records: list[Record] = []
        Warehouse().stock_up("tea", 100_000)

    async def place(self, key: str, **fields: Any) -> None:
        """Publish an order."""
        given = {"customer_id": "ada", "amount": Decimal(10), "items": [Item(sku="tea", quantity=1)], "card": "visa"}
        await self.publish(OrderPlaced(order_id=key, **given | fields))

    async def publish(self, event: Event) -> None:
        """Publish an event, also one that is a step's to make."""
        await self.app.publisher.publish(FLOW, event, force=True)

    async def log(self) -> list[Record]:
        """Return everything in the log, each partition in order."""
        for partition in range(PARTITIONS):
            while page := await self.app.backend.log.read(FLOW, partition, self._read.get(partition, 0), _PAGE):
                self._records += page
                self._read[partition] = page[-1].offset + 1
        return self._records

    async def keys(self, type_: str) -> list[str]:
        """Return the key of each event of this type that stands in the log, without duplicates."""
        return list(
            {record.event.id: record.event.key for record in await self.log() if record.event.type == type_}.values()
        )

    async def published(self, type_: str, keys: Iterable[str]) -> bool:
        """Return whether an event of this type stands in the log for each of these keys."""
        return set(keys) <= set(await self.keys(type_))

    async def stop(self, worker: Worker) -> None:
        """Ask this process to drain, and see it end in order."""
        worker.process.terminate()
        code = await asyncio.to_thread(worker.process.wait, PATIENCE_S)
        assert code == 0, f"{worker.role} ended with {code}: {worker.last_words}"
        self.fleet.workers.remove(worker)

    async def until(self, true: Callable[[], Awaitable[object]], what: str, patience_s: float = PATIENCE_S) -> float:
        """Wait for a fact, and return how long it took; a missing fact, or a process that ends, is a failure."""
        never = asyncio.Event()
        began_s = time.monotonic()
        while not await true():
            assert not self.fleet.died(), "\n".join(self.fleet.died())
            assert time.monotonic() < began_s + patience_s, f"waited {patience_s:.0f} s in vain: {what}"
            with suppress(TimeoutError):
                await asyncio.wait_for(never.wait(), LOOK_S)
        return time.monotonic() - began_s


def owned(worker: Worker) -> set[int]:
    """Return the partitions that the process has, by its own log lines."""
    have: set[int] = set()
    for published, numbers in _MOVES.findall(worker.output.read_text()):
        parts = {int(number) for number in numbers.split(",") if number}
        if published == "owns":  # a tracker says all of them each time
            have = parts
        elif published == "assigned":
            have |= parts
        else:
            have -= parts
    return have


def moves(worker: Worker) -> int:
    """Return how often partitions of the process were assigned or revoked; a rebalance may do neither."""
    return sum(bool(numbers) for _, numbers in _MOVES.findall(worker.output.read_text()))


async def shared(*workers: Worker) -> bool:
    """Return whether these processes have all partitions between them, each a fair share."""
    shares = [owned(worker) for worker in workers]
    sizes = [len(share) for share in shares]
    return sum(sizes) == PARTITIONS == len(set().union(*shares)) and max(sizes) - min(sizes) <= 1


def keys_in(partitions: Iterable[int], number: int, name: str) -> list[str]:
    """Return so many keys in each of these partitions."""
    wanted = dict.fromkeys(partitions, number)
    keys, count = [], 0
    while any(wanted.values()):
        count += 1
        key = f"{name}-{count}"
        if wanted.get(partition_of(key, PARTITIONS)):
            wanted[partition_of(key, PARTITIONS)] -= 1
            keys.append(key)
    return keys


async def declined(harness: Harness, name: str) -> set[bool]:
    """Place an order with a declined card in each partition; return whether the failures are certain."""
    keys = keys_in(range(PARTITIONS), 1, name)
    for key in keys:
        await harness.place(key, card="declined")
    await harness.until(lambda: harness.published("PaymentDeclined", keys), "all cards are declined")
    return {r.event.certain for r in await harness.log() if r.event.type == "PaymentDeclined" and r.event.key in keys}
