"""Every benchmark runs and gives its figures, at sizes that measure nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import raw
from bench.figures import medians, percentile
from bench.flight import LAYOUTS
from bench.restate import folder_of

TIMEOUT_S = 240


def run(module: str, *arguments: str) -> tuple[dict[str, Any], str]:
    """Return the benchmark's document and its stderr."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHOREO_")}
    command = [sys.executable, "-m", f"bench.{module}", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures, done.stderr


def test_embedded_states_both_ways_to_synchronise_every_layout_and_the_raw_loop() -> None:
    """Without the peers Restate is skipped with a message that names the remedy."""
    sizes = ("--rounds", "1", "--orders", "40", "--slow-orders", "2", "--raw-orders", "100", "--warm-up", "20")
    figures, said = run("embedded", *sizes)
    assert "CHOREO_BENCH_PEERS" in said
    assert figures["restate"] == figures["restate_tuned"] == "skipped"
    for synchronous in ("FULL", "NORMAL"):
        beside = figures[synchronous]
        assert {"orders_s", "p50_ms", "p99_ms", "raw_orders_s", "over_raw"} <= beside.keys()
        assert set(beside["processes"]) == set(LAYOUTS)
        assert {"orders_s", "cpu_us_an_order", "p50_ms", "p99_ms"} == beside["http"].keys()


def test_a_start_through_rest_has_its_cost() -> None:
    """In CPU time of the process that serves it."""
    figures, _ = run("rest", "--orders", "100", "--rounds", "1")
    assert {"starts_s", "starts_a_cpu_s", "cpu_us_a_start"} <= figures.keys()


def test_tracing_states_the_cost_of_metrics_and_traces() -> None:
    """In CPU time of an order, over the same without both."""
    figures, _ = run("tracing", "--orders", "20", "--rounds", "1", "--warm-up", "5")
    assert {"off_cpu_us_an_order", "metrics_overhead_percent", "traced_overhead_percent"} <= figures.keys()
    assert figures["traced_cpu_us_an_order"] > 0


def test_step_breaks_the_cost_of_an_event_down() -> None:
    """Read, decode, dispatch, encode, write, and the rest."""
    figures, _ = run("step", "--events", "60", "--rounds", "1")
    assert set(figures["parts_us"]) == {
        *("read_us", "decode_us", "dispatch_us", "encode_us", "write_us", "other_us"),
    }


def test_the_bridge_is_compared_with_a_loop_that_reads_and_appends() -> None:
    """With and without a function that makes the other event."""
    figures, _ = run("bridge", "--events", "200", "--rounds", "1")
    assert {"raw_events_s", "copied_events_s", "made_events_s", "made_over_raw"} == figures.keys()


def test_core_compares_an_empty_store_with_a_full_one() -> None:
    """Here one of 1,000 instances."""
    figures, _ = run("core", "--open", "1000", "--orders", "60", "--rounds", "1")
    assert figures["open_instances"] == 1_000
    assert figures["full_over_empty"] > 0


def test_lists_compares_an_order_beside_lists_with_one_alone() -> None:
    """In one run, on one process."""
    figures, _ = run("lists", "--runs", "2000", "--orders", "3", "--rounds", "1")
    assert figures["runs"] == 2_000
    assert figures["beside_over_alone"] > 0
    assert figures["lists_s"] > 0


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_the_raw_loop_carries_every_order_to_its_end(tmp_path: Path, synchronous: str) -> None:
    """A baseline that lost events would flatter itself."""
    log = raw.RawLog(tmp_path / "raw.db", synchronous)
    raw.carry(log, 100)
    counts = log.counts()
    assert (counts["OrderConfirmed"], counts["StockReleased"]) == (95, 5)


def test_restate_is_skipped_where_the_folder_holds_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the folder."""
    assert folder_of(str(tmp_path)) is None
    assert str(tmp_path) in capsys.readouterr().err


def test_figures_are_medians_and_percentiles() -> None:
    """Of the rounds, by name; of the values, the smallest that is not exceeded by that share."""
    assert medians([{"a": 1.0}, {"a": 9.0}, {"a": 2.0}]) == {"a": 2.0}
    assert percentile(range(100), 99) == 99


def test_children_join_within_a_window() -> None:
    """The parent completes, and its state stays small."""
    figures, _ = run("children", "--children", "30", "--window", "10")
    assert {"children_s", "took_s", "memory_mb", "state_bytes"} <= figures.keys()


def test_lists_of_runs_that_stand_still_are_timed() -> None:
    """With `why`, over orders that were worked."""
    figures, _ = run("stalled", "--runs", "500", "--orders", "30", "--times", "3")
    assert {"stalled", "held_up", "timers", "groups", "catalogue", "why", "why_open"} <= figures.keys()
    assert {"first_ms", "p50_ms", "p95_ms"} == figures["why"].keys()


def test_timers_fire_once_and_not_early() -> None:
    """Each comes due after its own start, also behind a restart of the tracker."""
    figures, _ = run("timers", "--timers", "300")
    assert (figures["early"], figures["lost"]) == (0, 0)
    assert {"begun_s", "restart_s", "fired_s", "memory_mb"} <= figures.keys()
