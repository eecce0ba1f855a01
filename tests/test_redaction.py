"""The secrets that are cut out of a text: by their setting's name or shape, in every form that libraries use."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choreo.redaction import LENGTH_MIN, MASK, PART_MAX, Redactor, redact_part
from tests.support.planted import forms_of

ODD = [
    "s3cr3t-hunter2",
    "pä$$wörd!",
    "a/b?c#d@e:f-secret",
    "per%cent%20sign",
    "with blank",
    "quo'te\"d",
    "back\\slash",
    "ключ-от-кассы",
]


@pytest.mark.parametrize("secret", ODD)
@pytest.mark.parametrize(
    "name", ["sasl.password", "CHOREO_KAFKA_SASL_PASSWORD", "ssl.key.pem", "sasl.oauthbearer.config"]
)
def test_the_value_of_a_secret_setting_is_cut_out_in_every_form(secret: str, name: str) -> None:
    """Encoded, escaped or as it is."""
    redacted = Redactor({name: secret, "client.id": "choreo"})
    for form, text in forms_of(secret).items():
        assert redacted(f"cannot use {text}; choreo") == f"cannot use {MASK}; choreo", form


@pytest.mark.parametrize("secret", ODD)
@pytest.mark.parametrize("written", ["plain", "encoded"])
@pytest.mark.parametrize(
    "shape", ["redis://:{}@host:6379/0", "rediss://ann:{}@host", "http://ann:{}@host:8081/x", "ann:{}@host:9092"]
)
def test_the_password_of_an_address_is_cut_out_in_every_form(secret: str, written: str, shape: str) -> None:
    """Whether it was percent-encoded, as it must be, or not."""
    address = shape.format(quote(secret, safe="") if written == "encoded" else secret)
    redacted = Redactor({"some.place": address})
    for form, text in forms_of(secret).items():
        assert redacted(f"no answer from <{text}>") == f"no answer from <{MASK}>", form
    assert secret not in redacted(address)
    assert "host" in redacted(address)


@given(
    st.text(min_size=LENGTH_MIN, max_size=30, alphabet=st.characters(codec="utf-8", categories=["L", "N", "P", "S"]))
)
def test_no_piece_of_a_password_survives_where_an_address_is_taken_apart(secret: str) -> None:
    """A library that splits an address at another place shows its idea of a port, a path or a host."""
    redacted = Redactor({"redis": f"redis://ann:{secret}@host:6379/0"})
    for separator in "/?#@:[]&=,;":
        for piece in secret.split(separator):
            if len(piece) >= LENGTH_MIN and not set(piece) & set("/?#@:[]&=,;%"):
                assert piece not in redacted(f"Port could not be cast to integer value as '{piece}'")


def test_an_address_that_nobody_told_of_loses_its_user_and_password_too() -> None:
    """A library's own, or that of a user's service."""
    redacted = Redactor()
    assert redacted("GET https://ann:pw@registry:8081/subjects") == f"GET https://{MASK}@registry:8081/subjects"
    assert redacted("redis://:p@ss@host/0") == f"redis://{MASK}@host/0"
    assert redacted("redis://host/0?password=hunter2&db=1") == f"redis://host/0?password={MASK}&db=1"
    assert (
        redacted("http://localhost:8080/flows/order/instances/a@b") == "http://localhost:8080/flows/order/instances/a@b"
    )


def test_of_a_text_of_any_length_a_part_is_searched_and_no_piece_of_a_secret_stays() -> None:
    """A driver's error may hold all its data: the search of 50 MB would stop the process for seconds."""
    text = redact_part("x" * (2 * PART_MAX - 20) + " redis://user:hunter22@db" + "y" * PART_MAX)
    assert len(text) < PART_MAX + 100
    assert text.endswith(f"and {2 * PART_MAX + 5} characters more")
    assert redact_part("x" * (PART_MAX - 10) + " redis://user:hunter22@db").count("hunter") == 0
    assert redact_part("redis://user:hunter22@db") == "redis://***@db"


def test_what_is_no_secret_stays() -> None:
    """People read a message for names, hosts and short words."""
    redacted = Redactor({"sasl.username": "ann-the-user", "bootstrap.servers": "broker:9092", "sasl.password": "abc"})
    text = "ann-the-user at broker:9092, abc"
    assert redacted(text) == text


def test_of_two_secrets_the_longer_is_cut_out_whole() -> None:
    """One may begin with the other."""
    redacted = Redactor({"a.password": "open", "b.password": "open-sesame"})
    assert redacted("open-sesame, open") == f"{MASK}, {MASK}"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("connect(password='hun ter2', db=1)", f"connect(password='{MASK}', db=1)"),
        ('{"client_secret": "hunter2", "n": 1}', f'{{"client_secret": "{MASK}", "n": 1}}'),
        ("{'password': 'hunter2'}", f"{{'password': '{MASK}'}}"),
        ("Authorization: Basic YW5uOmh1bnRlcjI=", f"Authorization: Basic {MASK}"),
        ("basic authentication with a token: refused", "basic authentication with a token: refused"),
        ("a=token=hunter2&b=2", f"a=token={MASK}&b=2"),
    ],
)
def test_a_secret_that_nobody_told_of_is_known_by_its_name(text: str, redacted: str) -> None:
    """As code, JSON and headers write it; a word of prose stays."""
    assert Redactor()(text) == redacted


@pytest.mark.parametrize("part", ["password", "tokena", "eyJaaaaaaaa-", "://", "password='", "token=", "user:", "='"])
def test_the_search_of_a_text_takes_no_longer_than_its_length(part: str) -> None:
    """A search whose time grows with the square of the length would take minutes."""
    assert Redactor()(part * (1_000_000 // len(part)))
