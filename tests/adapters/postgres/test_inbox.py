"""The inbox in PostgreSQL beyond the suite: a lost one, batches that meet, lost answers, odd ids, expiry."""

import asyncio
from collections.abc import Sequence

import pytest

from choreo.core.errors import StorageError
from choreo.ports.inbox import AttemptGrant, AttemptLease, AttemptRequest, RunMark
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance.inbox import outcome
from choreo.testing.conformance.stores import CHARGE, LINGER_MS, Lose, certain
from tests.adapters.postgres.conftest import SCHEMA, Opener, PostgresStores
from tests.support.postgres_server import OwnPostgres


async def test_another_process_learns_that_the_inbox_was_lost(
    shared_postgres: OwnPostgres, stores: PostgresStores, opened: Opener, lose: Lose
) -> None:
    """It reads the note of the first one that noticed."""
    await stores.inbox("payment").begin([CHARGE])
    await lose()
    await stores.inbox("payment").begin([CHARGE])
    assert not await certain(opened(shared_postgres.url), "t-1", 1)


async def test_an_inbox_that_the_log_knows_by_another_name_is_lost(
    shared_postgres: OwnPostgres, stores: PostgresStores, opened: Opener, lose: Lose
) -> None:
    """A process that starts after the loss has only the name that the log has noted."""
    await stores.inbox("payment").compare([])
    noted = stores.inbox("payment").name
    await lose()
    later = opened(shared_postgres.url)
    await later.inbox("payment").compare([noted])
    await later.inbox("payment").begin([CHARGE])
    assert later.inbox("payment").name not in {"", noted}
    assert not await certain(later, "t-1", 1)
    await later.inbox("shipping").compare([])
    await later.inbox("shipping").begin([CHARGE])
    (published,) = await later.inbox("shipping").record([outcome(certain_if=1)])
    assert published.certain, "another service's inbox is another's"


async def test_processes_that_find_a_new_inbox_together_know_it_by_one_name(
    shared_postgres: OwnPostgres, stores: PostgresStores, opened: Opener
) -> None:
    """They create the tables together, too; and the inbox is whole."""
    several = [stores, *(opened(shared_postgres.url) for _ in range(4))]
    await asyncio.gather(*(each.inbox("payment").compare([]) for each in several))
    assert len({each.inbox("payment").name for each in several}) == 1
    await several[0].inbox("payment").begin([CHARGE])
    assert await certain(several[1], "t-1", 1)


async def test_batches_that_meet_begin_each_attempt_once(
    shared_postgres: OwnPostgres, stores: PostgresStores, opened: Opener
) -> None:
    """Ten processes begin the same triggers in different orders: one holds each, and one trigger has each slot."""
    batch = [
        AttemptRequest(f"t-{n}-{duplicate}", "charge", f"r-{n}", f"r-{n}") for n in range(30) for duplicate in range(2)
    ]
    inboxes = [stores.inbox("payment"), *(opened(shared_postgres.url).inbox("payment") for _ in range(9))]

    async def begin(number: int) -> list[AttemptGrant]:
        order = sorted(batch, key=lambda attempt: hash((number, attempt.trigger)))
        answers = await inboxes[number].begin(order, AttemptLease(f"process-{number}", 60_000))
        return [answer for _, answer in sorted(zip(order, answers, strict=True), key=lambda pair: pair[0].trigger)]

    answers: Sequence[list[AttemptGrant]] = await asyncio.gather(*map(begin, range(10)))
    for of_one_trigger in zip(*answers, strict=True):
        begun = [answer for answer in of_one_trigger if answer.count]
        assert [answer.count for answer in begun] in ([1], [])
        assert all(answer.held_ms or answer.slot_holder for answer in of_one_trigger if not answer.count)
    assert sum(answer.count for each in answers for answer in each) == 30


async def test_a_call_whose_answer_was_lost_counts_once(own_postgres: OwnPostgres, opened: Opener) -> None:
    """A server that hangs carries out the requests later; the attempt that is begun again is the same one."""
    inbox = opened(own_postgres.url, timeout_s=0.5).inbox("payment")
    await inbox.begin([AttemptRequest("t-0", "charge", "r-0")])
    own_postgres.freeze()
    for _ in range(3):
        with pytest.raises(StorageError, match="See what keeps it busy"):
            await inbox.begin([CHARGE])
    own_postgres.thaw()
    patient = opened(own_postgres.url)
    assert await inbox.begin([CHARGE]) == [AttemptGrant(1)]
    assert await inbox.begin([CHARGE]) == [AttemptGrant(2)]
    assert await patient.inbox("payment").begin([CHARGE]) == [AttemptGrant(3)]


async def test_holds_that_lapsed_while_the_server_was_away_are_respected(
    own_postgres: OwnPostgres, opened: Opener, clock: VirtualClock
) -> None:
    """Their processes could not renew them: a living one has the time of one lease to do so."""
    holder, successor = opened(own_postgres.url).inbox("payment"), opened(own_postgres.url).inbox("payment")
    short, hold = AttemptLease("a", 1), AttemptLease("b", 10_000)
    await holder.begin([CHARGE, AttemptRequest("t-2", "charge", "r-2")], short)
    own_postgres.stop()
    with pytest.raises(StorageError):
        await successor.begin([CHARGE], hold)
    own_postgres.start()
    (held,) = await successor.begin([CHARGE], hold)
    assert 0 < held.held_ms <= 10_000
    assert held.count == 0
    await holder.renew([("t-1", "charge")], AttemptLease("a", 60_000))
    await clock.advance(10)
    living, dead = await successor.begin([CHARGE, AttemptRequest("t-2", "charge", "r-2")], hold)
    assert living.held_ms > 10_000
    assert dead == AttemptGrant(2)


async def test_many_ended_runs_are_forgotten_in_pieces(
    shared_postgres: OwnPostgres, stores: PostgresStores, clock: VirtualClock
) -> None:
    """Every one goes with its rows and slots, and so do expired entries that belong to no run; the identity stays."""
    inbox = stores.inbox("payment")
    await inbox.begin([AttemptRequest(f"t-{n}", "charge", f"r-{n}", f"r-{n}") for n in range(1_200)])
    await inbox.begin([AttemptRequest("t-x", "charge", "")])
    await inbox.mark({f"r-{n}": RunMark(ended=True) for n in range(1_200)})
    await clock.advance(1)
    assert await inbox.forget(clock.now_ms()) == 1_200
    assert shared_postgres.query(f'SELECT trigger FROM "{SCHEMA}".inbox_rows') == [("t-x",)]
    await clock.advance(LINGER_MS / 1_000)
    await inbox.forget(0)
    for table in ("rows", "slots", "runs"):
        assert shared_postgres.query(f'SELECT 1 FROM "{SCHEMA}".inbox_{table}') == []
    assert len(shared_postgres.query(f'SELECT 1 FROM "{SCHEMA}".inbox_identities')) == 1
