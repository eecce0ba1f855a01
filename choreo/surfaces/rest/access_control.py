"""Decide on a request: the caller (a credential in `Authorization: Bearer …`), and whether its role suffices.

Knows credentials, roles and limits; the roles of the routes stand in `roles`, their enforcement in `access`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from choreo.core.access import Caller
from choreo.core.errors import ChoreoError
from choreo.ports.access import Authenticator, UnauthenticatedError
from choreo.ports.clock import Clock
from choreo.surfaces.rest.rate_limit import Buckets

CALLER = "choreo.caller"
"""Key of the caller in a request's scope."""

FAILURES_PER_S = 1 / 6
FAILURES_BURST = 10
"""Ten wrong credentials at once from one address, then ten a minute: a person that mistypes is not locked out."""

_NETWORK_BITS = 64
"""An IPv6 customer has a whole /64; each of its addresses as one would be no limit."""


class ForbiddenError(ChoreoError):
    """The caller is known, and its role does not suffice."""


class TooManyRequestsError(ChoreoError):
    """The caller has made too many requests, or its address has sent too many wrong credentials."""

    def __init__(self, what: str, *, where: str, remedy: str, wait_s: float) -> None:
        """Keep the time after which a request is accepted again."""
        self.retry_after_s: int = max(1, math.ceil(wait_s))
        super().__init__(what, where=where, remedy=remedy)


class AccessControl:
    """Finds the caller of a request, within the limits."""

    def __init__(
        self,
        authenticators: Sequence[Authenticator],
        clock: Clock,
        *,
        rate_limit: float = 0,
        open_metrics: bool = False,
    ) -> None:
        """Take the kinds of credentials; `rate_limit`: requests of one caller a second, 0 for no limit."""
        self._authenticators = authenticators
        self._requests = Buckets(rate_limit, 2 * rate_limit, clock)
        self._failures = Buckets(FAILURES_PER_S, FAILURES_BURST, clock)
        self.open_metrics: bool = open_metrics
        self.clock: Clock = clock

    @property
    def schemes(self) -> list[str]:
        """Return the kinds of credentials that are accepted, for the API's description."""
        return [each.scheme for each in self._authenticators]

    async def caller(self, authorization: Sequence[str], address: str) -> Caller:
        """Return the caller by the values of the header Authorization; `address` is that of the client.

        Raises UnauthenticatedError, TooManyRequestsError, and UnavailableError or StorageError.
        """
        credential = _credential(authorization)
        network = _network(address)
        # Before the credential is looked at: a blocked address must not learn whether its next guess is right.
        blocked_s = self._failures.wait_s(network)
        if blocked_s:
            raise TooManyRequestsError(
                "too many wrong credentials came from this address",
                where=address,
                remedy="Correct the credential, and try again later.",
                wait_s=blocked_s,
            )
        try:
            caller = await self._owner(credential)
        except UnauthenticatedError:
            self._failures.take(network)
            raise
        wait_s = self._requests.take(caller.id)
        if wait_s:
            raise TooManyRequestsError(
                "too many requests were made with this credential",
                where=caller.actor.shown,
                remedy="Send fewer, or raise CHOREO_RATE_LIMIT.",
                wait_s=wait_s,
            )
        return caller

    async def owner(self, authorization: Sequence[str]) -> Caller:
        """Return the caller once more, for a stream that it has open: this counts as no request."""
        return await self._owner(_credential(authorization))

    async def _owner(self, credential: str) -> Caller:
        for each in self._authenticators:
            if each.takes(credential):
                return await each.caller(credential)
        raise UnauthenticatedError(
            "the credential is of no kind that is accepted here",
            where="header Authorization",
            remedy=f"Accepted: {', '.join(self.schemes)}.",
        )


class NoCredentialError(UnauthenticatedError):
    """The request has no credential: no guess, so it does not count as one."""


def _credential(authorization: Sequence[str]) -> str:
    """Return the bearer credential; raises NoCredentialError."""
    if len(authorization) > 1:
        raise NoCredentialError(
            "the request has more than one Authorization", where="header Authorization", remedy="Send one."
        )
    scheme, _, credential = "".join(authorization).strip().partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not credential:
        raise NoCredentialError(
            "a key or a token is needed",
            where="header Authorization",
            remedy="Send `Authorization: Bearer …` with an API key or a token of the provider.",
        )
    return credential


def _network(address: str) -> str:
    """Return the part of an address that one client has to itself."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else f"{int(found) >> (128 - _NETWORK_BITS):x}/64"
    return str(found)
