"""A producer that knows nothing of choreo: it repeats records, byte for byte or as bare JSON, and writes garbage."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import KafkaError, Message, Producer

from tests.audit.order import FAILURES, START, SUCCESSES, WAIT_CLOSES
from tests.audit.reading import Fact
from tests.chaos.observer import Observer

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
SINGLE_OBJECT_HEAD = 10
"""C3 01 and eight bytes of fingerprint stand before an Avro body."""
OUTCOMES = (*SUCCESSES, *FAILURES)
"""The types that are duplicated as bare events, besides picks."""

Place = tuple[int, int]


class Foreign:
    """Counts records that the broker has acknowledged: a refused one did not hit."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, chance: random.Random) -> None:
        """Make a plain producer with Java's rule for partitions."""
        self.done: Counter[str] = Counter()
        self.poisoned: set[Place] = set()
        """Where garbage stands."""
        self._topic = topic
        self._partitions = partitions
        self._chance = chance
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "log_level": 0, "acks": "all"}
        )

    async def duplicates(self, observer: Observer, number: int) -> None:
        """Publish so many recent records again, byte for byte, and two thirds as many as bare JSON."""
        sound = [pair for pair in observer.recent if (pair[1].partition, pair[1].offset) not in self.poisoned]
        for message, _ in self._chance.sample(sound, min(number, len(sound))):
            headers: Any = message.headers()
            await self._send(
                "said again, byte for byte",
                key=message.key(),
                value=message.value(),
                headers=headers,
                partition=message.partition(),
            )
        bare = [fact for _, fact in sound if _may_be_said_bare(fact, observer)]
        for what, types in (("outcomes", OUTCOMES), ("picks", (WAIT_CLOSES,))):
            some = [fact for fact in bare if fact.type in types]
            for fact in self._chance.sample(some, min(number // 3, len(some))):
                await self._say_bare(f"{what} said again as key, type and JSON", fact.key, fact.type, _json_of(fact))

    async def pick(self, created: Fact, *, astray: bool) -> None:
        """Publish a shipment's pick as a foreign program would; `astray`: in a partition that is not its key's."""
        value = json.dumps({"order_id": created.key, "picked_by": "a stranger"}).encode()
        what = "picked in a wrong partition" if astray else "picked by key, type and JSON"
        partition = (created.partition + 1) % self._partitions if astray else -1
        await self._say_bare(what, created.key, WAIT_CLOSES, value, partition)

    async def poison(self) -> None:
        """Publish records that no step or tracker can handle: no key, a type no flow has, a type that is no text."""
        for key, type_ in ((None, START.encode()), (b"o-0001", b"Nonsense"), (b"o-0002", b"\xff\xfe")):
            await self._poison("garbage", key, type_, b"{}")

    async def poison_pick(self, key: str) -> None:
        """Publish a pick that nobody can read."""
        await self._poison("picks that cannot be read", key.encode(), WAIT_CLOSES.encode(), b"\x00 not an event")

    async def _poison(self, what: str, key: bytes | None, type_: bytes, value: bytes) -> None:
        headers = {"ce_type": type_, "content-type": b"application/avro"}
        partition = 0 if key is None else -1
        self.poisoned.add(await self._send(what, key=key, value=value, headers=headers, partition=partition))

    async def _say_bare(self, what: str, key: str, type_: str, value: bytes, partition: int = -1) -> None:
        await self._send(what, key=key.encode(), value=value, headers={"ce_type": type_.encode()}, partition=partition)

    async def _send(self, what: str, **message: Any) -> Place:
        """Produce until the broker has it."""
        while True:
            answer: asyncio.Future[Place | None] = asyncio.get_running_loop().create_future()
            loop = asyncio.get_running_loop()

            def told(error: KafkaError | None, sent: Message, answer: Any = answer, loop: Any = loop) -> None:
                place = None if error else (sent.partition(), sent.offset())
                loop.call_soon_threadsafe(answer.set_result, place)

            self._producer.produce(self._topic, on_delivery=told, **message)
            await asyncio.to_thread(self._producer.flush)
            place = await answer
            if place is not None:
                self.done[what] += 1
                return place


def _may_be_said_bare(fact: Fact, observer: Observer) -> bool:
    """Return whether a duplicate without id and run is correct: it counts as one of the key's oldest open run.

    For a run that has ended it has no effect; for a key with two runs it could count for the other one.
    """
    its_own = fact.run in observer.open_runs and observer.starts[fact.key] == 1
    return not fact.is_foreign and (fact.type == WAIT_CLOSES or (fact.type in OUTCOMES and its_own))


def _json_of(fact: Fact) -> bytes:
    """Return the fields of a record that was written in Avro's single-object encoding."""
    if fact.data.startswith(b"{"):
        return fact.data
    schema = json.loads((SCHEMAS / f"{fact.type}.1.avsc").read_text())
    fields = fastavro.schemaless_reader(BytesIO(fact.data[SINGLE_OBJECT_HEAD:]), schema, None)
    return json.dumps(fields, default=str).encode()
