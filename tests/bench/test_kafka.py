"""The benchmarks on Kafka run and give their figures, at sizes that measure nothing; on a real broker and Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support.redis_server import OwnRedis

TIMEOUT_S = 280


@pytest.fixture(scope="module")
def bootstrap(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return where the broker answers, or skip where redis-server is missing."""
    OwnRedis(tmp_path_factory.mktemp("redis"))
    return kafka


def run(module: str, *arguments: str) -> dict[str, Any]:
    """Return the benchmark's document."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHOREO_")}
    command = [sys.executable, "-m", f"bench.{module}", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def test_every_part_gives_its_figures(bootstrap: str) -> None:
    """The chain by process, the step beside the bare one, the tracker over the log that the chain has left."""
    sizes = ("--rounds", "1", "--orders", "100", "--slow-orders", "3", "--warm-up", "20")
    few = ("--raw-orders", "200", "--step-events", "200")
    figures = run("kafka", "--bootstrap", bootstrap, *sizes, *few)
    chain = figures["chain"]
    assert {"orders_s", "p50_ms", "p99_ms", "ended_p50_ms", "shown_p50_ms", "over_raw"} <= chain.keys()
    services = {"inventory", "payment", "shipping", "notification", "tracker", "projector"}
    assert services | {"redis", "client"} == chain["cpu_ms_an_order_by_process"].keys()
    assert {"choreo", "bare", "over_bare", "cpu_over_bare"} == figures["step"].keys()
    assert {"orders_s", "p50_ms", "p99_ms"} == figures["raw"].keys()
    # 123 orders of at least six records each.
    assert figures["tracker"]["events"] >= 123 * 6
    assert figures["restate"] == "skipped"


def test_the_million_measures_an_empty_and_a_full_store_and_both_restarts(bootstrap: str) -> None:
    """Here a million is two thousand."""
    figures = run("kafka_million", "--bootstrap", bootstrap, "--open", "2000", "--orders", "40", "--spread", "50")
    assert figures["open_instances"] == 2_000
    rates = ("events_s_empty", "events_s_full", "events_s_full_spread_keys", "full_over_empty")
    assert all(figures[name] > 0 for name in rates)
    assert len(figures["events_s_filling_by_quarter"]) == 4
    assert figures["restart_warm_s"] > 0
    assert figures["restart_cold_s"] > 0


def test_lists_compares_an_order_beside_lists_with_one_alone(bootstrap: str) -> None:
    """On the read model in Redis, with each role in a process of its own."""
    figures = run("lists", "--bootstrap", bootstrap, "--runs", "2000", "--orders", "3", "--rounds", "1")
    assert figures["runs"] == 2_000
    assert figures["beside_over_alone"] > 0
    assert figures["lists_s"] > 0


def test_many_flows_give_what_each_role_needs(bootstrap: str) -> None:
    """Each role reports when it has worked an event of every flow, and its CPU when it is idle."""
    figures = run("kafka_flows", "--bootstrap", bootstrap, "--flows", "2", "--partitions", "2", "--idle-s", "1")
    for role in ("tracker", "projector", "work"):
        assert figures[role]["ready_s"] > 0
        assert figures[role]["idle_cpu_percent"] >= 0
        assert figures[role]["threads"] > 1
        assert figures[role]["descriptors_a_partition"] > 0


def test_a_long_history_and_many_partitions_are_compared(bootstrap: str) -> None:
    """The end of a key's history with its beginning, and 64 partitions with 8."""
    figures = run("kafka_history", "--bootstrap", bootstrap, "--events", "400", "--orders", "20")
    assert figures["old_over_young"] > 0
    assert figures["many_over_few"] > 0
