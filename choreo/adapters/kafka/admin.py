"""The admin client of one user of it: made when needed, made anew when it is outdated, and why it is not let in.

A client that is refused says so aside; what it is asked only times out, or finds no broker.
"""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.trouble import ALL_DOWN, DENIED, complaint
from choreo.core.errors import ChoreoError


class Admin:
    """An admin client, and what it has heard."""

    def __init__(self, options: KafkaOptions) -> None:
        """Nothing connects yet."""
        self._options = options
        self._made: AdminClient | None = None
        self.denied: KafkaError | None = None
        """Why the cluster does not let it in, as far as is known."""

    @property
    def client(self) -> AdminClient:
        """The client; keep it until it has answered, for it may be replaced. Raises SettingsError, StorageError."""
        if self._made is None:
            try:
                config: dict[str, Any] = {**self._options.admin(), "error_cb": self._hear}
                self._made = AdminClient(config)
            except KafkaException as error:
                raise complaint(error, self._options, "the admin client") from error
        return self._made

    def replace(self) -> None:
        """The next one asks again who leads which partition: this one never does."""
        self._made = None

    def complaint(self, client: AdminClient, error: BaseException, where: str) -> ChoreoError:
        """The error to raise for one of this client's."""
        client.poll(0)  # lets it say what it has heard
        return complaint(self.denied or error, self._options, where)

    def _hear(self, error: KafkaError) -> None:
        if error.code() in DENIED:
            self.denied = error
        elif error.code() != ALL_DOWN:  # which follows every refusal too
            self.denied = None
