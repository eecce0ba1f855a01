"""A flow and the children that its steps start: the parent's world, the bridge, and an automaton for each child.

The bridge carries the orders in the parent's log one after the other, and each child's ends. It may die before its
commit and carry once more. Each child has the counts of the limited moves for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from choreo.core import facts, ids
from choreo.core.children import FAILED, JOINED, OK, UNDONE
from choreo.core.crossing import JSON, Ended, Place, crossings, encode
from choreo.core.definition import ChildrenDefinition, FlowDefinition
from choreo.core.events import Envelope
from choreo.core.run_view import Invariant
from choreo.core.state import COMPENSATED, REQUESTED, RESOLVED, RUNNING, Run
from choreo.testing.verification import canonical
from choreo.testing.verification.child_runs import END, START, Child, name_of
from choreo.testing.verification.pool import Pool
from choreo.testing.verification.world import BUDGET, HOSTS, LOG, Move, State, World


class Kid(NamedTuple):
    """One child."""

    run: str
    """The parent's run."""
    step: str
    trigger: str
    place: int
    id: str
    """The id of its start event, as the bridge has made it."""
    state: int
    ends: tuple[tuple[str, int], ...] = ()
    """Its ends that the bridge has not carried: outcome and number."""
    first: str = ""
    """The first end that its parent has read."""
    undone: bool = False
    """Whether its parent has read that it is compensated."""


Kids = tuple[Kid, ...]


class FamilyWorld(World):
    """The states of a parent with those of its bridge and children: (… the parent's, orders carried, children)."""

    def __init__(
        self,
        flow: FlowDefinition,
        budget: Mapping[str, int],
        invariants: Sequence[Invariant],
        children: Mapping[str, Child],
    ) -> None:
        """`children`: step that starts children → their automaton."""
        super().__init__(flow, budget, invariants, families={step: child.flow for step, child in children.items()})
        self._children = children
        self._kids: Pool[Kids] = Pool()
        self._broken: dict[tuple[int, int], str] = {}
        self.start: State = (*self.start, 0, self._kids.number(()))

    def moves(self, state: State) -> list[Move]:
        """Return the moves of the parent, of the bridge, and of each child."""
        *alone, carried, number = state
        parent, kids = tuple(alone), self._kids[number]
        found: list[Move] = [
            (label, (*after, carried, number), due, wrong) for label, after, due, wrong in super().moves(parent)
        ]
        orders = self.orders[self.logs[parent[LOG]].orders]
        if carried < len(orders):
            label, changed, wrong = self._ordered(kids, self.records[orders[carried]])
            after = self._kids.number(changed)
            found.append((label, (*parent, carried + 1, after), True, wrong))
            dead = self.after(parent[BUDGET], "crash")
            if dead >= 0:
                again = (*parent[:BUDGET], dead, *parent[HOSTS:], carried, after)
                found.append((f"{label}, and dies before its commit", again, False, wrong))
        for at, kid in enumerate(kids):
            found += self._of_child(parent, carried, kids, at, kid)
        return found

    def _of_child(self, parent: State, carried: int, kids: Kids, at: int, kid: Kid) -> Iterator[Move]:
        def changed(new: Kid) -> int:
            return self._kids.number((*kids[:at], new, *kids[at + 1 :]))

        for label, action, target, due in self._children[kid.step].moves[kid.state]:
            if action in ((), ("free",)):
                after = changed(kid._replace(state=target))
                yield f"child {kid.place}: {label}", (*parent, carried, after), due, ""
            elif action[0] == END:
                ends = (*kid.ends, (action[1], int(action[2])))
                after = changed(kid._replace(state=target, ends=ends))
                yield f"child {kid.place} publishes that it is {action[1]}", (*parent, carried, after), due, ""
        if kid.ends:
            found: list[Move] = []
            (outcome, n), *left = kid.ends
            log, flight, budget = parent[:HOSTS]
            label = f"bridge carries that child {kid.place} is {outcome}"
            self.append(found, (log, flight, budget, parent[HOSTS:]), label, (self._end(kid, outcome, n),))
            read = kid._replace(first=kid.first or outcome, undone=kid.undone or outcome == UNDONE)
            after, again = changed(read._replace(ends=tuple(left))), changed(read)
            yield from ((text, (*into, carried, after), due, wrong) for text, into, due, wrong in found)
            dead = self.after(budget, "crash")
            if dead >= 0 and read != kid:
                _, (into, *_), _, wrong = found[0]
                after_death = (into, flight, dead, *found[0][1][HOSTS:], carried, again)
                yield f"{label}, and dies before its commit", after_death, False, wrong

    def _end(self, kid: Kid, outcome: str, n: int) -> int:
        """Return the record of a child's end in the parent's log."""
        child = self._children[kid.step].flow
        key = f"k-{kid.place}"
        parent = Place(self.table.flow.name, canonical.KEY, kid.run, kid.step, kid.trigger, kid.place)
        event = Envelope(
            id=ids.of_run("child-ended", kid.id, n), type=facts.CHILD_ENDED, key=key, flow=child.name, run=kid.id,
            n=n, parent=encode(parent).decode(), content_type=JSON, data=encode(Ended(key, outcome)),
        )  # fmt: skip
        (crossed,) = crossings(event)
        return self.records.number(canonical.fact(crossed))

    def _ordered(self, kids: Kids, order: Envelope) -> tuple[str, Kids, str]:
        """Return the label of an order that is carried, the children after it, and the promise that it breaks."""
        place = order.n  # each child has a batch of its own
        label = f"bridge carries {order.type} to child {place}"
        about = (order.run, order.step, order.trigger, place)
        at = next((n for n, kid in enumerate(kids) if kid[:4] == about), -1)
        for told in crossings(order, self._plan(order)):
            is_start = order.type == facts.CHILDREN_DUE
            if is_start and at >= 0:
                twice = f"promise 2: child {place} of {order.step} is started twice, under two ids"
                return label, kids, "" if told.id == kids[at].id else twice
            if at < 0 and not is_start:
                return label, kids, f"promise 4: {order.type} comes to child {place} of {order.step} before its start"
            name = START if is_start else name_of(told.type, told.n if "Compensation" not in told.type else 0)
            kid = Kid(*about, told.id, 0) if at < 0 else kids[at]
            moves = self._children[order.step].moves[kid.state]
            target = next((edge.target for edge in moves if edge.action == (name,)), kid.state)
            others = kids if at < 0 else (*kids[:at], *kids[at + 1 :])
            return label, tuple(sorted((*others, kid._replace(state=target)))), ""
        return label, kids, ""

    def _plan(self, order: Envelope) -> Envelope | None:
        """Return the batch of starts that an order is about."""
        about = (facts.CHILDREN_PLANNED, order.run, order.step, order.trigger, order.n)
        for event in self.records.values:
            if (event.type, event.run, event.step, event.trigger, event.n) == about:
                return event
        return None

    def wrong(self, state: State) -> str:
        """Return the promise that this state breaks."""
        found = super().wrong(state)
        if found:
            return found
        key = (state[LOG], state[-1])
        if key not in self._broken:
            kids, runs = self._kids[state[-1]], self.state_of(state).runs
            asked = [self.records[n] for n in self.orders[self.logs[state[LOG]].orders]]
            sentences = (self._of_family(run, kids) or _unasked(run, kids, asked) for run in runs)
            self._broken[key] = next(filter(None, sentences), "")
        return self._broken[key]

    def _of_family(self, run: Run, kids: Kids) -> str:
        for known in run.children:
            rule = self.table.steps[known.step].children
            mine = [kid for kid in kids if (kid.run, kid.step, kid.trigger) == (run.id, known.step, known.trigger)]
            if rule is None:
                continue
            open_ = sum(not (kid.first or kid.ends) for kid in mine)
            if rule.window and open_ > rule.window:
                return f"promise 6: {open_} children of {known.step} are open, and its window is {rule.window}"
            decided = decision([kid.first for kid in mine if kid.first], known.total, rule)
            if known.decision == JOINED and decided != JOINED:
                return f"promise 6: {known.step} is joined, and its children have not ended so"
            awaited = run.status == RUNNING and not run.paused_ms and run.expects(known.step, known.trigger)
            if decided and awaited and not known.decision:
                return f"promise 3: {known.step} has read the ends of its children, and is not joined"
        return ""

    def wrong_end(self, state: State) -> str:
        """Return the promise that an end of parent and children breaks."""
        found = super().wrong_end(state)
        if found:
            return found
        for run in self.state_of(state).runs:
            for kid in self._kids[state[-1]]:
                end = self._children[kid.step].ends[kid.state]
                if kid.run == run.id and (wrong := _left(run, kid, end)):
                    return wrong
        return ""


def _unasked(run: Run, kids: Kids, orders: Sequence[Envelope]) -> str:
    """Return promise 4 if a step is undone, and a child of it that has started is not asked to be."""
    asked = {
        (order.step, order.trigger, order.n)
        for order in (*orders, *run.outbox)
        if order.run == run.id and order.type == facts.CHILDREN_COMPENSATION_REQUESTED
    }
    requested = [entry for entry in run.ledger if entry.state == REQUESTED and entry.due_ms and not run.paused_ms]
    about = {(run.id, entry.step, entry.trigger) for entry in requested}
    for kid in kids:
        if kid[:3] in about and not kid.undone and (kid.step, kid.trigger, kid.place) not in asked:
            return f"promise 4: {kid.step} is undone, and child {kid.place} is not asked to be"
    return ""


def _left(run: Run, kid: Kid, end: str) -> str:
    """Return the promise that a child's end breaks, beside the end of its parent."""
    if "paused" in end and not run.paused_ms:
        return f"promise 5: child {kid.place} of {kid.step} is paused, and its parent is {run.shown}"
    if run.status == COMPENSATED and end == OK and not _by_hand(run, kid.step):
        return f"promise 4: the run is compensated, and child {kid.place} of {kid.step} is completed"
    return ""


def _by_hand(run: Run, step: str) -> bool:
    return any(entry.step == step and entry.state == RESOLVED for entry in run.ledger)


def decision(ends: Sequence[str], total: int, rule: ChildrenDefinition) -> str:
    """Return how a join is to be decided on these ends; "" while more are awaited."""
    succeeded = sum(end == OK for end in ends)
    failed = len(ends) - succeeded
    if rule.first:
        return JOINED if succeeded >= rule.first else FAILED if total - failed < rule.first else ""
    if failed > rule.tolerated:
        return FAILED
    return JOINED if len(ends) == total else ""
