"""A member of a consumer group: polls that never wait for the broker's threads, and the commit in its order.

One fetch is always under way, so that the group hears of this member while its host works. Where a partition that was
given begins and ends is asked of the cluster before anything of it is brought; and what the group's last commit said of
its memory is compared with it, so that one which has forgotten is not taken for new.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, Message

from choreo.adapters.kafka.backpressure import Backpressure
from choreo.adapters.kafka.basket import Basket
from choreo.adapters.kafka.crowd import Crowd
from choreo.adapters.kafka.lookups import Lookups
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.positions import Positions
from choreo.adapters.kafka.standstill import Standstill
from choreo.adapters.kafka.static_member import StaticMember
from choreo.adapters.kafka.subscription import Job, Subscription
from choreo.adapters.kafka.trouble import (
    MEMBERSHIP_GONE,
    PARTITION_END,
    REFUSED,
    complaint,
    for_good,
)
from choreo.adapters.kafka.witness import Witness
from choreo.adapters.kafka.writing import Writing
from choreo.adapters.membership import Ticket
from choreo.adapters.refusals import lease_lost
from choreo.core.errors import LeaseLostError, NotFoundError, ReplacedLogError, StorageError
from choreo.ports.log import Gained, Poll, Work

FETCH_S = 0.2
"""The longest a fetch waits, and leaving the group for it."""
LEAVE_S = 2.0
"""How long leaving waits for it on a machine that is busy: ten times as long."""
GRAIN_S = 0.002
"""The least a poll waits for a fetch under way: who polls without patience must not spin."""
AHEAD = 2_000
"""Messages kept here, four polls of a step host: a fetch brings what is missing to it."""

FRESH_S = 0.01
"""How long a fetch of what lies there already may take."""
LOOK_AGAIN_S = 0.5
"""Between looks at where a partition begins, while the cluster does not say."""

_log = logging.getLogger(__name__)


class KafkaMember:
    """`choreo.ports.log.Member` on Kafka. Make it on the loop that polls it."""

    def __init__(
        self, options: KafkaOptions, writing: Writing, ticket: Ticket, types: frozenset[str] | None, ask: Lookups
    ) -> None:
        self._options = options
        self._writing = writing
        self._ticket = ticket
        self._basket = Basket(ticket.topic, types, ask.log_time)
        self._paused: frozenset[int] = frozenset()
        self._arriving: set[int] = set()
        self._lost: list[int] = []
        self._leaving: set[int] = set()
        """Reported as lost, and still this member's until its host polls again."""
        self._asked: list[Job] = []
        self._reported: list[Job] = []
        """Each is called when the host has settled its partitions: those asked for, and those the host was told of."""
        self._crowd = Crowd()
        self._fenced: KafkaError | None = None
        self._is_refused = False
        self._closed = False
        self._fetching: asyncio.Future[list[Message]] | None = None
        self._looking: asyncio.Task[list[Gained]] | None = None
        self._news = asyncio.Event()
        self._subscription = Subscription(options, ticket, self, self._basket.is_awaited)
        self._backpressure = Backpressure(self._basket, self._subscription)
        self._static = StaticMember(options, ticket, ask.dependencies)
        self._ask, still_s = ask, options.still_s
        self._standstill = Standstill(ticket, ask.stable_ends, lambda: self._basket.places(self._paused), still_s)
        self._witness = Witness(ticket.topic, ask.origin, writing.memory_of(ticket), self._subscription)
        self._positions = Positions(options, ticket, self._subscription, self._witness)

    async def poll(self, limit: int, timeout_s: float) -> Poll:
        """At most `limit` records; see the port. Who polls again has settled what it had of lost partitions.

        Raises LeaseLostError once another process has joined under this member's instance, nothing comes of what
        stands in the log, its client answers no more or the log is another one; StorageError on what is refused.
        """
        if self._reported:
            await self._positions.tell_now()
            _let_go(self._reported)
        self._standstill.check()
        self._ask.watch.check()
        self._static.goes_on()
        if self._subscription.unanswered:
            raise LeaseLostError("its client answers no more: another one is made", where=self._ticket.place)
        if self._is_refused:
            self._fetch()
            self._unpack()
            await self._ask.probe(self._ticket.group, self._basket.places(())[0])
            self._is_refused = False  # its client has said so once, and would say no more
        until = time.monotonic() + timeout_s
        if timeout_s > 0 and await self._crowd.gather(self._news):
            await self._freshen()
        waited = False
        while True:
            self._fetch()
            self._unpack()
            gained = self._arrived()
            lost, self._lost = self._lost, []
            await self._basket.stamp_first(self._ask.stamp)
            records = self._basket.take(limit, self._paused)
            self._ask.cuts.jumped(self._basket.jumps())
            caught_up, patience_s = self._basket.caught_up(), until - time.monotonic()
            if records or gained or lost or caught_up or (waited and patience_s <= 0):
                self._reported, self._asked = self._asked, []
                if not (records or gained or lost):
                    self._positions.tell_beside(idle=True)
                self._crowd.saw(len(records), limit)
                return Poll(records, gained, lost, self._basket.moved(), self._basket.is_cut or len(records) >= limit)
            if self._fenced is not None:
                raise _out(self._ticket)
            await self._wait(max(GRAIN_S, patience_s))
            waited = True

    async def commit(self, work: Work) -> None:
        """Outcomes, letters, outputs, states and views, positions, in this order: each when the one before is safe.

        Positions beside other work are told in the background. Raises LeaseLostError: before anything is written if
        this member knows that a partition is not its own; after it if the group says so of positions alone, which are
        not moved then. Raises StorageError, ConflictError.
        """
        self._require({*work.done, *(row.partition for row in work.states), *(view.partition for view in work.views)})
        await self._writing.write(self._ticket, work)
        if not work.done:
            return
        self._require(work.done)  # lost while it was written: the group would take a position from anybody in it
        self._positions.reached(work.done)
        alone = not (work.outcomes or work.outputs or work.letters or work.states or work.views)
        if alone or self._leaving:
            await self._positions.tell()
        else:
            self._positions.tell_beside()

    def pause(self, partitions: Sequence[int]) -> None:
        """Bring nothing of these until `resume`."""
        self._paused |= set(partitions)

    def resume(self, partitions: Sequence[int]) -> None:
        """Undo `pause`."""
        self._paused -= set(partitions)
        self._backpressure.steer(self._paused)
        self._news.set()

    async def close(self) -> None:
        """Leave the group at once; a static member keeps its seat for the session, to come back to."""
        self._closed = True
        self._standstill.close()
        self._ask.watch.close()
        self._positions.send()  # leaving is when the client sends what it has
        _let_go(self._reported)
        _let_go(self._asked)
        if self._looking is not None:
            self._looking.cancel()
        if self._fetching is not None:
            # Not for ever: it stands behind a call of the client that may never return.
            await asyncio.wait((self._fetching,), timeout=LEAVE_S)
        await self._subscription.close()
        self.gone(list(self._basket.partitions()))

    def given(self, partitions: Sequence[int]) -> None:
        """From the subscription: these are this member's now."""
        for partition in partitions:
            self._basket.add(partition)
            self._arriving.add(partition)
        self._news.set()

    def asked_for(self, partitions: Sequence[int], settle: Job) -> None:
        """From the subscription: these are to be settled and given up."""
        known = [p for p in partitions if p in self._basket.partitions() and p not in self._arriving]
        self._lose(partitions)
        self._leaving.update(known)
        self._asked.append(settle)
        if self._closed or not known:
            _let_go(self._asked)

    def gone(self, partitions: Sequence[int]) -> None:
        """From the subscription: these are another member's, or will be."""
        self._leaving.difference_update(partitions)
        self._positions.forget(partitions)
        self._lose(partitions)

    def told(self, offsets: Mapping[int, int], trouble: str) -> None:
        """From the subscription: the group's answer to what was told beside the work."""
        self._positions.told(offsets, trouble)

    def _lose(self, partitions: Iterable[int]) -> None:
        mine = [partition for partition in partitions if partition in self._basket.partitions()]
        for partition in mine:
            self._basket.drop(partition)
            if partition not in self._arriving:  # else its host never knew
                self._lost.append(partition)
        if self._looking is not None and self._arriving.intersection(mine):
            self._looking.cancel()
            self._looking = None
        self._arriving.difference_update(mine)
        self._backpressure.forget(mine)
        self._paused -= set(mine)
        self._news.set()

    def _fetch(self) -> None:
        """Have one fetch under way, for what there is room for."""
        if self._fetching is not None:
            return
        self._backpressure.steer(self._paused)
        room = AHEAD - self._basket.size(set(self._basket.partitions()) - self._paused)
        busy = self._basket.size(self._basket.partitions()) > 0
        self._fetching = self._subscription.fetch(max(1, room), FETCH_S, busy=busy)

    def _unpack(self) -> None:
        """Take over what the fetch has brought; raises StorageError on what the broker refuses."""
        if self._fetching is None or not self._fetching.done():
            return
        fetching, self._fetching = self._fetching, None
        try:
            messages = fetching.result()
        except KafkaException as error:
            raise complaint(error, self._options, self._ticket.place) from error
        troubles = []
        for message in messages:
            trouble = message.error()
            if trouble is None or trouble.code() == PARTITION_END:
                self._basket.put(message)
            else:
                troubles.append(trouble)
        for trouble in troubles:
            self._judge(trouble)
        self._fetch()

    def _judge(self, trouble: KafkaError) -> None:
        code = trouble.code()
        if for_good(trouble) or code in MEMBERSHIP_GONE:
            self._fenced = trouble
            self._static.put_out()
            self.gone(list(self._basket.partitions()))
        elif code in REFUSED:
            self._is_refused = True
            raise complaint(trouble, self._options, self._ticket.place)
        else:
            _log.warning("%s: %s", self._ticket.place, self._options.masked(trouble.str()))

    def _arrived(self) -> list[Gained]:
        """Partitions whose beginning and end have become known since the last poll."""
        gained: list[Gained] = []
        if self._looking is not None and self._looking.done():
            looking, self._looking = self._looking, None
            gained = [found for found in looking.result() if found.partition in self._arriving]
        for found in gained:
            self._arriving.remove(found.partition)
            self._basket.begin(found.partition, found.committed, found.end)
        if self._arriving and self._looking is None:
            self._looking = asyncio.create_task(self._look_up(frozenset(self._arriving)))
        return gained

    async def _look_up(self, partitions: Collection[int]) -> list[Gained]:
        """Where these begin and end; nothing, after a pause, while the cluster or the memory does not say."""
        try:
            found = await self._subscription.look_up(partitions)
            self._ask.cuts.gained(found)
            return await self._ask.to_the_end(await self._witness.hear(found))
        except ReplacedLogError as error:
            self._ask.watch.refuse(error)
        except (KafkaException, StorageError, NotFoundError, TimeoutError) as error:
            _log.warning("%s: cannot begin yet: %s", self._ticket.place, self._options.masked(str(error)))
        await asyncio.sleep(LOOK_AGAIN_S)
        return []

    async def _freshen(self) -> None:
        """Take over all that has come: the fetch under way ended with the first of it."""
        self._unpack()
        if self._fetching is not None:
            await asyncio.wait((self._fetching,), timeout=FRESH_S)

    async def _wait(self, timeout_s: float) -> None:
        """Until the fetch or the look-up under way is over, or there is news of partitions."""
        news = asyncio.ensure_future(self._news.wait())
        awaited = [task for task in (self._fetching, self._looking, news) if task is not None]
        try:
            await asyncio.wait(awaited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
            self._news.clear()

    def _require(self, partitions: Collection[int]) -> None:
        mine = self._leaving.union(self._basket.partitions()) - self._arriving
        strange = sorted(set(partitions) - mine)
        if strange:
            raise lease_lost(self._ticket, strange)


def _let_go(settles: list[Job]) -> None:
    for settle in settles:
        settle()
    settles.clear()


def _out(ticket: Ticket) -> LeaseLostError:
    return LeaseLostError(
        "another process has joined under this name and owns its partitions now",
        where=ticket.place,
        remedy="Stop this process, or give each process an instance of its own.",
    )
