"""Play trips while every process of their flow is killed, one after the other, and compare each end with the log."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from choreo.adapters.avro.codec import AvroCodec
from choreo.app.publish.publisher import Receipt
from choreo.settings import load
from choreo.wiring import App, open_app
from tests.support.fleet import Fleet
from tests.support.patience import PATIENCE_S
from tests.support.running import ended, events, until
from tests.support.trips import TripApproved, TripAsked, TripConfirmed, TripRejected

ROLES = ("flights", "hotels", "cars", "desk", "tracker")
TRIPS = 60
FLOW = "trip"
CITIES = ("Rome", "Oslo", "Atlantis")
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
ANSWERS = ("approve", "early", "reject", "none")


class Customers:
    """Answer each offer once, as the number of its trip says."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.answered: set[str] = set()

    async def answer(self, least: int) -> bool:
        """Answer the new offers; return whether there were so many in all."""
        for key in (await events(self.app, FLOW, "TripOffered")).keys() - self.answered:
            self.answered.add(key)
            if wanted(key) == "approve":
                await self.app.publisher.publish(FLOW, TripApproved(trip_id=key))
            elif wanted(key) == "reject":
                await self.app.publisher.publish(FLOW, TripRejected(trip_id=key))
        return len(self.answered) >= least


def wanted(key: str) -> str:
    """Return the answer of the customer of this trip."""
    return ANSWERS[int(key.removeprefix("t-")) % len(ANSWERS)]


async def trips_end_as_they_must(fleet: Fleet, *also: str) -> None:
    """Play trips on the storage that the environment names; `also` are roles that run all the time."""
    async with open_app(load()) as app:
        await app.backend.create_topics()
        for role in also:
            fleet.start(role)
        try:
            await _play(app, fleet)
        finally:
            fleet.kill_all()


async def _play(app: App, fleet: Fleet) -> None:
    """Answer before and after the offer; each trip is offered once, with the data of all its bookings."""
    receipts: dict[str, Receipt] = {}
    cities = {f"t-{number}": CITIES[number % len(CITIES)] for number in range(TRIPS)}
    customers = Customers(app)
    workers = {role: fleet.start(role) for role in ROLES}
    for number, (key, city) in enumerate(cities.items()):
        receipts[key] = await app.publisher.publish(
            FLOW, TripAsked(trip_id=key, city=city), baggage={"city": city}, traceparent=TRACE
        )
        if wanted(key) == "early":
            await app.publisher.publish(FLOW, TripApproved(trip_id=key), allow_early=True)
        if number % 4 == 3:
            await until(app, partial(customers.answer, number // 2), FLOW, PATIENCE_S)
            role = ROLES[number // 4 % len(ROLES)]
            fleet.kill(workers[role])
            workers[role] = fleet.start(role)
    offered = sum(city != "Atlantis" for city in cities.values())
    await until(app, partial(customers.answer, offered), FLOW, PATIENCE_S)
    ends = {key: await ended(app, receipt.position, key, FLOW) for key, receipt in receipts.items()}
    expected = await expected_outcomes(app, cities)
    assert ends == {key: "compensated" if outcome == "undone" else "completed" for key, outcome in expected.items()}
    assert all(len(ids) == 1 for ids in (await events(app, FLOW, "TripOffered")).values())
    closed, confirmed = await events(app, FLOW, "TripClosed"), await events(app, FLOW, "TripConfirmed")
    assert closed.keys() == {key for key, outcome in expected.items() if outcome == "lapsed"}
    assert confirmed.keys() == {key for key, outcome in expected.items() if outcome == "confirmed"}
    for key, ids in confirmed.items():
        (record,) = ids.values()
        text = AvroCodec().decode(TripConfirmed, record.event.content_type, record.event.data).text
        assert text == f"{cities[key]}: seat {len(cities[key])}, room 7"
    await _all_carry_what_the_start_had(app, cities)
    assert await app.queries.dead_letters() == []


async def _all_carry_what_the_start_had(app: App, cities: Mapping[str, str]) -> None:
    """Check the headers of every event of choreo: whichever process made it, at whichever attempt."""
    for number in range(await app.backend.log.partitions(FLOW)):
        for record in await app.backend.log.read(FLOW, number, 0, 100_000):
            event = record.event
            if event.type not in ("TripApproved", "TripRejected"):
                assert (event.baggage, event.traceparent) == (f"city={cities[event.key]}", TRACE), event


async def expected_outcomes(app: App, cities: Mapping[str, str]) -> dict[str, str]:
    """Return how each trip must end: an offer lapses if its time-out stands in the log before the answer."""
    outcomes: dict[str, str] = {}
    late, yes, no = [await events(app, FLOW, type_) for type_ in ("OfferLapsed", "TripApproved", "TripRejected")]
    for key, city in cities.items():
        answers = [record.offset for record in {**yes.get(key, {}), **no.get(key, {})}.values()]
        lapsed = [record.offset for record in late.get(key, {}).values()]
        if city == "Atlantis":
            outcomes[key] = "undone"
        elif not answers or (lapsed and min(lapsed) < min(answers)):
            outcomes[key] = "lapsed"
        else:
            outcomes[key] = "undone" if key in no else "confirmed"
    return outcomes
