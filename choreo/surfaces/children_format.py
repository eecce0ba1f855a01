"""The ends of children, as REST shows them."""

from __future__ import annotations

from pydantic import Field

from choreo.surfaces.json_format import Answer


class ChildEndAnswer(Answer):
    """The end of one child that counts for the join."""

    place: int = Field(description="Its place among the starts that the handler has yielded, from 0.")
    key: str
    outcome: str = Field(description="completed, compensated, stuck or terminated.")
    reason: str


class ChildEndPage(Answer):
    """Ends in log order."""

    items: list[ChildEndAnswer]
    after: int = Field(description="Ask for the rest with it; -1 at the end.")
