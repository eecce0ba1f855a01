"""Parts that a test on real servers needs and the machine lacks: the test is skipped, or fails where CI says so."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support.kafka import Broker, MissingError

VARIABLE = "CHOREO_REQUIRE_KAFKA"
"""Set to 1, tests fail that would otherwise be skipped: set in CI."""


def absent(what: str, *, whole_module: bool = False) -> NoReturn:
    """Skip because a part of the real thing is missing, or fail where it was required."""
    if os.environ.get(VARIABLE) == "1":
        pytest.fail(f"{VARIABLE}=1, and {what}", pytrace=False)
    pytest.skip(what, allow_module_level=whole_module)


def needed(module: str, extras: str) -> Any:
    """Return a module of optional parts, at a test module's head."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        absent(f"{module} is not installed ({error}): pip install 'choreo-kafka[{extras}]'", whole_module=True)


@contextmanager
def broker(folder: Path, kind: type[Broker] = Broker) -> Iterator[Broker]:
    """Yield a running broker of the tests' own."""
    try:
        own = kind(folder)
        own.start()
    except MissingError as missing:
        absent(f"tests on real Kafka need {missing}")
    try:
        yield own
    finally:
        own.stop()


@contextmanager
def bootstrap(folder: Path) -> Iterator[str]:
    """Yield where a broker answers: CHOREO_TEST_KAFKA if it is set, else one of the tests' own."""
    given = os.environ.get("CHOREO_TEST_KAFKA")
    if given:
        yield given
        return
    with broker(folder) as own:
        yield own.bootstrap
