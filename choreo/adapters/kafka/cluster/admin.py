"""The admin client of one user: made when needed, replaced when outdated, with the reason of a refusal.

A client that is refused reports the refusal in its error callback; its requests only time out, or find no broker.
"""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from choreo.adapters.kafka.errors import ALL_DOWN, DENIED, complaint
from choreo.adapters.kafka.options import KafkaOptions
from choreo.core.errors import ChoreoError


class Admin:
    """An admin client, and the errors that it has reported."""

    def __init__(self, options: KafkaOptions) -> None:
        """Connect to nothing yet."""
        self._options = options
        self._made: AdminClient | None = None
        self.denied: KafkaError | None = None
        """The reason why the cluster refuses the client, as far as it is known."""

    @property
    def client(self) -> AdminClient:
        """Return the client.

        Keep a reference until it has answered: it may be replaced. Raises SettingsError, StorageError.
        """
        if self._made is None:
            try:
                config: dict[str, Any] = {**self._options.admin(), "error_cb": self._note_denied}
                self._made = AdminClient(config)
            except KafkaException as error:
                raise complaint(error, self._options, "the admin client") from error
        return self._made

    def replace(self) -> None:
        """Let the next call make a client anew: this one never asks again for the leaders of partitions."""
        self._made = None

    def complaint(self, client: AdminClient, error: BaseException, where: str) -> ChoreoError:
        """Return the error to raise for one of this client's errors."""
        client.poll(0)  # runs the error callback
        return complaint(self.denied or error, self._options, where)

    def _note_denied(self, error: KafkaError) -> None:
        if error.code() in DENIED:
            self.denied = error
        elif error.code() != ALL_DOWN:  # librdkafka reports ALL_DOWN after every refusal too
            self.denied = None
