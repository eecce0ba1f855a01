"""choreo: event-sourced choreography. These names are all that a service needs.

Each is imported when it is first used, so that `import choreo` costs nothing and `choreo --help` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "ChoreoError",
    "DeclarationError",
    "Event",
    "Flow",
    "NonRetryableError",
    "Part",
    "Retry",
    "Service",
    "StepContext",
]

if TYPE_CHECKING:
    from choreo.adapters.avro.event import Event, Part
    from choreo.core.context import StepContext
    from choreo.core.declare import Flow, Service
    from choreo.core.errors import ChoreoError, DeclarationError, NonRetryableError
    from choreo.core.retry import Retry
else:
    _HOMES = {
        "ChoreoError": "choreo.core.errors",
        "DeclarationError": "choreo.core.errors",
        "Event": "choreo.adapters.avro.event",
        "Flow": "choreo.core.declare",
        "NonRetryableError": "choreo.core.errors",
        "Part": "choreo.adapters.avro.event",
        "Retry": "choreo.core.retry",
        "Service": "choreo.core.declare",
        "StepContext": "choreo.core.context",
    }

    def __getattr__(name: str) -> object:
        """Import the module a public name lives in (PEP 562) and keep the name here for the next use."""
        if name not in _HOMES:
            raise AttributeError(f"module 'choreo' has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - only the first use of a name pays for it

        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value

    def __dir__() -> list[str]:
        """The public names."""
        return sorted(__all__)
