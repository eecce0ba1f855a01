"""The adapter without its extra, and the log lines of its clients."""

import logging
import subprocess
import sys

import pytest

from choreo.adapters.kafka.options import ClientLogger, KafkaOptions


def test_without_the_extra_its_name_is_said() -> None:
    """At the import of the adapter, and of nothing else."""
    program = "import sys; sys.modules['confluent_kafka'] = None; import choreo; import choreo.adapters.kafka"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in done.stderr
    assert "pip install 'choreo-kafka[kafka]'" in done.stderr


def test_a_client_repeats_itself_only_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """And never shows a secret."""
    client_logger = ClientLogger(KafkaOptions("b:1", {"sasl.password": "hunter2"}).masked)
    with caplog.at_level(logging.INFO):
        for number in range(3):
            client_logger.log(logging.ERROR, "%s [%s] %s", "FAIL", number, "login with hunter2 refused")
        client_logger.log(logging.WARNING, "%s [%s] %s", "SESSTMOUT", 1, "out")
    assert [record.getMessage() for record in caplog.records] == [
        "FAIL [0] login with *** refused",
        "SESSTMOUT [1] out",
    ]
