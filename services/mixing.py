"""Mix the kinds of a demo's runs, so that each kind is spread evenly over all runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class _Kind(Protocol):
    @property
    def share(self) -> int: ...


AnyKind = TypeVar("AnyKind", bound=_Kind)


def mixed(kinds: Sequence[AnyKind], number: int, stride: int) -> AnyKind:
    """Return the kind of the run with this number.

    `stride` is prime to the sum of the kinds' shares: each so many runs have every kind as often as its share says.
    """
    place = number * stride % sum(kind.share for kind in kinds)
    for kind in kinds:
        place -= kind.share
        if place < 0:
            return kind
    return kinds[0]
