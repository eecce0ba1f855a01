"""Derived ids (UUIDv5): what is the same fact gets the same id, so that redelivery and re-emission collapse.

The table of DESIGN.md 3 in code, one function a row. Source: RFC 9562, section 5.5.
"""

from __future__ import annotations

import hashlib

# The namespace of all choreo ids: uuid5(NAMESPACE_URL, "https://choreo.dev/ids"), fixed for ever.
_NAMESPACE = bytes.fromhex("a1a8067140d055c0ad1fa103c5dfb42a")
_DIGEST = hashlib.sha1(_NAMESPACE, usedforsecurity=False)
# The digit that holds the variant's two bits, 10, above two bits of the digest.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


# An id of this length is compared with the form of a UUID; the digit after the second dash is its version.
_LENGTH, _VERSION = 36, 14
_NAME_BASED, _CUSTOM = "5", "8"


def derive(*parts: object) -> str:
    """The UUIDv5 of the parts; the separator cannot occur in a key that came through a door of ours."""
    return _uuid(_NAME_BASED, *parts)


def _uuid(version: str, *parts: object) -> str:
    digest = _DIGEST.copy()
    digest.update("\x1f".join(map(str, parts)).encode(errors="surrogatepass"))
    text = digest.hexdigest()
    return f"{text[:8]}-{text[8:12]}-{version}{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"


def is_of_source(id_: str) -> bool:
    """Return whether the id was derived from a foreign event's source or place: it is kept when written again.

    Such an id is a UUIDv8 (RFC 9562, section 5.8). One that a foreign producer made itself is unique as it is.
    """
    return len(id_) == _LENGTH and id_[_VERSION] == _CUSTOM


def is_derived(id_: str) -> bool:
    """Return whether the id has the form of those that choreo derives."""
    return len(id_) == _LENGTH and id_[_VERSION] in (_NAME_BASED, _CUSTOM)


def start(flow: str, key: str, idempotency_key: str = "") -> str:
    """A start published through choreo."""
    return derive("start", flow, key, idempotency_key)


def foreign(topic: str, partition: int, offset: int) -> str:
    """An event whose producer set no id: it is known by its first position."""
    return _uuid(_CUSTOM, "foreign", topic, partition, offset)


def of_source(source: str, id_: str, key: str) -> str:
    """An event whose producer numbers its own: another source, or another key, is another event."""
    return _uuid(_CUSTOM, "source", source, id_, key)


def outcome(about: str, step: str, place: int = 0) -> str:
    """An outcome: the step, its place in what the handler returned, and the run of a step that runs once a run.

    Of any other step, and of choreo's own outcomes, the original trigger instead of the run.
    """
    return derive("outcome", about, step, place)


def attempt_failed(trigger: str, step: str, attempt: int) -> str:
    """`choreo.StepAttemptFailed`."""
    return derive("attempt", trigger, step, attempt)


def answer(kind: str, record: str, step: str) -> str:
    """`choreo.StepHeld`, `choreo.StepRetryDue`, `choreo.TriggerIgnored`: the record it answers, and the step."""
    return derive(kind, record, step)


def entry(run: str, step: str, trigger: str) -> str:
    """A ledger entry: one and the same whether certain or in doubt."""
    return derive("entry", run, step, trigger)


def of_round(kind: str, entry_id: str, round_: int) -> str:
    """An undo request, `choreo.NothingToUndo`, `choreo.UndoFailed`: the entry and the round."""
    return derive(kind, entry_id, round_)


def undo(entry_id: str, place: int = 0) -> str:
    """The undo's own event (`PaymentRefunded`): the entry only, whatever the round."""
    return derive("undo", entry_id, place)


def timer(kind: str, about: str, due_ms: int) -> str:
    """A timer fact: what it is about, and its due time."""
    return derive("timer", kind, about, due_ms)


def of_run(kind: str, run: str, n: int = 0) -> str:
    """Any other fact of a run: the run, the kind, its number."""
    return derive(kind, run, n)


def idempotency(kind: str, *parts: object) -> str:
    """The stable key that a handler gives to an outside system."""
    return derive("idempotency", kind, *parts)
