"""choreo: event-sourced choreography. These names are all that a service needs.

Each is imported when it is first used, so that `import choreo` costs nothing and `choreo --help` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "After",
    "Call",
    "ChildResult",
    "ChoreoError",
    "DeclarationError",
    "Event",
    "Every",
    "Flow",
    "NonRetryableError",
    "Part",
    "Retry",
    "RunView",
    "Sensitive",
    "Service",
    "StepContext",
    "all_children",
    "all_of",
    "any_of",
    "field",
    "first_children",
    "first_success",
    "otherwise",
    "tolerate",
]

if TYPE_CHECKING:
    from choreo.core.conditions import field, otherwise
    from choreo.core.context import StepContext
    from choreo.core.declare.children import all_children, first_children, first_success, tolerate
    from choreo.core.declare.flow import Flow
    from choreo.core.declare.hooks import Call
    from choreo.core.declare.steps import Service
    from choreo.core.declare.triggers import all_of, any_of
    from choreo.core.declare.waits import After, Every
    from choreo.core.errors import ChoreoError, DeclarationError, NonRetryableError
    from choreo.core.retry import Retry
    from choreo.core.run_view import RunView
    from choreo.event.child_result import ChildResult
    from choreo.event.event import Event, Part
    from choreo.event.sensitive import Sensitive
else:
    _MODULES = {
        "After": "choreo.core.declare.waits",
        "Every": "choreo.core.declare.waits",
        "Call": "choreo.core.declare.hooks",
        "ChildResult": "choreo.event.child_result",
        "ChoreoError": "choreo.core.errors",
        "DeclarationError": "choreo.core.errors",
        "Event": "choreo.event.event",
        "Flow": "choreo.core.declare.flow",
        "NonRetryableError": "choreo.core.errors",
        "Part": "choreo.event.event",
        "Retry": "choreo.core.retry",
        "RunView": "choreo.core.run_view",
        "Sensitive": "choreo.event.sensitive",
        "Service": "choreo.core.declare.steps",
        "StepContext": "choreo.core.context",
        "all_children": "choreo.core.declare.children",
        "field": "choreo.core.conditions",
        "first_children": "choreo.core.declare.children",
        "first_success": "choreo.core.declare.children",
        "otherwise": "choreo.core.conditions",
        "all_of": "choreo.core.declare.triggers",
        "any_of": "choreo.core.declare.triggers",
        "tolerate": "choreo.core.declare.children",
    }

    def __getattr__(name: str) -> object:
        """Import the module of a public name (PEP 562) and keep the name here for the next use."""
        if name not in _MODULES:
            raise AttributeError(f"module 'choreo' has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - only the first use of a name pays for it

        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__() -> list[str]:
        """Return the public names."""
        return sorted(__all__)
