"""Tokens of a provider with a key set on a loopback server: right ones, and each way to be wrong."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from choreo.adapters.access.key_set import BYTES_MAX, KEEP_MS, REFRESH_MS, KeySource
from choreo.adapters.access.tokens import LEEWAY_S, TokenOptions, Tokens
from choreo.core.access import EVERY_FLOW, Role
from choreo.core.errors import SettingsError, UnavailableError
from choreo.ports.access import UnauthenticatedError
from choreo.testing.clock import VirtualClock

ISSUER, AUDIENCE = "https://login.example.org/realms/shop", "choreo"
RSA = RSAKey.generate_key(2048, {"kid": "r-1", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "e-1", "alg": "ES256"})
OTHER = RSAKey.generate_key(2048, {"kid": "r-1"})
"""Of somebody else, under a known id."""
OPTIONS = TokenOptions(
    issuer=ISSUER,
    audience=AUDIENCE,
    roles={"ops": "operator", "boss": "admin:trip", "team": "viewer:order,trip"},
    roles_claim="realm_access.roles",
    name_claim="preferred_username",
)


class Provider:
    """The key set of a provider, served on the loopback."""

    def __init__(self, *keys: Any) -> None:
        self.body = public(keys)
        self.status, self.location = 200, ""
        self.requests = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer with the key set."""
                provider.requests += 1
                self.send_response(provider.status)
                if provider.location:
                    self.send_header("Location", provider.location)
                self.end_headers()
                self.wfile.write(provider.body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/certs"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


def public(keys: Sequence[Any]) -> bytes:
    """Return a key set as a provider publishes it."""
    return json.dumps(KeySet(list(keys)).as_dict(private=False)).encode()


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Yield a provider with two keys."""
    found = Provider(RSA, EC)
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def clock() -> VirtualClock:
    """Return the clock of the process."""
    return VirtualClock()


@pytest.fixture
def tokens(provider: Provider, clock: VirtualClock) -> Tokens:
    """Return the reader of this provider's tokens."""
    return Tokens(OPTIONS, KeySource(provider.url, clock), clock)


def claims_of(clock: VirtualClock, **changes: Any) -> dict[str, Any]:
    """Return the claims of a valid token with these changes; None leaves one out."""
    now_s = clock.now_ms() // 1_000
    claims = {
        "iss": ISSUER,
        "aud": ["account", AUDIENCE],
        "sub": "u-17",
        "exp": now_s + 300,
        "nbf": now_s,
        "iat": now_s,
        "preferred_username": "ann",
        "realm_access": {"roles": ["ops", "team", "unknown"]},
    } | changes
    return {name: value for name, value in claims.items() if value is not None}


def signed(claims: dict[str, Any], key: Any = RSA, algorithm: str = "RS256", **header: Any) -> str:
    """Return a token."""
    kid = {"kid": key.kid} if key.kid else {}
    return jwt.encode({"alg": algorithm, **kid, **header}, claims, key, algorithms=[algorithm])


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256")], ids=["RS256", "ES256"])
async def test_a_valid_token_gives_a_name_and_roles(
    tokens: Tokens, clock: VirtualClock, key: Any, algorithm: str
) -> None:
    """Of several values of the claim the greatest role counts in each flow."""
    caller = await tokens.caller(signed(claims_of(clock), key, algorithm))
    assert (caller.id, caller.actor.text) == ("oidc/u-17", "oidc/ann")
    assert caller.roles == {EVERY_FLOW: Role.OPERATOR, "order": Role.VIEWER, "trip": Role.VIEWER}
    assert caller.may(Role.OPERATOR, "order")
    assert not caller.may(Role.ADMIN, "trip")
    boss = await tokens.caller(signed(claims_of(clock, realm_access={"roles": "team boss"}), key, algorithm))
    assert boss.roles == {"trip": Role.ADMIN, "order": Role.VIEWER}
    nobody = await tokens.caller(signed(claims_of(clock, realm_access=None, preferred_username=None), key, algorithm))
    assert (nobody.roles, nobody.actor.text) == ({}, "oidc/u-17")


WRONG: dict[str, dict[str, Any]] = {
    "expired": {"exp": -LEEWAY_S},
    "without an end": {"exp": None},
    "not valid yet": {"nbf": LEEWAY_S + 5},
    "issued later": {"iat": LEEWAY_S + 5},
    "of another issuer": {"iss": ISSUER + "/"},
    "of no issuer": {"iss": None},
    "for another audience": {"aud": "choreo2"},
    "for other audiences": {"aud": ["account", "choreo "]},
    "for no audience": {"aud": None},
    "without a subject": {"sub": None},
    "with an end that is no number": {"exp": "9999999999"},
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_token_with_a_wrong_claim_is_refused(tokens: Tokens, clock: VirtualClock, wrong: str) -> None:
    """The message tells the reason, and repeats nothing of the token."""
    now_s = clock.now_ms() // 1_000
    changes = {name: now_s + value if isinstance(value, int) else value for name, value in WRONG[wrong].items()}
    token = signed(claims_of(clock, **changes))
    with pytest.raises(UnauthenticatedError) as refused:
        await tokens.caller(token)
    assert refused.value.what.startswith(("the token", "a claim"))
    assert not any(part in str(refused.value) for part in token.split("."))


async def test_clocks_may_differ_a_little(tokens: Tokens, clock: VirtualClock) -> None:
    """By less than the leeway, both ways."""
    now_s = clock.now_ms() // 1_000
    for changes in ({"exp": now_s - LEEWAY_S + 1}, {"nbf": now_s + LEEWAY_S, "iat": now_s + LEEWAY_S}):
        assert (await tokens.caller(signed(claims_of(clock, **changes)))).id == "oidc/u-17"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


UNSIGNED = _b64(json.dumps({"alg": "none", "typ": "JWT"}).encode())


def _with(token: str, **claims: Any) -> str:
    """Return the token with other claims under its old signature."""
    header, payload, signature = token.split(".")
    old = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return f"{header}.{_b64(json.dumps(old | claims).encode())}.{signature}"


def _hmac(claims: dict[str, Any]) -> str:
    """Return a token with an HMAC by the public key of the provider as its secret."""
    header = _b64(json.dumps({"alg": "HS256", "kid": RSA.kid}).encode())
    text = f"{header}.{_b64(json.dumps(claims).encode())}"
    return f"{text}.{_b64(hmac.digest(RSA.as_pem(private=False), text.encode(), 'sha256'))}"


FORGED: dict[str, Callable[[dict[str, Any]], str]] = {
    "signed by another key": lambda claims: signed(claims, OTHER),
    "with other claims": lambda claims: _with(signed(claims), realm_access={"roles": ["boss"]}),
    "without a signature": lambda claims: signed(claims).rpartition(".")[0] + ".",
    "of algorithm none": lambda claims: f"{UNSIGNED}.{signed(claims).split('.')[1]}.",
    "HS256 with the public key": _hmac,
    "with a key of its own": lambda claims: jwt.encode(
        {"alg": "RS256", "jwk": OTHER.as_dict(private=False)}, claims, OTHER, algorithms=["RS256"]
    ),
    "of a strong algorithm that is not listed": lambda claims: signed(claims, RSA, "RS512"),
    "ES256 under the id of an RSA key": lambda claims: signed(claims, EC, "ES256", kid=RSA.kid),
    "of an unknown key": lambda claims: signed(claims, OTHER, kid="unknown"),
}


@pytest.mark.parametrize("kind", FORGED)
async def test_a_forged_token_is_refused(tokens: Tokens, clock: VirtualClock, kind: str) -> None:
    """The algorithm comes from the list, the key from the provider."""
    token = FORGED[kind](claims_of(clock))
    assert tokens.takes(token)
    with pytest.raises(UnauthenticatedError):
        await tokens.caller(token)


NO_TOKENS = {
    "dots": "..",
    "letters": "a.b.c",
    "no ASCII": "é.é.é",
    "deep JSON": f"{_b64(b'[' * 9_000)}.e.e",
    "no object": f"{_b64(b'[]')}.e.e",
    "a list of algorithms": _b64(json.dumps({"alg": ["RS256"]}).encode()) + ".e.e",
    "too long": "x" * 20_000 + "..",
}


@pytest.mark.parametrize("kind", NO_TOKENS)
async def test_a_text_that_is_no_token_is_refused(tokens: Tokens, kind: str) -> None:
    """No content makes the process fail."""
    with pytest.raises(UnauthenticatedError):
        await tokens.caller(NO_TOKENS[kind])


async def test_a_new_key_of_the_provider_is_found(tokens: Tokens, provider: Provider, clock: VirtualClock) -> None:
    """The set is got again for an unknown id, and not more often than every ten seconds."""
    assert (await tokens.caller(signed(claims_of(clock)))).id
    fresh = RSAKey.generate_key(2048, {"kid": "r-2"})
    provider.body = public([fresh, EC])
    for _ in range(5):
        with pytest.raises(UnauthenticatedError):
            await tokens.caller(signed(claims_of(clock), fresh))
    assert provider.requests == 1
    await clock.advance(REFRESH_MS / 1_000)
    assert (await tokens.caller(signed(claims_of(clock), fresh))).id
    assert provider.requests == 2
    with pytest.raises(UnauthenticatedError):  # the key that was withdrawn
        await tokens.caller(signed(claims_of(clock)))


async def test_many_requests_ask_for_the_keys_once(tokens: Tokens, provider: Provider, clock: VirtualClock) -> None:
    """All wait for the one answer."""
    token = signed(claims_of(clock))
    callers = await asyncio.gather(*(tokens.caller(token) for _ in range(20)))
    assert (len(callers), provider.requests) == (20, 1)


async def test_a_provider_that_is_away_is_asked_again(tokens: Tokens, provider: Provider, clock: VirtualClock) -> None:
    """503 before the first answer; later the kept keys are used for an hour."""
    provider.status = 500
    with pytest.raises(UnavailableError, match="keys cannot be had"):
        await tokens.caller(signed(claims_of(clock)))
    provider.status = 200
    await clock.advance(REFRESH_MS / 1_000)
    assert (await tokens.caller(signed(claims_of(clock)))).id
    provider.status = 500
    await clock.advance(KEEP_MS / 1_000 - 1)
    assert (await tokens.caller(signed(claims_of(clock)))).id
    await clock.advance(1)
    with pytest.raises(UnavailableError):
        await tokens.caller(signed(claims_of(clock)))


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"keys": 1}', b"<html>", b"x" * (BYTES_MAX + 1)])
async def test_an_answer_that_is_no_key_set_opens_nothing(
    tokens: Tokens, provider: Provider, clock: VirtualClock, answer: bytes
) -> None:
    """It counts as a provider that is away."""
    provider.body = answer
    with pytest.raises(UnavailableError):
        await tokens.caller(signed(claims_of(clock)))


async def test_a_redirection_is_not_followed(tokens: Tokens, provider: Provider, clock: VirtualClock) -> None:
    """It could lead to a place that the setting does not name."""
    elsewhere = Provider(RSA)
    provider.status, provider.location = 302, elsewhere.url
    with pytest.raises(UnavailableError):
        await tokens.caller(signed(claims_of(clock)))
    assert elsewhere.requests == 0
    elsewhere.server.shutdown()
    elsewhere.server.server_close()


async def test_the_keys_may_stand_in_a_file(tmp_path: Path, clock: VirtualClock) -> None:
    """It is read again like the URL; keys for encryption and of other kinds are left out."""
    path = tmp_path / "jwks.json"
    odd = [{"kty": "oct", "k": "AAAA", "kid": "r-1"}, {"kty": "new", "kid": "r-1"}, "text"]
    path.write_text(json.dumps({"keys": [*odd, *json.loads(public([RSA]))["keys"]]}))
    tokens = Tokens(OPTIONS, KeySource(str(path), clock), clock)
    assert (await tokens.caller(signed(claims_of(clock)))).id
    without = {name: value for name, value in RSA.as_dict(private=True).items() if name != "kid"}
    assert (await tokens.caller(signed(claims_of(clock), RSAKey.import_key(without)))).id


@pytest.mark.parametrize(
    "place", ["http://login.example.org/certs", "ftp://127.0.0.1/certs", "file:///certs", "http:///x"]
)
def test_an_address_that_can_be_tampered_with_is_refused(place: str, clock: VirtualClock) -> None:
    """Those between here and the provider could replace its keys."""
    with pytest.raises(SettingsError, match="no https URL"):
        KeySource(place, clock)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"issuer": ""}, "oidc_issuer"), ({"audience": ""}, "oidc_audience"), ({"roles": {}}, "oidc_roles"),
     ({"roles": {"ops": "operater"}}, "Did you mean")],
)  # fmt: skip
def test_a_missing_setting_is_named(changes: dict[str, Any], named: str, clock: VirtualClock) -> None:
    """Before anything runs."""
    options = TokenOptions(**({name: getattr(OPTIONS, name) for name in OPTIONS.__struct_fields__} | changes))
    with pytest.raises(SettingsError, match=named):
        Tokens(options, KeySource("jwks.json", clock), clock)
