"""The cluster of a log, as another client of it sees it."""

from __future__ import annotations

from choreo.adapters.kafka.cluster.requests import Cluster
from choreo.adapters.kafka.log import KafkaLog
from choreo.ports.dependencies import NoReports


def cluster_of(log: KafkaLog) -> Cluster:
    """Return a client of the cluster that the log lies on, with the log's options."""
    return Cluster(log.options, NoReports())
