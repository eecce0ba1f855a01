"""The pytest plugin: fixture `flow_test`, which opens flows in virtual time and closes them after the test.

Loaded by pytest itself (entry point `pytest11`). Imports nothing of choreo before the fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from choreo.core.declare.flow import Flow
    from choreo.testing.flow_test import FlowTest


class OpenFlows(Protocol):
    """Opens a `FlowTest`."""

    def __call__(self, *flows: Flow) -> FlowTest:
        """Return the opened test of these flows."""
        ...


@pytest.fixture
def flow_test() -> Iterator[OpenFlows]:
    """Yield a function that opens a `choreo.testing.FlowTest`; it is closed after the test."""
    from choreo.testing.flow_test import FlowTest  # noqa: PLC0415 - see above

    with ExitStack() as opened:

        def opening(*flows: Flow) -> FlowTest:
            return opened.enter_context(FlowTest(*flows))

        yield opening
