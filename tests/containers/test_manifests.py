"""The Kubernetes manifests: valid by their schemas, complete for the flow, and in step with its topic."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from choreo.adapters.kafka.topics import tracker_app
from choreo.adapters.topics_yaml import load_topics
from services.order_flow import order
from tests.support.required import needed

kubernetes_validate = needed("kubernetes_validate", "dev")
jsonschema = needed("jsonschema", "dev")

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
KEDA = json.loads((ROOT / "deploy" / "schemas" / "scaledobject.json").read_text())
KUBERNETES = ("1.31", "1.37")
"""The oldest and the newest version they are held to."""

SERVICES = [service.name for service in order.services]
GROUPS = {**{name: name for name in SERVICES}, "projector": "projector", "tracker": tracker_app(order.name)}
ROLES = [*GROUPS, "rest"]


def documents(path: Path) -> list[dict[str, Any]]:
    """What one file declares."""
    return list(yaml.safe_load_all(path.read_text()))


DECLARED = [document for path in sorted(MANIFESTS.glob("*.yaml")) for document in documents(path)]


def named(document: dict[str, Any]) -> str:
    """As kubectl names it."""
    return f"{document['kind']}/{document['metadata']['name']}"


def one(kind: str, name: str) -> dict[str, Any]:
    """The one of this kind and name."""
    (found,) = [document for document in DECLARED if named(document) == f"{kind}/{name}"]
    return found


def workload(role: str) -> dict[str, Any]:
    """What runs a role's pods."""
    return one("StatefulSet" if role == "tracker" else "Deployment", role)


PODS = [document for document in DECLARED if document["kind"] in ("Deployment", "StatefulSet", "Job")]


@pytest.mark.parametrize("document", DECLARED, ids=named)
def test_a_manifest_is_valid(document: dict[str, Any]) -> None:
    """By Kubernetes' own schemas, strictly; a ScaledObject by ours, for its own is not among them."""
    if document["kind"] == "ScaledObject":
        jsonschema.validate(document, KEDA)
        return
    for version in KUBERNETES:
        kubernetes_validate.validate(document, version, strict=True)


def test_a_scaled_object_with_a_number_for_a_text_is_refused() -> None:
    """The schema of our own says no where KEDA would: a check that never fails is none."""
    wrong = json.loads(json.dumps(one("ScaledObject", "payment")))
    wrong["spec"]["triggers"][0]["metadata"]["lagThreshold"] = 500
    with pytest.raises(jsonschema.ValidationError, match="500 is not of type 'string'"):
        jsonschema.validate(wrong, KEDA)


@pytest.mark.parametrize("role", ROLES)
def test_every_role_runs_may_be_disturbed_one_at_a_time_and_says_whether_it_lives(role: str) -> None:
    """A service that is added to the flow and not deployed would leave every order waiting for it."""
    pod = workload(role)["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["args"] == ["run", role]
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "health"}
    labels = workload(role)["spec"]["selector"]["matchLabels"]
    assert pod["metadata"]["labels"] == labels
    budget = one("PodDisruptionBudget", role)["spec"]
    assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": labels}}


@pytest.mark.parametrize(("role", "group"), GROUPS.items())
def test_a_role_scales_on_the_lag_of_its_group_up_to_the_partitions(role: str, group: str) -> None:
    """More members than partitions would be idle; a group that nobody is in has no lag."""
    spec = one("ScaledObject", role)["spec"]
    assert (spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]) == (workload(role)["kind"], role)
    assert spec["maxReplicaCount"] == load_topics(ROOT / "topics")[order.name].partitions
    (trigger,) = spec["triggers"]
    assert (trigger["metadata"]["topic"], trigger["metadata"]["consumerGroup"]) == (order.name, group)
    assert trigger["metadata"]["bootstrapServers"] == one("ConfigMap", "choreo")["data"]["CHOREO_KAFKA"]
    assert "replicas" not in workload(role)["spec"], "KEDA and kubectl apply would undo each other"


@pytest.mark.parametrize("document", PODS, ids=named)
def test_a_pod_may_do_no_more_than_it_must(document: dict[str, Any]) -> None:
    """The namespace enforces the restricted standard; a root file system that cannot be written goes beyond it."""
    pod = document["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    for container in pod["containers"]:
        allowed = container["securityContext"]
        assert allowed["allowPrivilegeEscalation"] is False
        assert allowed["readOnlyRootFilesystem"] is True
        assert allowed["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


def test_services_differ_in_nothing_but_their_name() -> None:
    """What is changed for one and forgotten for another shows itself on the worst day."""
    texts = {(MANIFESTS / f"{name}.yaml").read_text().replace(name, "NAME") for name in SERVICES}
    assert len(texts) == 1
