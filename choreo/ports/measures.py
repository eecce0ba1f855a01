"""The numbers of a process as an exporter reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]


class Series(NamedTuple):
    """One number with its labels, or one histogram."""

    name: str
    help: str
    kind: Kind
    labels: Mapping[str, str]
    value: float
    """Of a histogram: the sum of its values."""
    counts: Sequence[int] = ()
    """Of a histogram: how many values each bucket has, the last one those above every bound."""
    bounds: Sequence[float] = ()


class Measures(Protocol):
    """The numbers of a process."""

    def series(self) -> Iterable[Series]:
        """Return each of them as it is now."""
        ...
