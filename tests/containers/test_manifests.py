"""The Kubernetes manifests: valid by the schemas of Kubernetes and KEDA, complete for the flow, true to its topic."""

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from choreo.adapters.faust.options import FaustOptions
from choreo.adapters.kafka import KafkaOptions
from choreo.adapters.kafka.options import settings_of
from choreo.adapters.kafka.topics import tracker_app
from choreo.adapters.topics_yaml import load_topics
from choreo.core.parents import with_parents
from choreo.settings import Settings
from services.order_flow import order
from services.travel.ticket_flow import ticket
from services.travel.trip_flow import trip
from tests.support import required

kubernetes_validate = required.needed("kubernetes_validate", "dev")
jsonschema = required.needed("jsonschema", "dev")

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
SECURED = ROOT / "deploy" / "sasl"
SCHEMAS = ROOT / "deploy" / "schemas"
TRIGGER = json.loads((SCHEMAS / "kafka-trigger.json").read_text())
KUBERNETES = ("1.31", "1.37")
"""The oldest and the newest version they are held to."""

HEALTH_PORT = 8081
"""As the image sets it: see the Dockerfile."""

FLOWS = (order, trip, ticket)
SERVICES = {flow.name: [service.name for service in flow.services] for flow in FLOWS}
GROUPS: dict[str, dict[str, str]] = {
    **{name: {flow: name} for flow, names in SERVICES.items() for name in names},
    "bridge": {flow.name: "bridge" for flow in (trip, ticket)},
    "projector": {flow.name: "projector" for flow in FLOWS},
    "tracker": {flow.name: tracker_app(flow.name) for flow in FLOWS},
}
"""Role → the consumer group on each log that it reads."""
MODULES = ("services.order_flow", "services.travel.trip_flow", "services.travel.ticket_flow")
ROLES = [*GROUPS, "rest"]


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the objects that one file declares."""
    return list(yaml.safe_load_all(path.read_text()))


DECLARED = [
    document
    for path in sorted(MANIFESTS.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in documents(path)
]


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a custom resource's schema as the API server's strict validation reads it: it refuses unknown fields."""
    made = {name: strict(part) if isinstance(part, dict) else part for name, part in schema.items()}
    if "properties" in made:
        made["properties"] = {name: strict(part) for name, part in schema["properties"].items()}
        made.setdefault("additionalProperties", bool(made.get("x-kubernetes-preserve-unknown-fields")))
    if made.pop("x-kubernetes-int-or-string", False):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return made


def custom(name: str) -> tuple[str, dict[str, Any]]:
    """Return the kind of a custom resource definition of KEDA's, and its schema."""
    defined = yaml.safe_load((SCHEMAS / "keda" / f"{name}.yaml").read_text())["spec"]
    (version,) = defined["versions"]
    return defined["names"]["kind"], strict(version["schema"]["openAPIV3Schema"])


KEDA = dict(map(custom, ("scaledobjects", "triggerauthentications")))


def validate(document: dict[str, Any]) -> None:
    """Raise the faults of a manifest, by its reader's schema."""
    if document["kind"] not in KEDA:
        for version in KUBERNETES:
            kubernetes_validate.validate(document, version, strict=True)
        return
    assert document["apiVersion"] == "keda.sh/v1alpha1"
    jsonschema.validate(document, KEDA[document["kind"]])
    for trigger in document["spec"].get("triggers", ()):
        assert trigger["type"] == "kafka"
        jsonschema.validate(trigger["metadata"], TRIGGER)


def named(document: dict[str, Any]) -> str:
    """Return an object's name as kubectl writes it."""
    return f"{document['kind']}/{document['metadata']['name']}"


def one(kind: str, name: str) -> dict[str, Any]:
    """Return the one of this kind and name."""
    (found,) = [document for document in DECLARED if named(document) == f"{kind}/{name}"]
    return found


def workload(role: str) -> dict[str, Any]:
    """Return the workload that runs a role's pods."""
    return one("StatefulSet" if role == "tracker" else "Deployment", role)


PODS = [document for document in DECLARED if document["kind"] in ("Deployment", "StatefulSet", "Job")]


@pytest.mark.parametrize("document", [*DECLARED, *documents(SECURED / "credentials.yaml")], ids=named)
def test_a_manifest_is_valid(document: dict[str, Any]) -> None:
    """By Kubernetes' own schemas and KEDA's own definitions, strictly; of a trigger also its scaler's fields."""
    validate(document)


@pytest.mark.parametrize(
    ("kind", "place", "wrong", "output"),
    [
        ("ScaledObject", ("spec", "triggers", 0, "metadata", "lagThreshold"), 500, "500 is not of type 'string'"),
        ("ScaledObject", ("spec", "triggers", 0, "metadata", "lag"), "5", "'lag' was unexpected"),
        ("ScaledObject", ("spec", "maxReplicas"), 8, "'maxReplicas' was unexpected"),
        ("ScaledObject", ("spec", "minReplicaCount"), "2", "'2' is not of type 'integer'"),
        ("Deployment", ("spec", "template", "spec", "graceSeconds"), 30, "graceSeconds"),
        ("PodDisruptionBudget", ("spec", "maxUnavailable"), 0.5, "0.5"),
    ],
)
def test_a_mistake_in_a_manifest_is_found(kind: str, place: tuple[Any, ...], wrong: Any, output: str) -> None:
    """A check that never fails is none: a number for a text, and fields that nobody knows."""
    document = copy.deepcopy(one(kind, "payment"))
    part: Any = document
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = wrong
    with pytest.raises(Exception, match=output):
        validate(document)


def test_all_of_it_is_applied_at_once() -> None:
    """`kubectl apply -k` takes every file, and the image's name stands in one place."""
    (kustomization,) = documents(MANIFESTS / "kustomization.yaml")
    written = {path.name for path in MANIFESTS.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == written
    images = {container["image"] for pod in PODS for container in pod["spec"]["template"]["spec"]["containers"]}
    assert images == {f"{image['name']}:{image['newTag']}" for image in kustomization["images"]}


def test_what_the_secret_says_is_understood_by_every_client() -> None:
    """confluent-kafka, the tracker's own, and KEDA, which names the mechanism in its own way."""
    secret, authentication = documents(SECURED / "credentials.yaml")
    output = secret["stringData"]
    settings = KafkaOptions.of("kafka:9092", settings_of(output)).settings
    faust = FaustOptions("kafka:9092", Path(), settings=settings)
    assert (faust.protocol, faust.mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    (kustomization,) = documents(SECURED / "kustomization.yaml")
    mechanism = faust.mechanism.lower().replace("-", "_").replace("sha_", "sha")
    for number, patch in enumerate(kustomization["patches"]):
        assert {operation["path"]: operation["value"] for operation in yaml.safe_load(patch["patch"])} == {
            f"/spec/triggers/{number}/metadata/sasl": mechanism,
            f"/spec/triggers/{number}/metadata/tls": "enable",
            f"/spec/triggers/{number}/authenticationRef": {"name": authentication["metadata"]["name"]},
        }
        patched = {role for role in GROUPS if re.fullmatch(patch["target"].get("name", ".*"), role)}
        assert patched == {role for role, groups in GROUPS.items() if len(groups) > number}
    for parameter in authentication["spec"]["secretTargetRef"]:
        assert parameter["name"] == secret["metadata"]["name"]
        assert parameter["key"] == f"CHOREO_KAFKA_SASL_{parameter['parameter'].upper()}"
        assert parameter["key"] in output
    for pod in PODS:
        (container,) = pod["spec"]["template"]["spec"]["containers"]
        assert [next(iter(source.values()))["name"] for source in container["envFrom"]] == ["choreo", "choreo"]


@pytest.mark.parametrize("folder", [MANIFESTS, SECURED], ids=["kubernetes", "sasl"])
def test_what_kubectl_makes_of_it_is_valid(folder: Path) -> None:
    """With every patch applied; without a kubectl on this machine this is not known."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed: what it makes of the patches was not looked at")
    built = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=True)
    made = list(yaml.safe_load_all(built.stdout))
    assert {named(document) for document in DECLARED} <= {named(document) for document in made}
    for document in made:
        validate(document)
        if folder == SECURED and document["kind"] == "ScaledObject":
            assert {each["authenticationRef"]["name"] for each in document["spec"]["triggers"]} == {"kafka"}


@pytest.mark.parametrize("role", ROLES)
def test_every_role_runs_may_be_disturbed_one_at_a_time_and_says_whether_it_lives(role: str) -> None:
    """A service that is added to the flow and not deployed would leave every order waiting for it."""
    pod = workload(role)["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["args"] == ["run", role]
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "health"}
    labels = workload(role)["spec"]["selector"]["matchLabels"]
    assert pod["metadata"]["labels"] == labels
    assert container["startupProbe"]["httpGet"] == {"path": "/livez", "port": "health"}
    assert container["readinessProbe"]["httpGet"]["path"] == ("/readyz" if role == "rest" else "/livez")
    assert {port["name"]: port["containerPort"] for port in container["ports"]}["health"] == HEALTH_PORT
    assert pod["spec"]["terminationGracePeriodSeconds"] >= 2 * Settings().stop_s
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    budget = one("PodDisruptionBudget", role)["spec"]
    assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": labels}}


@pytest.mark.parametrize(("role", "groups"), GROUPS.items(), ids=GROUPS)
def test_a_role_scales_on_the_lag_of_its_groups_up_to_the_partitions(role: str, groups: dict[str, str]) -> None:
    """More consumers than partitions would be idle; a group that nobody is in has no lag."""
    spec = one("ScaledObject", role)["spec"]
    assert (spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]) == (workload(role)["kind"], role)
    topics = load_topics(ROOT / "topics")
    assert {topics[flow].partitions for flow in groups} == {spec["maxReplicaCount"]}
    found = {each["metadata"]["topic"]: each["metadata"]["consumerGroup"] for each in spec["triggers"]}
    assert found == groups
    (servers,) = {each["metadata"]["bootstrapServers"] for each in spec["triggers"]}
    assert servers == one("ConfigMap", "choreo")["data"]["CHOREO_KAFKA"]
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
    """A change for one service that another lacks shows itself on the worst day."""
    texts = {
        (MANIFESTS / f"{name}.yaml").read_text().replace(name, "NAME").replace(f"topic: {flow}\n", "topic: FLOW\n")
        for flow, names in SERVICES.items()
        for name in names
    }
    assert len(texts) == 1


def test_the_roles_run_the_flows_of_the_project() -> None:
    """The bridge among them, where a flow starts runs of another."""
    named = [f"{name}:{flow}" for flow, name in zip((f.name for f in FLOWS), MODULES, strict=True)]
    assert one("ConfigMap", "choreo")["data"]["CHOREO_FLOWS"] == ",".join(named)
    definitions = with_parents({flow.name: flow.definition for flow in FLOWS})
    assert GROUPS["bridge"].keys() == {name for name, each in definitions.items() if each.crosses}
