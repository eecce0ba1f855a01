"""The log's time as a process knows it: always within its bounds, with any clock of the machine."""

import random

import pytest

from choreo.adapters.log_clock import LogClock, LogTime
from choreo.testing.conformance import TOPIC, event
from tests.adapters.kafka.conftest import OpenLog

HOUR_MS = 3_600_000


class Machine:
    """A clock that never jumps, a broker's clock, and the machine's own, which is wrong by `skew_ms`."""

    def __init__(self, skew_ms: int) -> None:
        self.elapsed_ms = 1_000
        self.broker_ms = 1_700_000_000_000
        self.skew_ms = skew_ms
        self.log_time = LogTime(lambda: self.elapsed_ms)

    def now_ms(self) -> int:
        """Return the present moment by the machine's clock."""
        return self.broker_ms + self.skew_ms

    async def sleep(self, duration_s: float) -> None:
        """Time passes for all three."""
        self.passes(round(duration_s * 1_000))

    def passes(self, duration_ms: int) -> None:
        """Time passes for all three."""
        self.elapsed_ms += duration_ms
        self.broker_ms += duration_ms

    def appends(self, there_ms: int, back_ms: int) -> None:
        """Publish a record: it takes so long to the broker, and its answer so long to come back."""
        sent_ms = self.elapsed_ms
        self.passes(there_ms)
        stamp_ms = self.broker_ms
        self.passes(back_ms)
        self.log_time.appended(stamp_ms, sent_ms)

    def reads(self, age_ms: int, *, unseen_ms: int | None = None) -> None:
        """Read a record that is so old."""
        self.log_time.read(self.broker_ms - age_ms, unseen_ms)


@pytest.mark.parametrize("seed", range(200))
def test_the_logs_time_lies_within_its_bounds(seed: int) -> None:
    """This holds for reads and writes in any order and with any delay; the tighter bound is kept."""
    chance = random.Random(seed)
    machine = Machine(0)
    for _ in range(100):
        machine.passes(chance.randrange(5_000))
        step = chance.randrange(3)
        if step == 0:
            machine.appends(chance.randrange(50), chance.randrange(50))
        elif step == 1:
            machine.reads(chance.randrange(HOUR_MS))
        else:
            age_ms = chance.randrange(500)
            machine.reads(age_ms, unseen_ms=machine.elapsed_ms - age_ms - chance.randrange(500))
        low, high = machine.log_time.bounds()
        assert low is None or low <= machine.broker_ms
        assert high is None or machine.broker_ms <= high


@pytest.mark.parametrize("skew_ms", [HOUR_MS, -HOUR_MS, 130_000, -130_000])
def test_a_clock_that_is_wrong_is_held_within_the_bounds(skew_ms: int) -> None:
    """After one acknowledgement it is right by the time that took, and the skew is measured."""
    machine = Machine(skew_ms)
    clock = LogClock(machine, machine.log_time)
    assert clock.now_ms() == machine.now_ms()
    machine.appends(10, 10)
    machine.passes(60_000)
    assert abs(clock.now_ms() - machine.broker_ms) <= 20
    assert abs(machine.log_time.skew_ms(machine.now_ms()) - skew_ms) <= 20


@pytest.mark.parametrize("skew_ms", [0, 3, -3])
def test_a_clock_that_is_right_is_left_alone(skew_ms: int) -> None:
    """Within the bounds the machine's own clock is the finer one."""
    machine = Machine(skew_ms)
    machine.appends(10, 10)
    assert LogClock(machine, machine.log_time).now_ms() == machine.now_ms()
    assert machine.log_time.skew_ms(machine.now_ms()) == 0


def test_a_deadline_does_not_pass_because_a_clock_is_ahead_that_nobody_has_checked() -> None:
    """As long as nothing bounds it from above, the patient clock goes by the newest record; the other one does not."""
    machine = Machine(HOUR_MS)
    machine.reads(age_ms=100)
    assert LogClock(machine, machine.log_time, is_patient=True).now_ms() == machine.broker_ms - 100
    assert LogClock(machine, machine.log_time).now_ms() == machine.now_ms()


@pytest.mark.parametrize("set_ms", [HOUR_MS, -HOUR_MS])
def test_a_brokers_clock_may_be_set(set_ms: int) -> None:
    """The newest observation counts, not the one that was the tightest."""
    machine = Machine(0)
    machine.appends(1, 1)
    machine.broker_ms += set_ms
    machine.appends(10, 10)
    assert abs(LogClock(machine, machine.log_time).now_ms() - machine.broker_ms) <= 20


async def test_acknowledgements_bound_the_logs_time(open_log: OpenLog) -> None:
    """On a real broker: its answer carries the stamp."""
    log = open_log()
    await log.create(TOPIC, 1)
    await log.append(TOPIC, [event("e-1")])
    (record,) = await log.read(TOPIC, 0, 0, 1)
    low, high = log.log_time.bounds()
    assert low is not None
    assert high is not None
    assert record.stamp_ms <= low <= high
    assert high - low < HOUR_MS
