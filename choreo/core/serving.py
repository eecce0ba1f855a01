"""Whether declared steps can serve the runs of a frozen version: why a deployment would strand some of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from choreo.core.checks.finding import Finding
from choreo.core.declare.steps import Step
from choreo.core.definition import StepDefinition
from choreo.core.flow_table import FlowTable


def stranding(table: FlowTable, version: int, steps: Mapping[str, Step]) -> list[str]:
    """Return why runs of this version could not go on with these steps, each reason a part of a sentence."""
    return [finding.what for finding in stranding_findings(table, version, steps)]


def stranding_findings(table: FlowTable, version: int, steps: Mapping[str, Step]) -> list[Finding]:
    """Return a finding for each reason why runs of this version could not go on with these steps."""
    flow, keep = table.flow, "Keep the step until the version is drained (versions=)."
    where = f"flow {flow.name}, version {version}"
    if not table.is_versioned and version != flow.version:
        lost = f"no version is frozen, so that its rules are lost: freeze version {version} from its own checkout"
        return [Finding("C811", where, lost, "Then commit the file, and deploy it.")]
    if not table.knows(version):
        lost = f"flows/{flow.name}.{version}.json is missing below the schemas, or cannot be read"
        return [Finding("C811", where, lost, "Restore it from version control, and deploy it.")]
    found = []
    for known in table.of(version).flow.steps:
        step = steps.get(known.name)
        code = "C813" if step is not None and step.versions.has(version) else "C812"
        found += [Finding(code, where, f"step {known.name} {why}", keep) for why in _unserved(known, version, step)]
    return found


def _unserved(known: StepDefinition, version: int, step: Step | None) -> Iterator[str]:
    """Yield why a step cannot keep the promises to runs of this version."""
    if step is None:
        yield "is declared no more"
        return
    if not step.versions.has(version):
        yield f"serves versions {step.versions} only"
        return
    now = step.definition
    if (now.triggers, bool(now.all_of)) != (known.triggers, bool(known.all_of)):
        yield f"is on {', '.join(now.triggers)} now, and was on {', '.join(known.triggers)}"
    elif now.takes != known.takes:
        yield "takes other events than it did"
    for role, before, after in (("emit", known.emits, now.emits), ("fail with", known.fails, now.fails)):
        if more := sorted(set(after) - set(before)):
            yield f"may {role} {', '.join(more)}, of which version {version} knows nothing"
    if known.compensation is None:
        return
    if now.compensation is None:
        yield "has no compensation any more"
    elif other := sorted(set(now.compensation.emits) - set(known.compensation.emits)):
        yield f"is undone by {', '.join(other)}, of which version {version} knows nothing"
