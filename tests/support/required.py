"""What a machine lacks for a test on the real thing: the test is skipped with its name, or fails where CI says so."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support.kafka import Broker, MissingError

VARIABLE = "CHOREO_REQUIRE_KAFKA"
"""Set to 1, it makes a failure of what else would be skipped: set in CI."""


def absent(what: str, *, whole_module: bool = False) -> NoReturn:
    """A part of the real thing is missing: skip, or fail where it was required."""
    if os.environ.get(VARIABLE) == "1":
        pytest.fail(f"{VARIABLE}=1, and {what}", pytrace=False)
    pytest.skip(what, allow_module_level=whole_module)


def needed(module: str, extras: str) -> Any:
    """A module of optional parts, at a test module's head."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        absent(f"{module} is not installed ({error}): pip install 'choreo-kafka[{extras}]'", whole_module=True)


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """A running broker of the tests' own."""
    try:
        own = Broker(folder)
        own.start()
    except MissingError as missing:
        absent(f"tests on real Kafka need {missing}")
    try:
        yield own
    finally:
        own.stop()


@contextmanager
def bootstrap(folder: Path) -> Iterator[str]:
    """Where a broker answers: CHOREO_TEST_KAFKA if it is set, else one of the tests' own."""
    given = os.environ.get("CHOREO_TEST_KAFKA")
    if given:
        yield given
        return
    with broker(folder) as own:
        yield own.bootstrap
