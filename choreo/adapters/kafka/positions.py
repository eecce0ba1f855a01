"""How far a member has come, and how far its group was told: a request of its own, which work does not wait for.

What a member did stands in its inbox and in the log before its position is told. Whoever reads a record again that was
worked finds its outcome and says the same: a second of them after a crash is a second of twins, and costs nothing else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping

from confluent_kafka import KafkaException

from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.subscription import Subscription
from choreo.adapters.kafka.trouble import MEMBERSHIP_GONE, cause_of, complaint, for_good
from choreo.adapters.kafka.witness import Witness
from choreo.adapters.membership import Ticket
from choreo.core.errors import LeaseLostError, StorageError

TELL_S = 1.0
"""How long positions wait beside work that goes on. Told with each batch they took a sixth of a step's time."""
ANSWER_S = 30.0
"""Within which the client says what became of them, also with a broker that is away: three times its own patience."""

_log = logging.getLogger(__name__)


class Positions:
    """Those of one member. Make it on the loop that polls it."""

    def __init__(self, options: KafkaOptions, ticket: Ticket, subscription: Subscription, witness: Witness) -> None:
        """Nothing is reached yet; `witness` knows what is said beside positions."""
        self._options = options
        self._ticket = ticket
        self._subscription = subscription
        self._witness = witness
        self._reached: dict[int, int] = {}
        self._told: dict[int, int] = {}
        """What the group has taken, in the order of its answers: after one that came late the newer is told again."""
        self._quiet_until_s = 0.0
        """While some are on their way, which might come to the group after later ones; a little, after a refusal."""
        self._next_s = time.monotonic() + TELL_S
        """When to tell them beside work that goes on."""

    def reached(self, done: Mapping[int, int]) -> None:
        """So far everything is worked."""
        self._reached.update(done)

    def forget(self, partitions: Collection[int]) -> None:
        """These are another member's."""
        for partition in partitions:
            self._reached.pop(partition, None)
            self._told.pop(partition, None)

    async def tell(self) -> None:
        """Move the group's positions, and wait for it. Raises LeaseLostError where they are others', StorageError."""
        places = self._untold()
        if not places:
            return
        try:
            await self._subscription.commit(places, self._witness.saying)
        except TimeoutError as error:
            bound_s = self._options.request_s
            raise StorageError(
                f"the group has not taken the positions of partitions {sorted(places)} within {bound_s:g} s",
                where=self._ticket.place,
                remedy=f"See that a broker answers at {self._options.shown}; they are told by a client made anew.",
            ) from error
        except KafkaException as error:
            inner = cause_of(error)
            if inner is None or not (inner.code() in MEMBERSHIP_GONE or for_good(inner)):
                raise complaint(error, self._options, self._ticket.place) from error
            raise LeaseLostError(
                f"the group has given partitions {sorted(places)} to others: their positions were not moved",
                where=self._ticket.place,
                remedy="Drop the work: what was published of it stands, and whoever says it again says the same.",
            ) from error
        self._heard(places)

    async def tell_now(self) -> None:
        """Tell them before partitions go to others, if that can be: who gets them reads again what was not told."""
        try:
            await self.tell()
        except (LeaseLostError, StorageError) as error:
            _log.info("%s: %s", self._ticket.place, error)

    def tell_beside(self, *, idle: bool = False) -> None:
        """Tell them without waiting for it: at once if there is nothing else to do, else when it is time."""
        now_s = time.monotonic()
        if now_s >= self._quiet_until_s and (idle or now_s >= self._next_s):
            self.send()

    def send(self) -> None:
        """Tell them without waiting for it, whatever is on its way."""
        places = self._untold()
        if places:
            self._quiet_until_s = time.monotonic() + ANSWER_S
            self._subscription.commit_beside(places, self._witness.saying)

    def told(self, places: Mapping[int, int], trouble: str) -> None:
        """The group's answer to what was told beside the work. Who is no member any more hears so when it polls."""
        if trouble:
            self._quiet_until_s = time.monotonic() + TELL_S
            _log.info("%s: positions not told: %s", self._ticket.place, self._options.masked(trouble))
        else:
            self._quiet_until_s = 0.0
            self._heard(places)

    def _untold(self) -> dict[int, int]:
        return {number: offset for number, offset in self._reached.items() if self._told.get(number) != offset}

    def _heard(self, places: Mapping[int, int]) -> None:
        self._next_s = time.monotonic() + TELL_S
        self._told.update((number, offset) for number, offset in places.items() if number in self._reached)
