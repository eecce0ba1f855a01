"""Runs that nothing can change any more, eight bytes each: an event of a key with many runs costs as with few.

No later event can change such a run: it completed, was terminated, or everything it did was certain and is undone. For
`linger` only two facts of it remain: its id is known (a start with it is a duplicate), and so are the events without a
run that were its own. A run with an effect in doubt stays whole: a late success may open it again. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from choreo.core import recent

KEPT_MAX = 8
"""Ended runs of a key that are kept whole: late events of the newest are still noted in their views."""

_PAGE_BYTES = 4_096


class Page(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Memory of some runs, in the order of their ends. `until_ms`: when the last of them ended."""

    until_ms: int
    tokens: bytes


def run_token(run: str) -> bytes:
    """Return the token of a run's id."""
    return recent.token("run", run)


def knows(pages: Iterable[Page], token: bytes) -> bool:
    """Return whether a retired run, or an event of one, has this token."""
    return any(recent.knows(page.tokens, token) for page in pages)


def added(pages: list[Page], run: str, ended_ms: int, events: bytes) -> list[Page]:
    """Return the pages with one more run, and the tokens of its events that only its memory recognises."""
    tokens = run_token(run) + events
    if pages and len(pages[-1].tokens) + len(tokens) <= _PAGE_BYTES:
        last = pages[-1]
        return [*pages[:-1], Page(max(last.until_ms, ended_ms), last.tokens + tokens)]
    return [*pages, Page(ended_ms, tokens)]


def remaining(pages: list[Page], limit_ms: int) -> list[Page]:
    """Return the pages without those of runs that all ended before that time."""
    return [page for page in pages if page.until_ms >= limit_ms]
