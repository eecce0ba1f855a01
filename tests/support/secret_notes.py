"""A project with sensitive fields in its events, for tests of the answers that hide them."""

from typing import Annotated

from choreo import Event, Flow, Sensitive, Service, StepContext


class Noted(Event):
    """A note with a secret."""

    note_id: str
    card: Annotated[str, Sensitive()]
    colour: str = "red"


class Filed(Event):
    """It is filed; the secret is a search attribute."""

    note_id: str
    code: Annotated[str, Sensitive()]


class Closed(Event):
    """A person closed it."""

    note_id: str
    card: Annotated[str, Sensitive()]


class Overdue(Event):
    """Nobody closed it."""

    note_id: str


class Gone(Event):
    """It is given up."""

    note_id: str


archive = Service("archive")


@archive.step(on=Noted, emits=Filed, effect=False)
async def file(event: Noted, ctx: StepContext) -> Filed:
    """File it."""
    return Filed(note_id=event.note_id, code=event.card)


note = Flow("note", key="note_id", starts=Noted, completes=Closed, fails=Gone, deadline="1d", services=[archive])
note.wait(on=Filed, until=Closed, timeout="1h", fails=Overdue)
note.attribute("code", Filed, field="code")
