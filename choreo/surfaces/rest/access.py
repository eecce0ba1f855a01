"""Enforce access control before a request is routed: a route that is added later is refused until it has a role.

Plain ASGI. The decision is `access_control`'s, the table `roles`'.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Depends, Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from choreo.core.access import ANONYMOUS, EVERY_FLOW, EVERYBODY, Caller, Role
from choreo.core.errors import ChoreoError, StorageError, UnavailableError
from choreo.ports.access import UnauthenticatedError
from choreo.surfaces.rest.access_control import (
    CALLER,
    AccessControl,
    ForbiddenError,
    NoCredentialError,
    TooManyRequestsError,
)
from choreo.surfaces.rest.problems import problem
from choreo.surfaces.rest.roles import METRICS, OPEN, ROUTES, Need, Within

_ROUTE = "choreo.route"
"""Key of the table's entry in a request's scope."""
_STILL = "choreo.still"
"""Key of the question whether the caller would still be admitted."""
CHECK_MS = 1_000
"""How often an open stream asks it: a revoked key reads on for a second at most."""

_log = logging.getLogger(__name__)


class RouteTable:
    """The role of each route, found by the method and the path of a request."""

    def __init__(self, routes: Mapping[str, Need]) -> None:
        """Take the roles by method and path, such as `GET /flows/{flow}`."""
        self._needs = routes
        self._patterns = [
            (name.split(" ")[0], re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", name.split(" ")[1])), name)
            for name in routes
        ]

    def need(self, name: str) -> Need | None:
        """Return the role of a route; None where it has none."""
        return self._needs.get(name)

    def find(self, scope: Scope) -> tuple[str, str]:
        """Return the entry for a request, and the flow in its path; ("", "") where there is none."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        for known, pattern, name in self._patterns:
            found = pattern.fullmatch(scope["path"]) if known == method else None
            if found:
                flow = found.groupdict().get("flow", "")
                return name, unquote_to_bytes(flow).decode(errors="replace")
        return "", ""


API = RouteTable(ROUTES)
"""The routes of the REST view."""


def authorization_of(scope: Scope) -> list[str]:
    """Return the values of the header Authorization."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == b"authorization"]


def refusal(scope: Scope, error: ChoreoError) -> Response:
    """Return the answer to a request that is not passed on, as a problem document."""
    status, headers = refusal_status(error)
    return problem(scope["path"], status, error.what, where=error.where, remedy=error.remedy, headers=headers)


class StillAdmitted:
    """Asks again whether the caller of an open stream would be admitted; at most once a second."""

    def __init__(
        self, control: AccessControl, authorization: Callable[[], Sequence[str]], need: Need | None, flow: str
    ) -> None:
        """Take the function that returns the caller's credential, for as long as the stream is open."""
        self._control = control
        self._authorization = authorization
        self._need = need
        self._flow = flow
        self._asked_ms = control.clock.elapsed_ms()

    async def __call__(self) -> bool:
        """Return False once the credential is revoked or expired, or its role does not suffice any more."""
        now_ms = self._control.clock.elapsed_ms()
        if now_ms - self._asked_ms < CHECK_MS:
            return True
        self._asked_ms = now_ms
        try:
            caller = await self._control.owner(self._authorization())
            if self._need is not None:
                _require(caller, self._need, self._flow)
        except (UnauthenticatedError, ForbiddenError):
            return False
        except (UnavailableError, StorageError) as error:
            # It cannot be decided now: the stream goes on, as long as the provider or the file is away.
            _log.warning("whether an open stream may go on cannot be decided: %s", error)
        return True


class Access:
    """Passes requests with a sufficient role on, with their caller in the scope."""

    def __init__(
        self,
        app: ASGIApp,
        control: AccessControl | None,
        *,
        table: RouteTable = API,
        authorization: Callable[[Scope], Sequence[str]] = authorization_of,
        refuse: Callable[[Scope, ChoreoError], Response] = refusal,
    ) -> None:
        """Without a control everybody may do everything."""
        self._app = app
        self._control = control
        self._table = table
        self._authorization = authorization
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401, 403, 429 or 503."""
        if scope["type"] != "http" or self._control is None:
            await self._app({**scope, CALLER: EVERYBODY, _ROUTE: "any"}, receive, send)
            return
        name, flow = self._table.find(scope)
        try:
            caller = await self._admitted(self._control, scope, name, flow)
        except ChoreoError as error:
            address = (scope.get("client") or ("",))[0]
            status, _ = refusal_status(error)
            _log.info("%s %s from %s: %d, %s", scope["method"], scope["path"], address, status, error.what)
            await self._refuse(scope, error)(scope, receive, send)
            return
        still = StillAdmitted(self._control, lambda: self._authorization(scope), self._table.need(name), flow)
        await self._app({**scope, CALLER: caller, _ROUTE: name, _STILL: still}, receive, send)

    async def _admitted(self, control: AccessControl, scope: Scope, name: str, flow: str) -> Caller:
        """Return the caller; a path that is not in the table needs only a credential here, and `Listed` follows."""
        need = self._table.need(name)
        if need is OPEN or (name == METRICS and control.open_metrics):
            return Caller("", ANONYMOUS, {})
        client = scope.get("client") or ("", 0)
        caller = await control.caller(self._authorization(scope), client[0])
        if need is not None:
            _require(caller, need, flow)
        return caller


async def _always() -> bool:
    return True


def still_admitted(request: Request) -> Callable[[], Awaitable[bool]]:
    """Return a function that says, for a stream, whether its reader would still be admitted."""
    still: Callable[[], Awaitable[bool]] = request.scope.get(_STILL, _always)
    return still


async def _listed(request: Request) -> None:
    if not request.scope[_ROUTE]:
        raise ForbiddenError(
            "nobody may use this route",
            where="this route",
            remedy="Its role is missing in choreo/surfaces/rest/roles.py.",
        )


Listed: Any = Depends(_listed)
"""Dependency of the application: refuse a route that has no entry in the table. A path without a route stays a 404."""


def _require(caller: Caller, need: Need, flow: str) -> None:
    """Raise ForbiddenError where the caller lacks the role."""
    if need.within is Within.FLOW:
        require(caller, need.role, flow)
    elif need.within is Within.EVERY:
        require(caller, need.role, EVERY_FLOW)
    elif not caller.may_somewhere(need.role):
        raise _lacks(caller, need.role, "in any flow")


def require(caller: Caller, role: Role, flow: str) -> None:
    """Raise ForbiddenError where the caller has not this role in the flow, or a greater one."""
    if not caller.may(role, flow):
        raise _lacks(caller, role, "in every flow" if flow == EVERY_FLOW else f"in flow {flow}")


def _lacks(caller: Caller, role: Role, where: str) -> ForbiddenError:
    return ForbiddenError(
        f"this needs the role {role.shown} {where}, and {caller.actor.shown} has it not",
        where="header Authorization",
        remedy="Use a credential with that role, or ask for one: docs/how-to/access.md.",
    )


def refusal_status(error: ChoreoError) -> tuple[int, dict[str, str]]:
    """Return the status of the answer to a request that is not passed on, and its headers."""
    if isinstance(error, TooManyRequestsError):
        return 429, {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, ForbiddenError):
        return 403, {}
    if isinstance(error, UnauthenticatedError):
        # RFC 6750, 3: the code of the error only where a credential was sent.
        code = "" if isinstance(error, NoCredentialError) else ', error="invalid_token"'
        return 401, {"WWW-Authenticate": f'Bearer realm="choreo"{code}'}
    return 503, {}
