"""What the client and the broker complain about, as choreo's errors: what to say, and who must act.

A broker that is away is a StorageError: hosts wait and try again, doors say so. Knows no secrets: texts come masked.
"""
# ruff: noqa: SLF001 -- the client gives the codes that are its own, not the broker's, names that begin with _

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from choreo.adapters.kafka.options import KafkaOptions
from choreo.core.errors import ChoreoError, ConflictError, NotFoundError, SettingsError, StorageError

MEMBERSHIP_GONE: frozenset[int] = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError._ASSIGNMENT_LOST,
        KafkaError._FENCED,
    }
)
"""Codes of a commit by somebody who is no member any more."""

PARTITION_END: int = KafkaError._PARTITION_EOF
TIMED_OUT: int = KafkaError._TIMED_OUT
TOO_LATE: int = KafkaError._MSG_TIMED_OUT
QUEUE_FULL: int = KafkaError._QUEUE_FULL
OUT_OF_RANGE: frozenset[int] = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
PASSING: frozenset[int] = frozenset(
    {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT}
)
"""The client goes on by itself after these."""
OUTDATED: frozenset[int] = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
    }
)
"""The client goes by what it knew of the cluster before a change of leaders."""
NO_LEADER: int = KafkaError._NOENT
"""A partition has no leader yet: its broker has just been started."""
COORDINATOR_MOVES: frozenset[int] = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
    }
)
"""Passes by itself, and nobody is told when."""
REFUSED: frozenset[int] = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.INVALID_SESSION_TIMEOUT,
        KafkaError._AUTHENTICATION,
    }
)
"""Somebody has to change something before a member gets anything."""

_NO_SUCH = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
UNAUTHORIZED: frozenset[int] = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
"""Known, and not allowed to do this."""
DENIED: frozenset[int] = UNAUTHORIZED | {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._SSL,
}
ALL_DOWN: int = KafkaError._ALL_BROKERS_DOWN
_WRONG_SETTING = frozenset({KafkaError._INVALID_ARG, KafkaError.INVALID_SESSION_TIMEOUT})
_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})


def for_good(error: KafkaError) -> bool:
    """Whether the client that said it will never do anything again."""
    return error.fatal() or error.code() == KafkaError._FATAL


def cause_of(error: BaseException | None) -> KafkaError | None:
    """The client's error inside an exception."""
    inner = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return inner if isinstance(inner, KafkaError) else None


def sound(places: list[TopicPartition]) -> list[TopicPartition]:
    """These, of an answer; raises KafkaException with the trouble of the first that has one."""
    for place in places:
        if place.error is not None:
            raise KafkaException(place.error)
    return places


def missing(where: str) -> NotFoundError:
    """The error of a topic that was never made."""
    return NotFoundError("there is no such topic", where=where, remedy="Make the topics: `choreo topics apply`.")


def complaint(error: KafkaError | BaseException, options: KafkaOptions, where: str) -> ChoreoError:
    """The error to raise for one of the client's; `where` is what it was about."""
    inner = cause_of(error) if isinstance(error, BaseException) else error
    if inner is None:
        return StorageError(options.masked(str(error)), where=where, remedy=_away(options))
    code, said = inner.code(), options.masked(inner.str())
    if code in _NO_SUCH:
        return missing(where)
    if code in DENIED:
        return StorageError(
            f"the broker refuses it: {said}",
            where=where,
            remedy="Check the CHOREO_KAFKA_SASL_* and CHOREO_KAFKA_SSL_* settings, and what this user may do.",
        )
    if code in _TOO_LARGE:
        return ConflictError(
            f"the event cannot be kept: {said}",
            where=where,
            remedy="Publish less in one event, or raise max.message.bytes of the topic and message.max.bytes here.",
        )
    if code in _WRONG_SETTING:
        return SettingsError(said, where=where, remedy="Correct that CHOREO_KAFKA_* setting.")
    return StorageError(f"Kafka does not do it: {said}", where=where, remedy=_away(options))


def _away(options: KafkaOptions) -> str:
    """What to do where no broker answers. One that wants a certificate, or TLS at all, only closes the connection."""
    here = f"It is tried again where that is safe; see that a broker answers at {options.shown}"
    protocol = options.settings.get("security.protocol", "PLAINTEXT")
    return f"{here} to {protocol}, and what it wants to see: CHOREO_KAFKA_SECURITY_PROTOCOL, CHOREO_KAFKA_SSL_*."
