"""Bearer tokens of an OpenID Connect provider: a signed JWT becomes a caller with roles.

Checked: signature (RS256 or ES256, by a key of the provider), issuer, audience, expiry, not-before. The algorithm
comes from this list and never from the token alone, so neither `none` nor HMAC with a public key is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from choreo.adapters.access.key_set import Jwk, KeySource
from choreo.core.access import Caller, Role, actor_named, granted, joined
from choreo.core.errors import SettingsError
from choreo.ports.access import UnauthenticatedError
from choreo.ports.clock import Clock

METHOD = "oidc"
ALGORITHMS: Mapping[str, type[RSAKey | ECKey]] = {"RS256": RSAKey, "ES256": ECKey}
"""Every provider offers one of them."""
LEEWAY_S = 30
"""Clocks of two machines differ by less; a token lives for minutes."""
TOKEN_BYTES_MAX = 16_384
"""A server's limit of a header is 8 to 16 KiB; a longer token is not looked at."""


class TokenOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The provider, and the meaning of its tokens."""

    issuer: str
    audience: str
    roles: Mapping[str, str]
    """Value of the roles' claim → grant, such as `operator` or `viewer:order,trip`."""
    roles_claim: str = "roles"
    """Place of the values; a dot leads into an object: `realm_access.roles`."""
    name_claim: str = "sub"


class Tokens:
    """Finds the caller of a token."""

    scheme: str = "openIdConnect"

    def __init__(self, options: TokenOptions, keys: KeySource, clock: Clock) -> None:
        """Take the provider; raises SettingsError on a grant that cannot be read, or where a setting is missing."""
        for name in ("issuer", "audience", "roles"):
            if not getattr(options, name):
                raise SettingsError(
                    "it is needed to accept tokens",
                    where=f"setting oidc_{name}",
                    remedy=f"Set CHOREO_OIDC_{name.upper()}.",
                )
        self._options = options
        self._grants = {value: granted(text, f"setting oidc_roles.{value}") for value, text in options.roles.items()}
        self._keys = keys
        self._claims = jwt.JWTClaimsRegistry(
            lambda: clock.now_ms() // 1_000,
            LEEWAY_S,
            iss={"essential": True, "value": options.issuer},
            aud={"essential": True, "value": options.audience},
            exp={"essential": True},
            sub={"essential": True},
        )

    def takes(self, credential: str) -> bool:
        """Return whether it looks like a signed JWT."""
        return credential.count(".") == 2

    async def caller(self, credential: str) -> Caller:
        """Return the subject of the token, with the roles that the mapping gives it: none, if no value is mapped."""
        claims = await self._verified(credential)
        name = _at(claims, self._options.name_claim)
        subject = str(claims["sub"])
        return Caller(
            f"{METHOD}/{subject}",
            actor_named(name if isinstance(name, str) and name else subject, METHOD),
            self._roles(_at(claims, self._options.roles_claim)),
        )

    async def _verified(self, credential: str) -> Mapping[str, Any]:
        if len(credential) > TOKEN_BYTES_MAX:
            raise _refused("the token is too long")
        try:
            header = jws.extract_compact(credential.encode()).headers()
            algorithm, kid = header.get("alg"), header.get("kid")
            if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
                raise _refused(f"the token's algorithm is none of {', '.join(ALGORITHMS)}")
            keys = await self._keys.with_id(kid if isinstance(kid, str) else None)
            claims = _opened(credential, algorithm, keys)
            self._claims.validate(claims)
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise _refused(_why(error)) from error
        return claims

    def _roles(self, values: Any) -> dict[str, Role]:
        """Return the roles of the claim's values: a list, or a text with spaces between them."""
        named = values.split() if isinstance(values, str) else values if isinstance(values, list) else []
        return joined([self._grants[value] for value in named if isinstance(value, str) and value in self._grants])


def _opened(credential: str, algorithm: str, keys: list[Jwk]) -> dict[str, Any]:
    """Return the claims of a token that one of these keys has signed; raises UnauthenticatedError, JoseError."""
    class_ = ALGORITHMS[algorithm]
    fitting = [key for key in keys if key["kty"] == class_.key_type and key.get("alg", algorithm) == algorithm]
    if not fitting:
        raise _refused("the provider has no key of the token's id and algorithm")
    failure: JoseError | ValueError | None = None
    for key in fitting:
        try:
            return jwt.decode(credential, class_.import_key(dict(key)), algorithms=[algorithm]).claims
        except (JoseError, ValueError) as error:
            failure = error
    raise failure or _refused("no key fits")


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """Return the value at a place; a name with dots of its own, such as a URL, is taken first."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _why(error: Exception) -> str:
    """Return the reason for people, without the token: a library's message may repeat a part of it."""
    reasons = {
        "expired_token": "the token has expired",
        "missing_claim": "the token lacks a claim: iss, aud, exp or sub",
        "bad_signature": "the token's signature is not the provider's",
    }
    code = getattr(error, "error", "")
    if code == "invalid_claim":
        claim = getattr(error, "claim", "")
        return f"the token's claim {claim} does not fit" if claim else "a claim of the token does not fit"
    return reasons.get(code, "the token cannot be read")


def _refused(what: str) -> UnauthenticatedError:
    return UnauthenticatedError(
        what, where="header Authorization", remedy="Ask the provider for a new token for this audience."
    )
