"""Read your own writes: a position as a token, and a wait until the read model has reached it."""

from __future__ import annotations

import re

from choreo.core.backoff import Backoff
from choreo.core.errors import DecodeError, NotFoundError, UnavailableError
from choreo.core.events import Position
from choreo.ports.clock import Clock
from choreo.ports.log import Log
from choreo.ports.read_model import ReadModel

POSITION_PATTERN = r"^[A-Za-z0-9._-]{1,249}/[0-9]{1,9}/[0-9]{1,18}$"

IF_JUST_STARTED = (
    "If it was started just now, the read model may not have it yet: ask again; "
    "over REST with ?after= and the position in the answer to its start."
)
"""The remedy for an unknown instance."""

_TOKEN = re.compile(POSITION_PATTERN.replace("$", r"\Z"))

# The tracker commits a batch within a few milliseconds: the first read comes soon, later ones spare the store.
_FIRST_LOOK_S = 0.005
_LOOK_S_MAX = 0.1


def token_of(position: Position) -> str:
    """Return the position as a token for clients: topic/partition/offset."""
    return f"{position.topic}/{position.partition}/{position.offset}"


def position_of(token: str) -> Position:
    """Return the position in a token; raises DecodeError on an invalid one."""
    if not _TOKEN.match(token):
        raise DecodeError(
            f"{token!r} is not a position",
            where="Choreo-Position",
            remedy="Pass it unchanged: topic/partition/offset, such as order/3/42.",
        )
    topic, partition, offset = token.split("/")
    return Position(topic, int(partition), int(offset))


class Positions:
    """Waits for positions of the read model."""

    def __init__(self, log: Log, read_model: ReadModel, clock: Clock) -> None:
        """Keep the parts; nothing is read yet."""
        self._log = log
        self._read_model = read_model
        self._clock = clock

    async def reached(self, position: Position, timeout_s: float) -> None:
        """Wait until the read model has folded the event at this position.

        Raises NotFoundError if there is no such event in the log, UnavailableError after `timeout_s`.
        """
        if position.offset >= await self._log.end(position.topic, position.partition):
            raise NotFoundError(
                f"there is no event at {token_of(position)}",
                where="Choreo-Position",
                remedy="Pass a position from this log's own answers.",
            )
        until_ms = self._clock.now_ms() + round(timeout_s * 1_000)
        backoff = Backoff(_FIRST_LOOK_S, _LOOK_S_MAX)
        while (await self._read_model.positions(position.topic)).get(position.partition, 0) <= position.offset:
            left_s = (until_ms - self._clock.now_ms()) / 1_000
            if left_s <= 0:
                raise UnavailableError(
                    f"the read model has not reached {token_of(position)} within {timeout_s:g} s",
                    where="read model",
                    remedy="Ask again later, or check with `choreo dev` or /readyz whether a tracker runs.",
                )
            await self._clock.sleep(min(backoff.next_s(), left_s))
