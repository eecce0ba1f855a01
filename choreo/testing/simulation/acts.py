"""The table of acts: the function that performs each kind of action of a plan on a running seed."""

from __future__ import annotations

from collections.abc import Mapping

from choreo.testing.simulation import others, process_faults
from choreo.testing.simulation.conductor import Act
from choreo.testing.simulation.plan import START

ACTS: Mapping[str, Act] = {
    START: others.start,
    "outside-early": others.early,
    "outside-never": others.never,
    "kill": process_faults.kill,
    "zombie": process_faults.freeze,
    "rebalance": process_faults.scale,
    "broker-away": process_faults.servers,
    "redis-away": process_faults.servers,
    "broker-skew": process_faults.leader_skew,
    "slow-network": process_faults.slow,
    "lost-answer": process_faults.requests,
    "torn-batch": process_faults.requests,
    "clock-skew": process_faults.skew,
    "inbox-emptied": process_faults.empty_inbox,
    "read-model-emptied": process_faults.empty_read_model,
    "duplicate": others.duplicate,
    "foreign-duplicate": others.foreign_duplicate,
    "foreign-start": others.foreign_start,
    "poison": others.poison,
    "cancel": others.operate,
    "pause": others.operate,
    "terminate": others.operate,
    "redrive": others.redrive,
}
