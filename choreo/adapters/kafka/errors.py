"""Errors of client and broker as choreo's errors: the text, and the remedy.

A broker that is away is a StorageError: hosts wait and try again; REST and command line report it. Knows no secrets:
texts come masked.
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
"""Codes of a commit by a consumer that is no member any more."""

PARTITION_END: int = KafkaError._PARTITION_EOF
TIMED_OUT: int = KafkaError._TIMED_OUT
TOO_LATE: int = KafkaError._MSG_TIMED_OUT
QUEUE_FULL: int = KafkaError._QUEUE_FULL
OUT_OF_RANGE: frozenset[int] = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
PASSING: frozenset[int] = frozenset(
    {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT}
)
"""Codes after which the client goes on by itself."""
OUTDATED: frozenset[int] = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
    }
)
"""Codes of a client whose metadata is older than a change of leaders."""
NO_LEADER: int = KafkaError._NOENT
"""A partition has no leader yet: its broker has just started."""
COORDINATOR_MOVES: frozenset[int] = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
    }
)
"""Codes that pass by themselves, without a notification."""
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
"""Codes that an operator must resolve before a consumer gets records."""

_NO_SUCH = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
UNAUTHORIZED: frozenset[int] = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
"""Codes of a user that is authenticated, and not authorized."""
DENIED: frozenset[int] = UNAUTHORIZED | {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._SSL,
}
ALL_DOWN: int = KafkaError._ALL_BROKERS_DOWN
_WRONG_SETTING = frozenset({KafkaError._INVALID_ARG, KafkaError.INVALID_SESSION_TIMEOUT})
TOO_LARGE: frozenset[int] = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})


def for_good(error: KafkaError) -> bool:
    """Return whether the client that reported the error will never work again."""
    return error.fatal() or error.code() == KafkaError._FATAL


def cause_of(error: BaseException | None) -> KafkaError | None:
    """Return the client's error inside an exception."""
    inner = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return inner if isinstance(inner, KafkaError) else None


def sound(places: list[TopicPartition]) -> list[TopicPartition]:
    """Return these places of an answer; raises KafkaException with the error of the first that has one."""
    for place in places:
        if place.error is not None:
            raise KafkaException(place.error)
    return places


def missing(where: str) -> NotFoundError:
    """Return the error for a topic that was never made."""
    return NotFoundError("there is no such topic", where=where, remedy="Make the topics: `choreo topics apply`.")


def complaint(error: KafkaError | BaseException, options: KafkaOptions, where: str) -> ChoreoError:
    """Return the error to raise for one of the client's; `where` names its subject."""
    inner = cause_of(error) if isinstance(error, BaseException) else error
    if inner is None:
        return StorageError(options.masked(str(error)), where=where, remedy=_away(options))
    code, message = inner.code(), options.masked(inner.str())
    if code in _NO_SUCH:
        return missing(where)
    if code in DENIED:
        return StorageError(
            f"the broker refuses it: {message}",
            where=where,
            remedy="Check the CHOREO_KAFKA_SASL_* and CHOREO_KAFKA_SSL_* settings, and the rights of this user.",
        )
    if code in TOO_LARGE:
        return ConflictError(
            f"the event cannot be published: {message}",
            where=where,
            remedy="Publish less in one event, or raise max.message.bytes of the topic and message.max.bytes here.",
        )
    if code in _WRONG_SETTING:
        return SettingsError(message, where=where, remedy="Correct that CHOREO_KAFKA_* setting.")
    return StorageError(f"the request to Kafka failed: {message}", where=where, remedy=_away(options))


def _away(options: KafkaOptions) -> str:
    """Return the remedy where no broker answers.

    A broker that requires TLS or a certificate only closes the connection.
    """
    here = f"It is tried again where that is safe; check that a broker answers at {options.shown}"
    protocol = options.settings.get("security.protocol", "PLAINTEXT")
    return f"{here} to {protocol}, with the settings it requires: CHOREO_KAFKA_SECURITY_PROTOCOL, CHOREO_KAFKA_SSL_*."
