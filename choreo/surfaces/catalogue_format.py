"""The JSON of the event catalogue, the same over REST and on the command line."""

from __future__ import annotations

from pydantic import Field

from choreo.surfaces.json_format import Answer, Moment


class SeenPartAnswer(Answer):
    """A producer or version of an event that was seen."""

    name: str = Field(examples=["payment.charge"])
    count: int
    last: Moment = Field(validation_alias="last_ms")
    declared: bool


class SeenSchemaAnswer(Answer):
    """A schema in which an event was seen, compared with the declared class by one sample."""

    name: str = Field(examples=["schema 7"])
    count: int
    last: Moment = Field(validation_alias="last_ms")
    missing: list[str] = Field(description="Declared fields that the sample has not.")
    extra: list[str] = Field(description="Fields of the sample that are not declared.")
    unreadable: str = Field(description="Why the present class cannot read it; empty if it can.")


class ConsumerAnswer(Answer):
    """A declared consumer."""

    name: str = Field(examples=["shipping.ship"])
    last: Moment = Field(validation_alias="last_ms", description="When it was last seen to make an event.")


class EventEntryAnswer(Answer):
    """An event type of a flow."""

    flow: str
    type: str = Field(examples=["PaymentCharged"])
    declared: bool
    producers: list[str] = Field(description="Declared: steps, `outside`, `tracker`.")
    consumers: list[ConsumerAnswer]
    seen_producers: list[SeenPartAnswer]
    versions: list[SeenPartAnswer] = Field(description="Versions of the flow in which it was seen.")
    schemas: list[SeenSchemaAnswer]
    count: int = Field(description="Events among the records looked at.")
    first: Moment = Field(validation_alias="first_ms")
    last: Moment = Field(validation_alias="last_ms")
    position: str = Field(description="The last one; empty if none was seen.")
    drift: list[str] = Field(description="Differences between declaration and log, as sentences.")


class CatalogueAnswer(Answer):
    """The events of a flow, those with drift first."""

    flow: str
    items: list[EventEntryAnswer]
    records: int = Field(description="Records that were looked at.")
    since: Moment = Field(validation_alias="since_ms", description="Time of the oldest one.")


class CatalogueList(Answer):
    """The events of several flows."""

    items: list[CatalogueAnswer]
