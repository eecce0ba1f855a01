"""Roles and callers: the rights of each role, the roles of a caller by flow, and the actor that a fact names.

Pure. Knows no route, no credential and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

import msgspec

from choreo.core.errors import SettingsError, printable
from choreo.core.wording import did_you_mean

EVERY_FLOW = "*"
"""In place of a flow's name: the role holds in each flow, also in one that is added later."""

NAME_LENGTH_MAX = 200
"""In characters: the name of an actor is part of a header, and names of providers are at most 255 bytes long."""


class Role(IntEnum):
    """A role of a caller in a flow. Each one has the rights of those before it."""

    VIEWER = 1
    PUBLISHER = 2
    OPERATOR = 3
    ADMIN = 4

    @property
    def shown(self) -> str:
        """Return the role's name in settings and answers."""
        return self.name.lower()


RIGHTS: Mapping[Role, str] = {
    Role.VIEWER: "reads; fields that are declared sensitive are hidden",
    Role.PUBLISHER: "also publishes events",
    Role.OPERATOR: "also sees sensitive fields, and pauses, resumes, cancels and retries",
    Role.ADMIN: "also terminates, resolves and redrives",
}
"""The rights of each role, for people."""


def role_of(text: str, where: str) -> Role:
    """Return the role of this name; raises SettingsError with the known names."""
    known = {role.shown: role for role in Role}
    if text not in known:
        raise SettingsError(
            f"there is no role {text!r:.60}",
            where=where,
            remedy=f"{did_you_mean(text, known)}The roles are {', '.join(known)}.",
        )
    return known[text]


class Actor(NamedTuple):
    """The author of an operator's fact: a name, and the method by which the name was established."""

    name: str
    method: str

    @property
    def text(self) -> str:
        """Return the actor as the header holds it: the method, a slash, the name."""
        return f"{self.method}/{self.name}"

    @property
    def shown(self) -> str:
        """Return the actor for people; empty for none."""
        return f"{self.name} ({self.method})" if self.name else self.method


PROGRAM: Actor = Actor("program", "python")
"""The actor of a call from Python that names none."""
ANONYMOUS: Actor = Actor("anonymous", "rest")
"""The actor of a request to a REST view without access control."""


def actor_of(text: str) -> Actor:
    """Return the actor in a header; a header of another form is a name without a method."""
    method, slash, name = text.partition("/")
    return Actor(name, method) if slash else Actor(text, "")


def actor_named(name: str, method: str) -> Actor:
    """Return the actor of a foreign name: in one line, at most `NAME_LENGTH_MAX` characters."""
    text = "".join(character if character.isprintable() else "?" for character in printable(name, NAME_LENGTH_MAX))
    return Actor(text.strip() or "unnamed", method)


class Caller(msgspec.Struct, frozen=True):
    """The caller of a request, with its roles by flow."""

    id: str
    """Distinguishes callers for the rate limit: two keys may have had the same name."""
    actor: Actor
    roles: Mapping[str, Role]

    def role_in(self, flow: str) -> Role | None:
        """Return the caller's role in a flow; None where it has none."""
        return max((self.roles[name] for name in (flow, EVERY_FLOW) if name in self.roles), default=None)

    def may(self, role: Role, flow: str) -> bool:
        """Return whether the caller has this role, or a greater one, in the flow."""
        own = self.role_in(flow)
        return own is not None and own >= role

    def may_somewhere(self, role: Role) -> bool:
        """Return whether the caller has this role, or a greater one, in any flow."""
        return any(own >= role for own in self.roles.values())


EVERYBODY: Caller = Caller("", ANONYMOUS, {EVERY_FLOW: Role.ADMIN})
"""The caller where no access control is configured."""


def granted(text: str, where: str) -> dict[str, Role]:
    """Return the roles in a text such as `operator` (in every flow) or `viewer:order,trip`; raises SettingsError."""
    role, _, flows = text.partition(":")
    found = role_of(role.strip(), where)
    names = [name.strip() for name in flows.split(",") if name.strip()] or [EVERY_FLOW]
    return dict.fromkeys(names, found)


def joined(parts: list[dict[str, Role]]) -> dict[str, Role]:
    """Return the roles of several grants: in each flow the greatest one."""
    together: dict[str, Role] = {}
    for part in parts:
        for flow, role in part.items():
            together[flow] = max(role, together.get(flow, role))
    return together
