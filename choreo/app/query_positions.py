"""Reading what one has written: a position as a token, and waiting until the read model has come that far."""

from __future__ import annotations

import re

from choreo.core.errors import DecodeError, NotFoundError, UnavailableError
from choreo.core.events import Position
from choreo.ports.clock import Clock
from choreo.ports.log import Log
from choreo.ports.read_model import ReadModel

POSITION_PATTERN = r"^[A-Za-z0-9._-]{1,249}/[0-9]{1,9}/[0-9]{1,18}$"

_TOKEN = re.compile(POSITION_PATTERN.replace("$", r"\Z"))

# The tracker commits a batch within a few milliseconds: the first look again comes soon, later ones spare the store.
_FIRST_LOOK_S = 0.005
_LOOK_S_MAX = 0.1


def token_of(position: Position) -> str:
    """The position as a client keeps it: topic/partition/offset."""
    return f"{position.topic}/{position.partition}/{position.offset}"


def position_of(token: str) -> Position:
    """The position in a token; raises DecodeError on one that is not ours."""
    if not _TOKEN.match(token):
        raise DecodeError(
            f"{token!r} is not a position",
            where="Choreo-Position",
            remedy="Pass it as it was answered: topic/partition/offset, such as order/3/42.",
        )
    topic, partition, offset = token.split("/")
    return Position(topic, int(partition), int(offset))


class Positions:
    """How far the read model is."""

    def __init__(self, log: Log, read_model: ReadModel, clock: Clock) -> None:
        """Take the parts; nothing is read yet."""
        self._log = log
        self._read_model = read_model
        self._clock = clock

    async def reached(self, position: Position, timeout_s: float) -> None:
        """Return when the read model has folded the event at this position.

        Raises NotFoundError if there is no such event in the log, UnavailableError if it takes longer than that.
        """
        if position.offset >= await self._log.end(position.topic, position.partition):
            raise NotFoundError(
                f"there is no event at {token_of(position)}",
                where="Choreo-Position",
                remedy="Pass a position that this log answered.",
            )
        until_ms = self._clock.now_ms() + round(timeout_s * 1_000)
        wait_s = _FIRST_LOOK_S
        while (await self._read_model.positions(position.topic)).get(position.partition, 0) <= position.offset:
            left_s = (until_ms - self._clock.now_ms()) / 1_000
            if left_s <= 0:
                raise UnavailableError(
                    f"the read model has not come to {token_of(position)} within {timeout_s:g} s",
                    where="read model",
                    remedy="Ask again later, or see with `choreo dev` or /readyz whether a tracker runs.",
                )
            await self._clock.sleep(min(wait_s, left_s))
            wait_s = min(wait_s * 2, _LOOK_S_MAX)
