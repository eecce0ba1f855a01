"""The benchmarks on Kafka run and give their figures, at sizes that measure nothing; on a real broker and Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support import required
from tests.support.redis_server import OwnRedis

TIMEOUT_S = 280


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A broker, or a skip that says what is missing."""
    OwnRedis(tmp_path_factory.mktemp("redis"))
    with required.bootstrap(tmp_path_factory.mktemp("kafka")) as address:
        yield address


def run(module: str, *arguments: str) -> dict[str, Any]:
    """The benchmark's document."""
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
