"""The projector folds the log as the tracker does, from its store's position, and publishes nothing."""

from typing import Any

import pytest

from choreo.core import facts
from choreo.core.errors import StorageError
from choreo.core.events import Envelope
from choreo.core.state import encode
from choreo.hosts.projector import LOOK_MS
from choreo.ports.projections import PROJECTOR_GROUP
from choreo.ports.read_model import Filter
from choreo.testing.faults import FaultyBackend
from tests.app.harness import OrderPlaced, Shop
from tests.support.projecting import busy, caught_up, ends, projector, running, until

DAY_S = 86_400


@pytest.fixture
async def shop() -> Shop:
    """Open, with its tracker."""
    return await Shop().open()


async def test_the_read_model_is_the_trackers_fold(shop: Shop) -> None:
    """View by view, and state by state to the byte."""
    await busy(shop)
    store = shop.backend.projections
    async with running(shop, projector(shop, store)):
        await caught_up(shop, store.read_model)
    assert await store.read_model.digest("order") == await shop.backend.read_model.digest("order")
    kept = await store.load("order", 0, list(shop.states))
    assert {key: fold.state for key, fold in kept.items()} == {key: encode(s) for key, s in shop.states.items()}


async def test_it_follows_what_happens(shop: Shop) -> None:
    """And publishes nothing: the log is as long as it was."""
    store = shop.backend.projections
    async with running(shop, projector(shop, store)):
        await busy(shop)
        before = await ends(shop)
        await caught_up(shop, store.read_model)
        await shop.completed("o-1")
        await caught_up(shop, store.read_model)
        view = await store.read_model.instance("order", "o-1")
        assert view is not None
        assert view.status == "completed"
        assert view.attributes["customer"] == "ann"
    assert sum((await ends(shop)).values()) == sum(before.values()) + len(await shop.queries.history("order", "o-1"))


@pytest.mark.parametrize("poll_size", [1, 7, 1_000])
async def test_however_the_log_is_cut_the_same_comes_out(shop: Shop, poll_size: int) -> None:
    """Also of a run that ended, lingered and is forgotten when its key starts anew, all within one batch."""
    await shop.completed("o-1")
    await shop.stuck("o-2")
    await shop.clock.advance(8 * DAY_S)
    await shop.append(OrderPlaced(order_id="o-1", customer="bob"))
    await shop.completed("o-3")
    store = shop.backend.projections
    async with running(shop, projector(shop, store, poll_size=poll_size)):
        await caught_up(shop, store.read_model)
    assert len(await store.read_model.runs("order", "o-1")) == 2
    assert await store.read_model.digest("order") == await shop.backend.read_model.digest("order")


async def test_a_run_that_changes_and_is_forgotten_in_one_batch_is_shown_as_it_was_last(shop: Shop) -> None:
    """It had ended long before; a late fact reached it, and then its key started anew."""
    store = shop.backend.projections
    await shop.completed("o-1")
    async with running(shop, projector(shop, store, "a")):
        await caught_up(shop, store.read_model)
    await shop.clock.advance(6 * DAY_S)
    await shop.fact("o-1", facts.FLOW_PAUSED, n=1)
    await shop.clock.advance(2 * DAY_S)
    await shop.append(OrderPlaced(order_id="o-1", customer="bob"))
    async with running(shop, projector(shop, store, "b")):
        await caught_up(shop, store.read_model)
    assert await store.read_model.digest("order") == await shop.backend.read_model.digest("order")


async def test_a_log_that_is_away_at_the_start_is_waited_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The projector may be started before the broker."""
    await shop.completed("o-1")
    real, refused = shop.backend.log.consumer, [True, True]

    async def consumer(*arguments: Any) -> Any:
        if refused and refused.pop():
            raise StorageError("no broker answers", where="order", remedy="Start one.")
        return await real(*arguments)

    monkeypatch.setattr(shop.backend.log, "consumer", consumer)
    store = shop.backend.projections
    async with running(shop, projector(shop, store)):
        await caught_up(shop, store.read_model)
    assert not refused


async def test_it_goes_on_where_the_store_stands(shop: Shop) -> None:
    """A new process loads the states it needs, with the attributes of runs that started before."""
    store = shop.backend.projections
    await shop.charged("o-1")
    async with running(shop, projector(shop, store, "a")):
        await caught_up(shop, store.read_model)
    await shop.pass_due("o-1", DAY_S)
    async with running(shop, projector(shop, store, "b")):
        await caught_up(shop, store.read_model)
    (view,) = (await store.read_model.instances(Filter(attributes={"customer": "ann"}), 10)).items
    assert view.status == "compensating"
    assert await store.read_model.digest("order") == await shop.backend.read_model.digest("order")


async def test_a_store_that_is_behind_its_group_is_caught_up(shop: Shop) -> None:
    """The group has read to the end; the store was dropped, or restored from an old copy."""
    store = shop.backend.projections
    await busy(shop)
    async with running(shop, projector(shop, store, "a")):
        await caught_up(shop, store.read_model)
    assert {p: o for p, o in (await shop.backend.log.committed("order", PROJECTOR_GROUP)).items() if o} == await ends(
        shop
    )
    await store.read_model.drop("order")
    async with running(shop, projector(shop, store, "b", poll_size=5)):
        await caught_up(shop, store.read_model)
    assert await store.read_model.digest("order") == await shop.backend.read_model.digest("order")


@pytest.mark.parametrize("look_ms", [LOOK_MS, 5 * LOOK_MS])
async def test_dropped_while_it_runs_it_folds_anew(shop: Shop, look_ms: int) -> None:
    """Also where nothing comes any more, and in a process of many flows, which looks at each of them less often."""
    store = shop.backend.projections
    async with running(shop, projector(shop, store, poll_size=10, look_ms=look_ms)):
        await busy(shop)
        await caught_up(shop, store.read_model)
        await store.read_model.drop("order")
        await shop.completed("o-1")
        await caught_up(shop, store.read_model)
    assert await store.read_model.digest("order") == await shop.backend.read_model.digest("order")


async def test_two_share_the_partitions(shop: Shop) -> None:
    """One leaves, the other goes on with its own partitions."""
    store = shop.backend.projections
    stays, leaves = projector(shop, store, "stays"), projector(shop, store, "leaves")
    async with running(shop, stays):
        async with running(shop, leaves):
            await busy(shop)
            await caught_up(shop, store.read_model)
            assert leaves.metrics.read()["projector_events"]
            assert stays.metrics.read()["projector_events"]
        await busy(shop, first=10)
        await caught_up(shop, store.read_model)
    assert await store.read_model.digest("order") == await shop.backend.read_model.digest("order")


async def test_two_that_fold_one_partition_agree(shop: Shop) -> None:
    """One does not know yet that it lost its partitions: the second to save gets an error, and goes on from there."""
    store = shop.backend.projections
    await busy(shop)
    faulty = FaultyBackend(shop.backend)
    held = faulty.faults.hold("projections.save")
    slow = projector(shop, faulty.faults.wrap("projections", store), "slow", poll_size=3, log=faulty.log)
    async with running(shop, slow):
        await until(shop, lambda: bool(held.calls))
        await faulty.revoke(PROJECTOR_GROUP)
        async with running(shop, projector(shop, store, "quick")):
            await caught_up(shop, store.read_model)
            (batch,) = held.calls[0]
            held.lift()
            await busy(shop, first=10)
            await caught_up(shop, store.read_model)
    assert held.answers[0] != batch.position, "it was told where the other one stands"
    assert await store.read_model.digest("order") == await shop.backend.read_model.digest("order")


async def test_what_means_nothing_is_passed_and_kept_in_the_history(shop: Shop) -> None:
    """Records without a key, of an unknown type, or of no run delay nobody."""
    store = shop.backend.projections
    await shop.start("o-1")
    await shop.backend.log.append("order", [Envelope("x-1", "Unheard.Of", "o-1", "order", data=b"\xff")])
    await shop.backend.log.append("order", [Envelope("x-2", "PaymentCharged", "o-9", "order", run="nobody's")])
    await shop.track()
    async with running(shop, projector(shop, store)):
        await caught_up(shop, store.read_model)
    assert [record.event.type for record in await store.read_model.history("order", "o-1")][-1] == "Unheard.Of"
    statuses = {view["key"]: view["status"] for view in (await store.read_model.digest("order")).values()}
    assert statuses == {"o-1": "running", "o-9": "truncated"}


async def test_it_joins_anew_when_its_lease_is_lost(shop: Shop) -> None:
    """Another process of its name takes its seat."""
    store = shop.backend.projections
    first = projector(shop, store, "same")
    async with running(shop, first):
        await until(shop, lambda: first.polled_ms > 0)
        usurper = await shop.backend.log.consumer("order", PROJECTOR_GROUP, "same")
        await usurper.poll(1, 0)
        await usurper.close()
        await busy(shop)
        await caught_up(shop, store.read_model)
    assert await store.read_model.digest("order") == await shop.backend.read_model.digest("order")
