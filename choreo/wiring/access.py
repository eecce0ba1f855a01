"""The access control of a REST view, by the settings: which kinds of credentials it takes, and the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from choreo.adapters.access.api_keys import ApiKeys
from choreo.core.errors import MissingExtraError, SettingsError
from choreo.ports.access import Authenticator
from choreo.ports.clock import Clock
from choreo.settings import Settings

if TYPE_CHECKING:
    from choreo.surfaces.rest.access_control import AccessControl


def access_control(settings: Settings, clock: Clock) -> AccessControl | None:
    """Return the access control; None where none is set. Raises SettingsError, StorageError, MissingExtraError."""
    if not settings.has_access_control:
        return None
    from choreo.surfaces.rest.access_control import AccessControl  # noqa: PLC0415 - an optional extra

    authenticators: list[Authenticator] = []
    if settings.api_keys is not None:
        authenticators.append(ApiKeys(settings.api_keys, clock))
    if settings.oidc_issuer:
        authenticators.append(_tokens(settings, clock))
    return AccessControl(authenticators, clock, rate_limit=settings.rate_limit, open_metrics=settings.open_metrics)


def _tokens(settings: Settings, clock: Clock) -> Authenticator:
    try:
        from choreo.adapters.access.key_set import KeySource  # noqa: PLC0415 - an optional extra
        from choreo.adapters.access.tokens import TokenOptions, Tokens  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError.of(
            f"tokens need {error.name}, which is not installed", where="setting oidc_issuer", extra="oidc"
        ) from error
    if not settings.oidc_jwks:
        raise SettingsError(
            "it is needed to accept tokens",
            where="setting oidc_jwks",
            remedy="Set CHOREO_OIDC_JWKS to the provider's jwks_uri, or to the path of a file.",
        )
    options = TokenOptions(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        roles=settings.oidc_roles,
        roles_claim=settings.oidc_roles_claim,
        name_claim=settings.oidc_name_claim,
    )
    return Tokens(options, KeySource(settings.oidc_jwks, clock), clock)
