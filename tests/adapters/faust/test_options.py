"""Options of the tracker's client; a cluster is described once, by librdkafka's names of settings."""

from pathlib import Path

import msgspec
import pytest

from choreo.core.errors import SettingsError
from tests.support import required

required.needed("confluent_kafka", "kafka")

from choreo.adapters.faust.options import FaustOptions  # noqa: E402
from choreo.adapters.kafka.topics import changelog_of  # noqa: E402 - without the extra the module is skipped


def options(**settings: str) -> FaustOptions:
    """Return options with these settings, `_` for `.`."""
    return FaustOptions("b:1", Path(), settings={name.replace("_", "."): value for name, value in settings.items()})


def test_the_changelog_has_the_name_that_topics_apply_gives_it() -> None:
    """With the prefix of the installation before it."""
    assert FaustOptions("b:1", Path(), prefix="eu-").changelog("order") == f"eu-{changelog_of('order')}"


@pytest.mark.parametrize("name", ["ssl_ca_pem", "ssl_certificate_pem", "ssl_key_pem", "ssl_keystore_location"])
def test_what_its_client_cannot_take_is_refused(name: str) -> None:
    """It would be ignored, and the connection fail for no reason that anybody could see."""
    with pytest.raises(SettingsError, match="Name files"):
        options(security_protocol="SSL", **{name: "-----BEGIN"}).ssl_context()


@pytest.mark.parametrize(("name", "value"), [("security_protocol", "KERBEROS"), ("sasl_mechanism", "GSSAPI")])
def test_what_it_does_not_know_is_refused(name: str, value: str) -> None:
    """With its options."""
    with pytest.raises(SettingsError, match=f"'{value}' is not supported.*Use "):
        _ = options(**{name: value}).protocol, options(**{name: value}).mechanism


def test_its_session_is_the_one_that_services_are_told_of() -> None:
    """By librdkafka's names; the default is shorter than theirs, because a restore follows."""
    assert (options().session_timeout_s, options().heartbeat_s) == (8.0, 0.8)
    assert [msgspec.structs.replace(options(), flows=n).heartbeat_s for n in (10, 20, 500)] == [0.8, 1.6, 2.667]
    chosen = options(session_timeout_ms="45000", heartbeat_interval_ms="3000")
    assert (chosen.session_timeout_s, chosen.heartbeat_s) == (45.0, 3.0)
    with pytest.raises(SettingsError, match="CHOREO_KAFKA_SESSION_TIMEOUT_MS: 'soon' is no number"):
        _ = options(session_timeout_ms="soon").session_timeout_s
