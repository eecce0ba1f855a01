"""The starts of children that a handler has yielded, as the batches in which they start. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from choreo.app.limits import check_size, checked_key
from choreo.app.steps.handlers import ChildStarts
from choreo.core import ids
from choreo.core.crossing import JSON, Plan, Start, encode
from choreo.core.errors import SchemaError
from choreo.core.events import Envelope
from choreo.core.keys import key_text


def planned(
    children: ChildStarts,
    fact: Envelope,
    about: str,
    values: Sequence[Any],
    encoded: Sequence[bytes],
    content_type: str,
    bytes_max: int,
) -> list[Envelope]:
    """Return a `ChildrenPlanned` for each batch, at least one; `fact` has all that they share.

    `about`: the run or the trigger from which the ids derive. Raises DecodeError on a key that is none, TypeError on a
    value that cannot be one, SchemaError on a key that comes twice or on a batch that does not fit into the log.
    """
    where = f"step {fact.step}"
    starts = [Start(key, data) for key, data in zip(_keys(children, values, where), encoded, strict=True)]
    made = []
    for n, at in enumerate(range(0, max(1, len(starts)), children.size)):
        plan = Plan(
            flow=children.flow,
            type=children.type,
            version=children.version,
            total=len(starts),
            size=children.size,
            content_type=content_type,
            starts=starts[at : at + children.size],
        )
        id_ = ids.outcome(about, fact.step, n)
        made.append(replace(fact, id=id_, n=n, content_type=JSON, data=encode(plan)))
        if bytes_max:
            check_size(made[-1], bytes_max, where)
    return made


def _keys(children: ChildStarts, values: Sequence[Any], where: str) -> list[str]:
    """Return the key of each child."""
    keys = [checked_key(key_text(getattr(value, children.key)), f"{where}, {children.key}") for value in values]
    twice = next((key for key, times in Counter(keys).items() if times > 1), None)
    if twice is not None:
        raise SchemaError(
            f"two children have the key {twice!r:.100}",
            where=where,
            remedy=f"Give each {children.type} a {children.key} of its own.",
        )
    return keys
