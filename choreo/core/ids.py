"""Derived ids (UUIDv5): the same fact gets the same id, so that redelivery and publishing again make duplicates only.

One function for each kind of id. Source: RFC 9562, section 5.5.
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
    """Return the UUIDv5 of the parts; the separator cannot occur in a key that choreo has accepted."""
    return _uuid(_NAME_BASED, parts)


def _uuid(version: str, parts: tuple[object, ...]) -> str:
    digest = _DIGEST.copy()
    digest.update("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass"))
    text = digest.hexdigest()
    return f"{text[:8]}-{text[8:12]}-{version}{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"


def is_of_source(id_: str) -> bool:
    """Return whether the id was derived from a foreign event's source or position: it is kept when written again.

    Such an id is a UUIDv8 (RFC 9562, section 5.8). An id that a foreign producer made itself is unique as it is.
    """
    return len(id_) == _LENGTH and id_[_VERSION] == _CUSTOM


def is_derived(id_: str) -> bool:
    """Return whether the id has the form of choreo's derived ids."""
    return len(id_) == _LENGTH and id_[_VERSION] in (_NAME_BASED, _CUSTOM)


def start(flow: str, key: str, idempotency_key: str = "") -> str:
    """Return the id of a start published through choreo."""
    return derive("start", flow, key, idempotency_key)


def foreign(topic: str, partition: int, offset: int, log_id: str = "") -> str:
    """Return the id of an event without a producer's id: derived from its first position.

    `log_id` distinguishes a log from the earlier ones of its flow, in which the same positions held other events.
    """
    return _uuid(_CUSTOM, ("foreign", topic, partition, offset, *([log_id] if log_id else ())))


def of_source(flow: str, source: str, id_: str, key: str) -> str:
    """Return the id of an event that its producer has numbered: each source and key numbers on its own.

    The same event in the logs of two flows is two events: a service in both of them handles each.
    """
    return _uuid(_CUSTOM, ("source", flow, source, id_, key))


def outcome(about: str, step: str, place: int = 0) -> str:
    """Return the id of an outcome.

    It is derived from the step, its index in the handler's result, and the run of a step that runs once in a run. For
    any other step, and for choreo's own outcomes, `about` is the original trigger instead of the run.
    """
    return derive("outcome", about, step, place)


def attempt_failed(trigger: str, step: str, attempt: int) -> str:
    """Return the id of a `choreo.StepAttemptFailed`."""
    return derive("attempt", trigger, step, attempt)


def answer(kind: str, record: str, step: str) -> str:
    """Return the id of an answer: the record that it answers, and the step.

    Answers are `choreo.StepHeld`, `choreo.StepRetryDue` and `choreo.TriggerIgnored`.
    """
    return derive(kind, record, step)


def entry(run: str, step: str, trigger: str) -> str:
    """Return the id of a ledger entry: the same whether certain or in doubt."""
    return derive("entry", run, step, trigger)


def of_round(kind: str, entry_id: str, round_: int) -> str:
    """Return the id of a fact of a round: the entry and the round.

    Such facts are a compensation request, `choreo.NothingToCompensate` and `choreo.CompensationFailed`.
    """
    return derive(kind, entry_id, round_)


def carried(flow: str, source: str, to: str) -> str:
    """Return the id of an event that the bridge publishes in the flow `to`: derived from the event `source` of `flow`.

    Each time that the bridge reads that event, and every bridge that does, derives the same id.
    """
    return derive("carried", flow, source, to)


def undo(entry_id: str, place: int = 0) -> str:
    """Return the id of the compensation's own event (`PaymentRefunded`): of the entry, the same in every round."""
    return derive("undo", entry_id, place)


def timer(kind: str, about: str, due_ms: int) -> str:
    """Return the id of a timer fact: its subject and its due time."""
    return derive("timer", kind, about, due_ms)


def of_run(kind: str, run: str, n: int = 0) -> str:
    """Return the id of any other fact of a run: the run, the kind, its number."""
    return derive(kind, run, n)


def idempotency(kind: str, *parts: object) -> str:
    """Return the stable key that a handler passes to an outside system."""
    return derive("idempotency", kind, *parts)
