"""How the Faust tracker reaches its cluster: names of topic, group and changelog, where its local copies lie, security.

Takes librdkafka's names for settings, so that a cluster is described once for both clients.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec

from choreo.adapters.kafka.options import seconds_in
from choreo.adapters.kafka.topics import changelog_of, tracker_app
from choreo.core.errors import SettingsError

TABLE = "states"
_SUPPORTED = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_INLINE = frozenset({"ssl.ca.pem", "ssl.certificate.pem", "ssl.key.pem", "ssl.keystore.location"})
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class FaustOptions(msgspec.Struct, frozen=True):
    """One cluster, seen from the tracker."""

    bootstrap: str
    """`host:port`, several separated by commas."""
    folder: Path
    """Where workers keep their local copies, each in a folder of its own below."""
    prefix: str = ""
    """Put before the name of each topic and group: several installations can share a cluster."""
    settings: Mapping[str, str] = {}
    """librdkafka's settings of security and of the session, by their own names; others are of no concern here."""

    def topic(self, flow: str) -> str:
        """The flow's topic in the cluster."""
        return f"{self.prefix}{flow}"

    def application(self, flow: str) -> str:
        """The Faust application's id: its consumer group too."""
        return self.prefix + tracker_app(flow)

    def changelog(self, flow: str) -> str:
        """The topic behind the table, as Faust names it."""
        return self.prefix + changelog_of(flow)

    @property
    def session_timeout_s(self) -> float:
        """How long a dead member blocks its partitions: `session.timeout.ms`, else 8 s; raises SettingsError.

        2 s less than a service's, for the rebalance and the restore after it may take as long again.
        """
        return seconds_in(self.settings, "session.timeout.ms", 8_000)

    @property
    def heartbeat_s(self) -> float:
        """How often it is heard of, and hears of a rebalance: `heartbeat.interval.ms`, else a tenth of the session."""
        return seconds_in(self.settings, "heartbeat.interval.ms", round(self.session_timeout_s * 100))

    @property
    def protocol(self) -> str:
        """The security protocol; raises SettingsError on one that is not known."""
        return self._one_of("security.protocol", "PLAINTEXT", _SUPPORTED)

    @property
    def mechanism(self) -> str:
        """How SASL authenticates; raises SettingsError on a mechanism that Faust's client cannot do for us."""
        name = "sasl.mechanism" if "sasl.mechanism" in self.settings else "sasl.mechanisms"
        return self._one_of(name, "PLAIN", _MECHANISMS)

    def ssl_context(self) -> ssl.SSLContext | None:
        """TLS as the settings ask for it; None where the protocol has none. Raises SettingsError on files."""
        if "SSL" not in self.protocol.split("_"):
            return None
        given = self.settings
        inline = sorted(given.keys() & _INLINE)
        if inline:
            raise SettingsError(
                "the tracker's client takes certificates and keys from files only",
                where=", ".join(inline),
                remedy="Name files: ssl.ca.location, ssl.certificate.location, ssl.key.location.",
            )
        try:
            context = ssl.create_default_context(cafile=given.get("ssl.ca.location"))
            if "ssl.certificate.location" in given:
                context.load_cert_chain(
                    given["ssl.certificate.location"], given.get("ssl.key.location"), given.get("ssl.key.password")
                )
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"a certificate or key cannot be read: {error}",
                where="ssl.ca.location, ssl.certificate.location, ssl.key.location",
                remedy="Name PEM files that this process may read.",
            ) from error
        context.check_hostname = given.get("ssl.endpoint.identification.algorithm", "https") != "none"
        return context

    def _one_of(self, name: str, default: str, known: tuple[str, ...]) -> str:
        value = self.settings.get(name, default).upper()
        if value not in known:
            raise SettingsError(
                f"{value!r} is not supported by the tracker's client", where=name, remedy=f"Use {', '.join(known)}."
            )
        return value
