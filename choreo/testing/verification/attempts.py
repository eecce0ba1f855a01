"""The ends of an attempt: the handler succeeds, declines or fails, with or without its effect, or its process dies.

An attempt that is given up may go on unseen (a zombie): its call lands late, its success is published late.
"""

from __future__ import annotations

from collections.abc import Iterator

from choreo.app.steps.handlers import HandlerSpec
from choreo.app.steps.jobs import Job as StepJob
from choreo.app.steps.jobs import JobResult, compensation_key, forward_key
from choreo.core.errors import NonRetryableError
from choreo.testing.verification import books
from choreo.testing.verification.books import Effect
from choreo.testing.verification.host_state import HostState, Job, Zombie
from choreo.testing.verification.transitions import Step, Transitions

_FAILED = RuntimeError("failed")
_REFUSED = NonRetryableError("refused")


class Attempts:
    """The attempts of one host."""

    def __init__(self, make: Transitions) -> None:
        """Keep the maker of the host's transitions."""
        self._make = make
        step = make.step
        self._tracked = step.compensation is not None and step.effect and step.children is None
        self._repeats = self._tracked or not make.reduces.untracked
        """Whether attempts that end without an outcome differ: only those of a step with an effect to undo."""

    def ends(self, state: HostState, job: Job) -> Iterator[Step]:
        """Yield every end of the first job; its attempt has begun and is counted."""
        if job.undo:
            yield from self._undone(state, job)
            return
        effect = self._effect(state, job)
        made, present = books.act(effect, self._make.trigger_id(job)) if self._tracked else (effect, True)
        after = state.with_effect(made) if self._tracked else state
        for values in self._make.forward.successes if present else ():
            result = self._make.forward.returned(self._work(state, job), values)
            yield from self._succeeds(after, job, result)
        if job.inbox_id and effect.status != books.PRESENT:
            for value in self._make.forward.failures:
                result = self._make.forward.rules.returned(self._work(state, job), value, 0)
                yield self._over(state, job, result, "declines")
        yield from self._fails(state, job, "before its call" if self._tracked else "")
        if made != effect:
            yield from self._fails(after, job, "after its effect")
            yield from self._dies(after, job, "after its effect")
        yield from self._dies(state, job, "before its call")

    def _succeeds(self, state: HostState, job: Job, result: JobResult) -> Iterator[Step]:
        yield self._over(state, job, result, "succeeds")
        recorded, _ = self._make.recorded(self._waiting(state, job), result)
        yield self._make.step_of(recorded, "dies between inbox and log", costs="crash")

    def _fails(self, state: HostState, job: Job, when: str) -> Iterator[Step]:
        """Yield a failure that is tried again soon or later, and one that is not tried again."""
        rules = self._make.rules(job)
        for spec in filter(None, (rules.spec, rules.later)):
            result = rules.rules.raised(self._work(state, job, spec), _FAILED, 0)
            label = f"fails {when}".rstrip()
            if result.retry_ms >= 0 and not self._repeats:
                continue
            if result.retry_ms >= 0:
                yield self._make.step_of(self._waiting(state, job), f"{label}, and tries again")
                if not job.undo:
                    yield self._zombie_of(self._waiting(state, job), job, "is given up and tries again, its call")
            else:
                yield self._over(state, job, result, label)
                if not job.undo:
                    rest = self._zombie_left(state, job)
                    yield self._over(rest, job, result, "is given up, its call under way", "late-success")
        if self._make.rules(job).spec.retry.attempts_max > self._attempt(state, job):
            result = rules.rules.raised(self._work(state, job), _REFUSED, 0)
            yield self._over(state, job, result, f"fails for good {when}".rstrip())

    def _undone(self, state: HostState, job: Job) -> Iterator[Step]:
        event = self._make.records[job.trigger]
        effect = self._effect(state, job)
        after, found = books.undo(effect, compensation_key(event.entry, event.n))
        undone = state.with_effect(after)
        rules = self._make.rules(job)
        value = list(rules.successes[0]) if found and rules.successes else None
        if found and not rules.successes:
            result = rules.rules.failed_for_good(self._work(state, job), "it has no event", 0)
        else:
            result = rules.rules.returned(self._work(state, job), value, 0)
        yield self._over(undone, job, result, "is undone" if found else "finds nothing to undo")
        recorded, _ = self._make.recorded(self._waiting(undone, job), result)
        yield self._make.step_of(recorded, "dies between inbox and log of its compensation", costs="crash")
        yield from self._fails(state, job, "to be undone")
        yield from self._dies(state, job, "before its compensation")
        if after != effect:
            yield from self._fails(undone, job, "after it was undone")
            yield from self._dies(undone, job, "after it was undone")

    def zombie(self, state: HostState, zombie: Zombie) -> Iterator[Step]:
        """Yield the further course of an attempt that was given up: its call lands or does not, its success is late."""
        rest = state._replace(zombies=tuple(each for each in state.zombies if each != zombie))
        if not zombie.called:
            effect = self._effect(state, zombie.job)
            made, present = books.act(effect, self._make.trigger_id(zombie.job))
            yield self._make.step_of(rest, "an attempt that was given up ends without its call")
            if effect.status == books.BARRED and self._tracked:
                passed, _ = books.act(effect, self._make.trigger_id(zombie.job), stubborn=True)
                past = rest.with_effect(passed)._replace(
                    zombies=_with(rest.zombies, zombie._replace(called=True, stubborn=True))
                )
                yield self._make.step_of(past, "the call of an attempt that was given up lands behind its bar")
            if present and self._tracked:
                landed = rest.with_effect(made)
                yield self._make.step_of(landed, "the call of an attempt that was given up lands, its answer is lost")
                again = landed._replace(zombies=_with(landed.zombies, zombie._replace(called=True)))
                yield self._make.step_of(again, "the call of an attempt that was given up lands")
            return
        for values in self._make.forward.successes:
            result = self._make.forward.returned(self._work(state, zombie.job), values)
            yield self._make.done(rest, zombie.job, result, "an attempt that was given up succeeds late")
        if not zombie.stubborn:
            yield self._make.step_of(rest, "an attempt that was given up dies after its effect")

    def _over(self, state: HostState, job: Job, result: JobResult, label: str, costs: str = "") -> Step:
        return self._make.done(state._replace(queue=state.queue[1:]), job, result, label, costs)

    def _dies(self, state: HostState, job: Job, when: str) -> Iterator[Step]:
        if self._repeats:
            yield self._make.step_of(self._waiting(state, job), f"its host dies {when}", costs="crash")

    def _zombie_of(self, state: HostState, job: Job, label: str) -> Step:
        return self._make.step_of(self._zombie_left(state, job), f"{label} under way", costs="late-success")

    def _zombie_left(self, state: HostState, job: Job) -> HostState:
        left = Zombie(job._replace(begun=False), called=self._effect(state, job).status == books.PRESENT)
        return state._replace(zombies=_with(state.zombies, left))

    def _waiting(self, state: HostState, job: Job) -> HostState:
        """Return the state in which the first job waits for its next attempt."""
        return state._replace(queue=(job._replace(begun=False), *state.queue[1:]))

    def _work(self, state: HostState, job: Job, spec: HandlerSpec | None = None) -> StepJob:
        return self._make.work(job, self._attempt(state, job), spec)

    def _attempt(self, state: HostState, job: Job) -> int:
        counted = next((row.begun for row in state.rows if row.trigger == job.inbox_id), 1)
        return max(counted, job.failed + 1)

    def _effect(self, state: HostState, job: Job) -> Effect:
        event = self._make.records[job.trigger]
        trigger = event.trigger if job.undo else event.id
        return state.effect(f"{event.run}/{forward_key(self._make.forward.spec, event.run, trigger)}")


def _with(zombies: tuple[Zombie, ...], zombie: Zombie) -> tuple[Zombie, ...]:
    return tuple(sorted({*zombies, zombie}))
