"""Answers of a broker that pass by themselves are no errors; the others are reported at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from itertools import chain, repeat
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from choreo.adapters.kafka.cluster.requests import Cluster
from choreo.adapters.kafka.errors import COORDINATOR_MOVES, NO_LEADER, OUTDATED
from choreo.adapters.kafka.options import KafkaOptions
from choreo.core.errors import StorageError
from choreo.ports.dependencies import NoReports

TOPIC = "order"


class Broker:
    """Answers with these codes, then with the partition's end; no request reaches a network."""

    def __init__(self, *codes: int) -> None:
        self.codes = chain(codes, repeat(0))
        self.clients: list[AdminClient] = []

    def question(self, client: AdminClient, _timeout_s: float, parts: Collection[Any]) -> Mapping[Any, Future[Any]]:
        """Return an answer to each part."""
        self.clients.append(client)
        answers: dict[Any, Future[Any]] = {}
        for part in parts:
            answers[part] = Future()
            if code := next(self.codes):
                answers[part].set_exception(KafkaException(KafkaError(code)))
            else:
                answers[part].set_result(7)
        return answers

    async def asked(self, request_s: float = 10.0) -> dict[Any, Any]:
        """Ask it about one partition."""
        options = KafkaOptions("127.0.0.1:9", request_s=request_s)
        return await Cluster(options, NoReports()).answers("ends", TOPIC, [0], self.question)


@pytest.mark.parametrize("code", sorted(COORDINATOR_MOVES | OUTDATED | {NO_LEADER}))
async def test_a_change_of_leaders_passes(code: int) -> None:
    """A broker may say it several times: right after a start, or before it has read its metadata."""
    assert await Broker(*[code] * 4).asked() == {0: 7}


async def test_outdated_metadata_is_asked_of_a_new_client() -> None:
    """A client never asks again for a partition's leader."""
    broker = Broker(*[KafkaError.NOT_LEADER_FOR_PARTITION] * 3)
    await broker.asked()
    assert len({id(client) for client in broker.clients[1:]}) == 3


@pytest.mark.parametrize("code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.NOT_COORDINATOR])
async def test_it_is_reported_once_the_time_of_a_request_is_over(code: int) -> None:
    """The error names the topic."""
    with pytest.raises(StorageError, match="topic 'order'"):
        await Broker(*[code] * 1_000).asked(request_s=0)
