"""The JSON of consumer groups, the same over REST and on the command line."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from choreo.app.query.groups import Group
from choreo.surfaces.json_format import Answer, Moment


class MemberAnswer(Answer):
    """A live member of a group."""

    name: str = Field(examples=["payment-17-0a1b2c3d"])
    id: str = Field(description="New with every membership of the same process.")
    client: str
    host: str = Field(description="Empty on a log without connections.")
    partitions: list[int]


class GroupPartitionAnswer(Answer):
    """A group in one partition."""

    partition: int
    owner: str = Field(description="The member that owns it; empty if none does.")
    client: str
    host: str
    committed: int
    end: int
    lag: int = Field(description="Records that the group has not finished.")
    rate: float | None = Field(description="Records a second that it finishes; null: not known yet.")
    arrivals: float | None = Field(description="Records a second that come.")
    eta_s: float | None = Field(
        description="Seconds until the lag is gone at the present rates; null: never, or unknown."
    )
    progress: Moment = Field(
        validation_alias="progress_ms", description="When its offset was last seen to move; null: not since `since`."
    )


class GroupChangeAnswer(Answer):
    """A change of members or owners."""

    at: Moment = Field(validation_alias="at_ms")
    joined: list[str]
    left: list[str]
    moved: list[int] = Field(description="Partitions with another owner since.")


class GroupAnswer(Answer):
    """A consumer group on a flow's log."""

    flow: str
    name: str = Field(examples=["payment"])
    lag: int
    eta_s: float | None
    members: list[MemberAnswer]
    partitions: list[GroupPartitionAnswer]
    changes: list[GroupChangeAnswer] = Field(description="Of the last five minutes, as this process saw them.")
    contested: list[str] = Field(description="Instances that were taken over again and again: processes share them.")
    changed: int = Field(description="All changes that this process has seen.")
    since: Moment = Field(validation_alias="since_ms", description="When this process began to observe the group.")
    as_of: Moment = Field(validation_alias="as_of_ms")


class GroupList(Answer):
    """Consumer groups."""

    items: list[GroupAnswer]


def groups_of(groups: Iterable[Group]) -> GroupList:
    """Return groups as an answer."""
    return GroupList.model_validate({"items": list(groups)})
