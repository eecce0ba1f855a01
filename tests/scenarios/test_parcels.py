"""An order of many boxes, each a child flow: they ship together, or none of them does."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from choreo import DeclarationError, Service, StepContext, field, otherwise, tolerate
from choreo.settings import Settings, load
from choreo.surfaces.rest.app import create_app
from choreo.surfaces.rest.server import use_cases_of
from choreo.wiring import App, open_app
from tests.support.parcels import FLOWS, OrderPlaced, Parcels, ParcelsShipped
from tests.support.running import ended, running, until


def settings_in(folder: Path) -> Settings:
    """Return the settings of a project of both flows."""
    return load(flows=FLOWS, database=folder / "c.db", topics=folder / "none", partitions=2)


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "sqlite"])
async def test_all_boxes_ship_and_the_customer_is_told(tmp_path: Path, *, memory: bool) -> None:
    """Within a window of four; the results come in the order in which the handler yielded the boxes."""
    parcels = Parcels(window=4)
    async with running(settings_in(tmp_path), memory=memory) as app:
        receipt = await app.publisher.publish("order", OrderPlaced(order_id="o-1", boxes=9))
        assert await ended(app, receipt.position, "o-1") == "completed"
    (shipped,) = parcels.joined
    assert [result.key for result in shipped.results] == [f"o-1-{box}" for box in range(9)]
    assert (shipped.completed, shipped.failed) == (9, 0)
    assert all(parcels.booked.values())


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "sqlite"])
async def test_one_refused_box_recalls_all_others(tmp_path: Path, *, memory: bool) -> None:
    """Boxes whose own run had completed are recalled too."""
    parcels = Parcels()
    async with running(settings_in(tmp_path), memory=memory) as app:
        receipt = await app.publisher.publish("order", OrderPlaced(order_id="o-1", boxes=5, refused=[4]))
        assert await ended(app, receipt.position, "o-1") == "compensated"
        view = await app.queries.instance("order", "o-1")
        assert "ParcelsFailed" in view.row.cause
        statuses = [(await app.queries.instance("parcel", f"o-1-{box}")).row.status for box in range(5)]
    assert statuses == ["compensated"] * 5
    assert not any(parcels.booked.values())


async def test_the_end_of_each_box_is_listed_by_pages(tmp_path: Path) -> None:
    """Each once, with the end that counted for the join: the boxes are recalled afterwards, which is no result."""
    Parcels(join=tolerate(1))
    async with running(settings_in(tmp_path), memory=True) as app:
        receipt = await app.publisher.publish("order", OrderPlaced(order_id="bounced-1", boxes=5, refused=[1]))
        assert await ended(app, receipt.position, "bounced-1") == "compensated"
        transport = httpx.ASGITransport(create_app(use_cases_of(app)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            place = "/flows/order/instances/bounced-1/children?step=fulfilment.split&limit=2"
            pages, after = [], -1
            while not pages or after >= 0:
                pages.append((await client.get(f"{place}&after_offset={after}")).json())
                after = pages[-1]["after"]
            assert (await client.get("/flows/order/instances/nobody/children?step=s")).status_code == 404
    assert [len(page["items"]) for page in pages] == [2, 2, 1]
    found = {end["place"]: (end["key"], end["outcome"]) for page in pages for end in page["items"]}
    assert found == {n: (f"bounced-1-{n}", "compensated" if n == 1 else "completed") for n in range(5)}


async def test_a_tolerated_refusal_does_not_stop_the_order(tmp_path: Path) -> None:
    """The results say which box stays, and why."""
    parcels = Parcels(join=tolerate(1))
    async with running(settings_in(tmp_path), memory=True) as app:
        receipt = await app.publisher.publish("order", OrderPlaced(order_id="o-1", boxes=3, refused=[1]))
        assert await ended(app, receipt.position, "o-1") == "completed"
    (shipped,) = parcels.joined
    assert [result.outcome for result in shipped.results] == ["completed", "compensated", "completed"]
    assert shipped.results[1].reason == "carrier.book failed: ParcelRefused"


async def test_a_failure_after_the_join_recalls_the_boxes(tmp_path: Path) -> None:
    """The children are one effect of their step."""
    parcels = Parcels()
    async with running(settings_in(tmp_path)) as app:
        receipt = await app.publisher.publish("order", OrderPlaced(order_id="bounced-1", boxes=3))
        assert await ended(app, receipt.position, "bounced-1") == "compensated"
    assert parcels.booked == {f"bounced-1-{box}": False for box in range(3)}


async def test_a_cancel_recalls_the_boxes_under_way(tmp_path: Path) -> None:
    """Children that wait for their label are undone with their parent, and no more are started."""
    parcels = Parcels(window=10)
    parcels.gate.clear()
    async with running(settings_in(tmp_path), memory=True) as app:
        receipt = await app.publisher.publish("order", OrderPlaced(order_id="o-1", boxes=30))
        await until(app, lambda: _any_booked(parcels))
        await app.operator.cancel("order", "o-1", reason="changed their mind")
        parcels.gate.set()
        assert await ended(app, receipt.position, "o-1") == "compensated"
        assert (await app.queries.instance("order", "o-1")).row.cause == "cancelled: changed their mind"
    assert parcels.booked
    assert len(parcels.booked) < 30
    assert not any(parcels.booked.values())


async def test_a_pause_reaches_the_boxes(tmp_path: Path) -> None:
    """No label is printed before the order is resumed."""
    parcels = Parcels()
    parcels.gate.clear()
    async with running(settings_in(tmp_path), memory=True) as app:
        receipt = await app.publisher.publish("order", OrderPlaced(order_id="o-1", boxes=2))
        await until(app, lambda: _any_booked(parcels))
        await app.operator.pause("order", "o-1")
        await until(app, lambda: _all_are(app, "paused"))
        view = await app.queries.instance("order", "o-1")
        assert (view.detail.children[0].started, view.detail.children[0].ended) == (2, 0)
        assert any("0 of 2 children have ended, 2 are open" in sentence for sentence in view.waiting_for)
        parcels.gate.set()
        await app.operator.resume("order", "o-1")
        assert await ended(app, receipt.position, "o-1") == "completed"
        assert await _all_are(app, "completed")


async def _any_booked(parcels: Parcels) -> bool:
    return any(parcels.booked.values())


async def _all_are(app: App, status: str) -> bool:
    return all([(await app.queries.instance("parcel", f"o-1-{box}")).row.status == status for box in range(2)])


async def test_two_boxes_of_one_key_start_nothing(tmp_path: Path) -> None:
    """A mistake of the handler is the step's failure, with the key in its reason."""
    parcels = Parcels()
    split = parcels.order.steps["fulfilment.split"]
    handler = split.handler
    split.handler = lambda event, ctx: handler(event, ctx) * 2
    async with running(settings_in(tmp_path), memory=True) as app:
        receipt = await app.publisher.publish("order", OrderPlaced(order_id="o-1", boxes=2))
        assert await ended(app, receipt.position, "o-1") == "compensated"
        cause = (await app.queries.instance("order", "o-1")).row.cause
    assert "two children have the key 'o-1-0'" in cause
    assert not parcels.booked


async def test_a_window_goes_on_after_a_restart(tmp_path: Path) -> None:
    """The process ends while some boxes are under way; the next one starts the rest, and each box once."""
    parcels = Parcels(window=4)
    async with running(settings_in(tmp_path)) as app:
        receipt = await app.publisher.publish("order", OrderPlaced(order_id="o-1", boxes=40))
        await until(app, lambda: _any_booked(parcels))
    before = len(parcels.booked)
    assert before < 40
    async with running(settings_in(tmp_path)) as app:
        assert await ended(app, receipt.position, "o-1") == "completed"
    assert parcels.books == 40
    assert (parcels.joined[-1].completed, parcels.joined[-1].failed) == (40, 0)


async def test_a_child_flow_that_the_project_does_not_have_is_refused(tmp_path: Path) -> None:
    """When the project is opened, with the step's name."""
    Parcels()
    with pytest.raises(DeclarationError, match=r"fulfilment\.split.*flow parcel, which this project does not have"):
        async with open_app(load(flows=FLOWS[:1], database=tmp_path / "c.db", topics=tmp_path / "none"), memory=True):
            raise AssertionError


async def test_children_may_depend_on_the_event_s_data(tmp_path: Path) -> None:
    """An order of one box goes another way, and starts no parcel."""
    parcels = Parcels(when=field("boxes") > 1)
    pack = Service("pack")

    @pack.step(on=OrderPlaced, emits=ParcelsShipped, effect=False, when=otherwise())
    def hand_over(event: OrderPlaced, ctx: StepContext) -> ParcelsShipped:
        return ParcelsShipped(order_id=event.order_id, results=[], completed=0, failed=0)

    parcels.order.services = (*parcels.order.services, pack)
    async with running(settings_in(tmp_path), memory=True) as app:
        for key, boxes in (("one", 1), ("two", 2)):
            receipt = await app.publisher.publish("order", OrderPlaced(order_id=key, boxes=boxes))
            assert await ended(app, receipt.position, key) == "completed"
    assert sorted(parcels.booked) == ["two-0", "two-1"]
