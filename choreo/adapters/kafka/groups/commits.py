"""Commit offsets with a note beside them, once their work is written (`choreo.adapters.commit_writer`).

`IdentityNote` names the log and the inbox: the next owner of a partition detects an inbox that was lost.
`OffsetCommits` moves the group's offsets in a request of its own, which work does not wait for: after a crash up to one
second of records is processed again; duplicates find their outcomes and are dropped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence

from confluent_kafka import KafkaException

from choreo.adapters.assignment import MemberId
from choreo.adapters.kafka.cluster.log_identity import Origin, check, first_noted, noted, read_note
from choreo.adapters.kafka.errors import MEMBERSHIP_GONE, cause_of, complaint, for_good
from choreo.adapters.kafka.groups.conditions import Truncation, missing_in, with_missing
from choreo.adapters.kafka.groups.thread import ConsumerThread, Found
from choreo.adapters.kafka.options import KafkaOptions
from choreo.core.errors import LeaseLostError, StorageError
from choreo.ports.inbox import InboxIdentity
from choreo.ports.log import Assigned


class IdentityNote:
    """Compares a member's log, its inbox if there is one, and the committed offsets of its group."""

    def __init__(
        self, topic: str, origin: Origin, memory: InboxIdentity | None, cuts: Truncation, thread: ConsumerThread
    ) -> None:
        """Compare with `memory`, the inbox's identity; `cuts` knows the records that the group has missed."""
        self._topic = topic
        self._origin = origin
        self._memory = memory
        self._cuts = cuts
        self._thread = thread

    def note(self, partition: int) -> str:
        """Return the note for a commit of this partition's offset."""
        return noted(self._origin, with_missing(self._memory.name if self._memory else "", self._cuts.of(partition)))

    async def check(self, found: Sequence[Found]) -> list[Assigned]:
        """Compare the inbox's id with the noted ones, note it where it is missing; return the partitions.

        Raises ReplacedLogError where offsets are of another log, StorageError where the inbox is away, KafkaException
        where the cluster is.
        """
        was = first_noted(note for _, note, _ in found if note is not None)
        check(self._topic, was or self._origin, self._origin)
        self._cuts.assigned(found)
        if self._memory is not None:
            names = (missing_in(read_note(note)[1])[0] for _, note, _ in found if note is not None)
            await self._memory.compare([name for name in names if name])
        unnoted = {
            assigned.partition: assigned.committed
            for assigned, note, _ in found
            if note != self.note(assigned.partition)
        }
        if unnoted:
            await self._thread.commit(unnoted, self.note)
        return [assigned for assigned, _, _ in found]


COMMIT_INTERVAL_S = 1.0
"""How long offsets wait beside work that goes on. Committing them with each batch took a sixth of a step's time."""
ANSWER_S = 30.0
"""How long the client may take to report a commit's result, also with a broker that is away: three times its own
timeout.
"""

_log = logging.getLogger(__name__)


class OffsetCommits:
    """The offset commits of one member. Make it on the loop that polls it."""

    def __init__(
        self, options: KafkaOptions, member_id: MemberId, thread: ConsumerThread, identity: IdentityNote
    ) -> None:
        """Begin without offsets; `identity` returns the note beside each offset."""
        self._options = options
        self._member_id = member_id
        self._thread = thread
        self._identity = identity
        self._reached: dict[int, int] = {}
        self._noted: dict[int, str] = {}
        """The notes that were sent last."""
        self._committed: dict[int, tuple[int, str]] = {}
        """The offsets and notes that the group has accepted, in the order of its answers.

        After an answer that came late, the newer offsets are committed again.
        """
        self._silent_until_s = 0.0
        """Until then no background commit is sent: one is under way, and might reach the group after later ones.

        Or one was refused a moment ago.
        """
        self._next_s = time.monotonic() + COMMIT_INTERVAL_S
        """When to commit beside work that goes on."""

    def reached(self, done: Mapping[int, int]) -> None:
        """Note that all records before these offsets are worked."""
        self._reached.update(done)

    def forget(self, partitions: Collection[int]) -> None:
        """Forget partitions that are revoked."""
        for partition in partitions:
            self._reached.pop(partition, None)
            self._committed.pop(partition, None)

    async def commit(self) -> None:
        """Commit the group's offsets, and wait for the answer.

        Raises LeaseLostError where they are revoked, StorageError.
        """
        places = self._uncommitted()
        if not places:
            return
        try:
            await self._thread.commit(places, self._noted.__getitem__)
        except TimeoutError as error:
            bound_s = self._options.request_s
            raise StorageError(
                f"the group has not accepted the offsets of partitions {sorted(places)} within {bound_s:g} s",
                where=self._member_id.place,
                remedy=f"Check that a broker answers at {self._options.shown}; a new client commits them.",
            ) from error
        except KafkaException as error:
            inner = cause_of(error)
            if inner is None or not (inner.code() in MEMBERSHIP_GONE or for_good(inner)):
                raise complaint(error, self._options, self._member_id.place) from error
            raise LeaseLostError(
                f"partitions {sorted(places)} are assigned to other members: their offsets were not committed",
                where=self._member_id.place,
                remedy="Drop the work: its published events stay, and the next owner publishes the same ones.",
            ) from error
        self._note_committed(places)

    async def commit_before_revocation(self) -> None:
        """Try to commit before partitions are revoked: their next owner reads again from the committed offset."""
        try:
            await self.commit()
        except (LeaseLostError, StorageError) as error:
            _log.info("%s: %s", self._member_id.place, error)

    def commit_in_background(self, *, idle: bool = False) -> None:
        """Begin a commit without waiting for it: at once if there is no other work, else when it is due."""
        now_s = time.monotonic()
        if now_s >= self._silent_until_s and (idle or now_s >= self._next_s):
            self.send()

    def send(self) -> None:
        """Begin a commit without waiting for it, even if another one is under way."""
        places = self._uncommitted()
        if places:
            self._silent_until_s = time.monotonic() + ANSWER_S
            self._thread.commit_in_background(places, self._noted.__getitem__)

    def on_committed(self, places: Mapping[int, int], failure: str) -> None:
        """Take the group's answer to a background commit.

        A member that lost its membership learns of it when it polls.
        """
        if failure:
            self._silent_until_s = time.monotonic() + COMMIT_INTERVAL_S
            _log.info("%s: offsets not committed: %s", self._member_id.place, self._options.masked(failure))
        else:
            self._silent_until_s = 0.0
            self._note_committed(places)

    def _uncommitted(self) -> dict[int, int]:
        """Return the offsets that the group has not accepted with their present notes."""
        notes = {number: self._identity.note(number) for number in self._reached}
        untold = {
            number: offset
            for number, offset in self._reached.items()
            if self._committed.get(number) != (offset, notes[number])
        }
        self._noted.update((number, notes[number]) for number in untold)
        return untold

    def _note_committed(self, places: Mapping[int, int]) -> None:
        self._next_s = time.monotonic() + COMMIT_INTERVAL_S
        self._committed.update(
            (number, (offset, self._noted.get(number, "")))
            for number, offset in places.items()
            if number in self._reached
        )
