"""The JSON of the audit list, the same over REST and on the command line."""

from __future__ import annotations

import msgspec
from pydantic import Field

from choreo.app.operator.audit import AuditPage
from choreo.app.query.read_your_writes import token_of
from choreo.surfaces.json_format import Answer, Moment


class AuditRowAnswer(Answer):
    """One action of an operator."""

    time: Moment = Field(validation_alias="stamp_ms", description="Time in the log.")
    type: str = Field(examples=["choreo.FlowPaused"])
    flow: str
    key: str
    run: str
    step: str
    entry: str = Field(description="The ledger entry that it is about.")
    actor: str = Field(examples=["ann"])
    method: str = Field(description="How the actor was established.", examples=["api-key", "oidc", "cli"])
    reason: str
    position: str = Field(examples=["order/3/42"])


class AuditPageAnswer(Answer):
    """Actions of operators, newest first."""

    items: list[AuditRowAnswer]
    cursor: str = Field(description="Ask for the next page with it; empty at the end.")


def audit_of(page: AuditPage) -> AuditPageAnswer:
    """Return a page of operators' actions."""
    items = [{**msgspec.structs.asdict(row), "position": token_of(row.position)} for row in page.items]
    return AuditPageAnswer.model_validate({"items": items, "cursor": page.cursor})
