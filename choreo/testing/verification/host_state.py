"""The state of the abstract host of one step, as a value: its queue, its inbox, and the truth about its effects."""

from __future__ import annotations

from typing import NamedTuple

from choreo.adapters.inbox_rules import Remembered
from choreo.core.events import Envelope
from choreo.testing.verification.books import Effect
from choreo.testing.verification.pool import Pool

BEGUN_MAX = 2
"""Attempts are counted up to here: no rule distinguishes a second from a third."""


class Job(NamedTuple):
    """One record to be handled, as a host has read it."""

    undo: bool
    trigger: int
    """Number of the trigger, with its run; of a compensation that of its request."""
    source: int
    """Number of the record that asked for it."""
    inbox_id: str
    before: bool
    """Whether it stands in the log before the fact that stops its run."""
    known: int = 0
    """The newest fact of the pause series before it in the log."""
    paused: bool = False
    failed: int = 0
    redriven: bool = False
    begun: bool = False
    """Whether its attempt has begun and goes on."""


class Row(NamedTuple):
    """A row of the inbox."""

    trigger: str
    begun: int
    slot: str
    outcome: tuple[int, ...] | None


class Zombie(NamedTuple):
    """An attempt that was given up and goes on. `called`: whether its call has landed, with the effect made."""

    job: Job
    called: bool
    stubborn: bool = False
    """Whether the call has got past the bar of a compensation: its success is published, then."""


class HostState(NamedTuple):
    """All of one host. `ran` and `published` are the truth, which no rule reads."""

    queue: tuple[Job, ...] = ()
    rows: tuple[Row, ...] = ()
    slots: tuple[tuple[str, str], ...] = ()
    """(run, trigger)."""
    effects: tuple[Effect, ...] = ()
    forgot: bool = False
    ran: tuple[tuple[str, str, int], ...] = ()
    """(run, trigger, attempts that have begun)."""
    published: tuple[tuple[str, str, str], ...] = ()
    """(subject, type, id) of its events in the log."""
    zombies: tuple[Zombie, ...] = ()
    dead: tuple[int, ...] = ()
    """Triggers that are dead letters."""

    def effect(self, key: str) -> Effect:
        """Return the effect with this key."""
        return next((effect for effect in self.effects if effect.key == key), Effect(key))

    def with_effect(self, effect: Effect) -> HostState:
        """Return the state with this effect."""
        return self._replace(effects=_put(self.effects, effect, effect.key))

    def ran_once_more(self, run: str, trigger: str) -> HostState:
        """Return the state after one more attempt of this trigger has begun."""
        times = min(BEGUN_MAX, self.times(trigger) + 1)
        left = [each for each in self.ran if each[1] != trigger]
        return self._replace(ran=tuple(sorted([*left, (run, trigger, times)])))

    def times(self, trigger: str) -> int:
        """Return how many attempts of this trigger have begun."""
        return next((n for _, known, n in self.ran if known == trigger), 0)

    @property
    def runs_again(self) -> bool:
        """Return whether a lost inbox may let a step run again, and the end of its job is still to come.

        A success, and a failure that leaves a doubt, open a compensated run again.
        """
        return self.forgot and any(not job.undo for job in self.queue)

    def outcome(self, trigger: str) -> tuple[int, ...] | None:
        """Return the outcome that the inbox has for this trigger."""
        return next((row.outcome for row in self.rows if row.trigger == trigger), None)

    def inbox(self, step: str, records: Pool[Envelope]) -> tuple[dict[tuple[str, str], Remembered], dict]:  # type: ignore[type-arg]
        """Return the rows and slots in the form of the product's rules, which change them."""
        rows = {
            (row.trigger, step): Remembered(
                "", row.begun, row.slot, None if row.outcome is None else [records[n] for n in row.outcome]
            )
            for row in self.rows
        }
        return rows, {(run, step): trigger for run, trigger in self.slots}

    def with_inbox(
        self,
        rows: dict[tuple[str, str], Remembered],
        slots: dict[tuple[str, str], str],
        numbers: Pool[Envelope],
    ) -> HostState:
        """Return the state with these rows and slots."""
        kept = [
            Row(
                trigger,
                min(BEGUN_MAX, row.begun),
                row.slot,
                None if row.outcome is None else tuple(numbers.number(event) for event in row.outcome),
            )
            for (trigger, _), row in rows.items()
        ]
        taken = sorted((run, trigger) for (run, _), trigger in slots.items())
        return self._replace(rows=tuple(sorted(kept, key=lambda row: row.trigger)), slots=tuple(taken))


def _put(items: tuple[Effect, ...], item: Effect, key: str) -> tuple[Effect, ...]:
    return tuple(sorted([*(each for each in items if each.key != key), item]))
