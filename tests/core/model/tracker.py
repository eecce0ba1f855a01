"""A tracker as its host runs it: reads, folds, writes the state, publishes decisions, commits, dies in between."""

from __future__ import annotations

from choreo.core.events import Envelope
from choreo.core.react import react
from choreo.core.state import KeyState, decode, encode
from choreo.core.timers import due, next_due
from tests.core.model.world import KEY, CrashedError, World


class Tracker:
    """One owner after another of one partition; what `stored` and `committed` hold survives all of them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.stored: list[bytes] = [encode(KeyState())]
        """Every state ever written: a new owner may find any that is not behind the committed offset."""
        self.committed = 0
        self.take()

    @property
    def state(self) -> KeyState:
        """Return the state of the present owner."""
        return self._state

    @property
    def idle(self) -> bool:
        """Return whether all is read, and all that was decided stands in the log."""
        return self.committed == len(self._world.log) and not self._unacknowledged()

    def work(self, most: int) -> None:
        """Read some records and do what follows, unless it dies on the way."""
        try:
            self._work(most)
        except CrashedError:
            self.take()

    def emit_due(self, ahead_ms: int = 0) -> None:
        """Publish the facts that are due by the clock; a clock may run ahead of the log's."""
        if not self._live:
            return
        for fact in due(self._world.table, KEY, self._state, self._world.now_ms + ahead_ms):
            if fact.id not in self._timers_said:
                self._timers_said.add(fact.id)
                self._world.publish([fact])

    def next_due_ms(self) -> int:
        """Return the next moment at which a fact is due; 0 if there is none."""
        return next_due(self._state)

    def take(self) -> None:
        """Take over the partition: with a state as it was stored, which may be old."""
        world = self._world
        fresh_enough = [state for state in self.stored if decode(state).position >= self.committed - 1]
        self._state = decode(world.chance.choice(fresh_enough))
        self._position = self.committed
        self._silent_until = len(world.log)
        self._said: set[tuple[str, str]] = set()
        self._timers_said: set[str] = set()

    @property
    def _live(self) -> bool:
        return self._position >= self._silent_until

    def _work(self, most: int) -> None:
        world = self._world
        for record in world.log[self._position : self._position + most]:
            event = record.event
            if event.due_ms and record.stamp_ms < event.due_ms:
                self._timers_said.discard(event.id)
            self._state, _ = react(world.table, self._state, record)
            self._position += 1
        world.crash_point(0.02, "tracker before its state is written")
        self.stored.append(encode(self._state))
        world.crash_point(0.02, "tracker before it says its decisions")
        if self._live:
            for fact in self._unacknowledged():
                self._said.add((fact.id, fact.type))
                world.publish([fact])
                world.crash_point(0.02, "tracker between two decisions")
        world.crash_point(0.02, "tracker before it commits")
        self.committed = self._position

    def _unacknowledged(self) -> list[Envelope]:
        decided = [fact for run in self._state.runs for fact in run.outbox]
        return [fact for fact in decided if (fact.id, fact.type) not in self._said]
