"""Options of the tracker's client: names of topic, group and changelog, data directory, security.

Settings have librdkafka's names, so that a cluster is described once for both clients.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from choreo.adapters.kafka.options import seconds_in
from choreo.adapters.kafka.topics import changelog_of, tracker_app
from choreo.core.errors import SettingsError

TABLE = "states"
_FETCH_MS, _FETCH_MOST_MS = 1_500, 5_000
_REQUEST_S = 90.0
"""How long a broker may take for an answer, Faust's own; it refuses a session that is longer."""
_SUPPORTED = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_INLINE = frozenset({"ssl.ca.pem", "ssl.certificate.pem", "ssl.key.pem", "ssl.keystore.location"})
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class FaustOptions(msgspec.Struct, frozen=True):
    """One cluster, seen from the tracker."""

    bootstrap: str
    """`host:port`, several separated by commas."""
    data_dir: Path
    """Where workers keep their local copies, each in a directory of its own below."""
    prefix: str = ""
    """Put before the name of each topic and group: several installations can share a cluster."""
    settings: Mapping[str, str] = {}
    """librdkafka's settings of security and of the session, by their own names; others are ignored."""
    flows: int = 1
    """How many flows one process tracks, each with a client of its own."""

    def topic(self, flow: str) -> str:
        """Return the name of the flow's topic in the cluster."""
        return f"{self.prefix}{flow}"

    def application(self, flow: str) -> str:
        """Return the id of the Faust application, which is its consumer group too."""
        return self.prefix + tracker_app(flow)

    def changelog(self, flow: str) -> str:
        """Return the name of the changelog topic, as Faust names it."""
        return self.prefix + changelog_of(flow)

    @property
    def session_timeout_s(self) -> float:
        """Return how long a dead member blocks its partitions: `session.timeout.ms`, else 8 s; raises SettingsError.

        The default is 2 s less than a service's: the rebalance and the restore after it may take as long again.
        """
        return seconds_in(self.settings, "session.timeout.ms", 8_000)

    @property
    def heartbeat_s(self) -> float:
        """Return the heartbeat interval, by default a tenth of the session: it notices a rebalance so late at most.

        Above ten flows it grows with their number, up to a third of the session: each has a client that sends its
        own.
        """
        tenth_ms = self.session_timeout_s * 100
        default_ms = min(max(tenth_ms, tenth_ms * self.flows / 10), self.session_timeout_s * 1_000 / 3)
        return seconds_in(self.settings, "heartbeat.interval.ms", round(default_ms))

    @property
    def live_fetch_ms(self) -> int:
        """Return how long the broker may hold a fetch for which there is nothing; a restore after it waits as long.

        Such a fetch costs an idle flow 0.4 ms of CPU, so it is longer where one process tracks many flows.
        """
        return min(max(_FETCH_MS, _FETCH_MS * self.flows // 10), _FETCH_MOST_MS)

    def settings_of_faust(self, data_dir: Path, partitions: int) -> dict[str, Any]:
        """Return the application's settings, without those that are Faust's own objects; raises SettingsError."""
        return {
            "broker": [f"kafka://{address.strip()}" for address in self.bootstrap.split(",")],
            "datadir": data_dir,
            # Never used: the table makes its own.
            "store": "memory://",
            "processing_guarantee": "at_least_once",
            "broker_session_timeout": self.session_timeout_s,
            "broker_heartbeat_interval": self.heartbeat_s,
            "broker_request_timeout": max(_REQUEST_S, self.session_timeout_s),
            "broker_rebalance_timeout": 20,
            # Faust's own commits have nothing to commit: its timers for them need not run every few seconds.
            "broker_commit_interval": 60,
            # A rebalance waits for nothing: unfinished records are read again.
            "stream_wait_empty": False,
            # A batch of states goes out in few requests: of a partition only one is under way at a time.
            "producer_max_batch_size": 512 << 10,
            "topic_partitions": partitions,
            "topic_allow_declare": False,
            "topic_disable_leader": True,
            "table_standby_replicas": 0,
            # Restored states are compared with the changelog before (`trust`).
            "recovery_consistency_check": False,
            "web_enabled": False,
            "autodiscover": False,
            # Faust would take its settings from variables of any name.
            "env": {},
        }

    @property
    def protocol(self) -> str:
        """Return the security protocol; raises SettingsError on an unknown one."""
        return self._one_of("security.protocol", "PLAINTEXT", _SUPPORTED)

    @property
    def mechanism(self) -> str:
        """Return the SASL mechanism; raises SettingsError on one that Faust's client does not support."""
        name = "sasl.mechanism" if "sasl.mechanism" in self.settings else "sasl.mechanisms"
        return self._one_of(name, "PLAIN", _MECHANISMS)

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS context of the settings; None where the protocol has none. Raises SettingsError on files."""
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
