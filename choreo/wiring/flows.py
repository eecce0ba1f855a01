"""Import a project's flows by the names in its settings. Every error names the correct form."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from choreo.app.bridge import findings
from choreo.core.checks import checks
from choreo.core.declare.flow import Flow
from choreo.core.declare.steps import Service
from choreo.core.errors import ChoreoError, DeclarationError, ProjectError, SettingsError, described


def load_flows(names: Iterable[str]) -> dict[str, Flow]:
    """Import the flows named `module:name`, as `import_flows`; raises DeclarationError where they do not fit."""
    flows = import_flows(names)
    checks.raise_errors(findings(flows), "what flows carry to each other")
    return flows


def import_flows(names: Iterable[str]) -> dict[str, Flow]:
    """Import the flows named `module:name`, relative to the current folder; raises SettingsError with the remedy."""
    add_project_to_path()
    flows: dict[str, Flow] = {}
    for flow in [_load_flow(name) for name in names] or _conventional():
        if flow.name in flows:
            raise SettingsError(
                f"two flows are called {flow.name!r}", where="setting flows", remedy="Give each flow a name of its own."
            )
        flows[flow.name] = flow
    if not flows:
        raise SettingsError(
            "no flow is named",
            where="setting flows",
            remedy="Run this in a project's folder (`choreo new shop` makes one), declare a Flow in flow.py, "
            'or name one: flows = ["module:name"] under [tool.choreo] in pyproject.toml.',
        )
    _one_service_a_name(flows.values())
    return flows


def _one_service_a_name(flows: Iterable[Flow]) -> None:
    """Check that flows which name a service mean the same one: a name is one consumer group and one inbox."""
    known: dict[str, tuple[Service, str]] = {}
    for flow in flows:
        for service in flow.services:
            whole, other = known.setdefault(service.name, (service.whole, flow.name))
            if whole is not service.whole:
                raise DeclarationError(
                    f"flows {other} and {flow.name} have two services called {service.name}",
                    where=f"service {service.name}",
                    remedy="Declare the service once and pass it to both flows, each with only() the steps it needs; "
                    "or give one of the two another name.",
                    code="C113",
                )


def add_project_to_path() -> None:
    """Let the modules of the current folder be imported: a project need not be installed."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _conventional() -> list[Flow]:
    """Return the flows of `flow.py` in the current folder: a small project needs no setting."""
    if not Path("flow.py").is_file():
        return []
    module = _imported("flow", "flow.py", "Correct it, or write the module that it needs.")
    found = {id(value): value for value in vars(module).values() if isinstance(value, Flow)}
    return list(found.values())


def _load_flow(name: str) -> Flow:
    module_name, _, attribute = name.partition(":")
    where, remedy = f"setting flows, {name!r}", "Write module:name, as in services.order_flow:order."
    if not module_name or not attribute:
        raise SettingsError("it names no flow", where=where, remedy=remedy)
    module = _imported(module_name, where, remedy)
    try:
        flow = getattr(module, attribute)
    except AttributeError as error:
        raise SettingsError(f"{module_name} has no {attribute!r}", where=where, remedy=remedy) from error
    except Exception as error:  # of the module's own __getattr__
        raise _failed(module_name, f"give {attribute!r}", where, error) from error
    if not isinstance(flow, Flow):
        raise SettingsError(f"it is a {type(flow).__name__}, not a Flow", where=where, remedy=remedy)
    return flow


def _imported(module: str, where: str, remedy: str) -> ModuleType:
    """Import a module of the project.

    Raises SettingsError where it, or one that it needs, is not there, ProjectError where its own code fails.
    """
    try:
        return importlib.import_module(module)
    except ChoreoError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, ImportError):
            raise SettingsError(f"it cannot be imported: {error}", where=where, remedy=remedy) from error
        raise _failed(module, "be imported", where, error) from error


def _failed(module: str, what: str, where: str, error: BaseException) -> ProjectError:
    return ProjectError(
        f"{module} cannot {what}: its own code failed with {described(error)}",
        where=where,
        remedy="Correct the module; the lines that failed are below.",
    )
