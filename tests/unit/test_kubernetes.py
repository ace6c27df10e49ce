"""The manifests: built as a user builds them, held against Kubernetes' own schemas, and against each other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from rolehost.service_model import load
from rolehost.workers.settings import WorkerSettings
from rolehost.workers.thumbnail import ThumbnailWorker

KUBERNETES = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
OVERLAYS = ("azure-storage", "service-bus", "azurite")

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None and not os.environ.get("CI"), reason="kubectl builds the manifests"
)


@pytest.fixture(scope="module", params=OVERLAYS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All manifests of an overlay, in one file."""
    made = subprocess.run(
        ("kubectl", "kustomize", str(KUBERNETES / "overlays" / request.param)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (made.returncode, made.stderr) == (0, "")
    path = tmp_path_factory.mktemp("manifests") / f"{request.param}.yaml"
    path.write_text(made.stdout)
    return path


@pytest.fixture
def objects(built: Path) -> Mapping[tuple[str, str], Any]:
    """The objects by kind and name."""
    found = YAML(typ="safe").load_all(built)
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def container(objects: Mapping[tuple[str, str], Any], deployment: str) -> Any:
    (only,) = objects["Deployment", deployment]["spec"]["template"]["spec"]["containers"]
    return only


def test_manifests_are_what_kubernetes_knows(built: Path) -> None:
    program = Path(sys.executable).with_name("kubernetes-validate")
    told = subprocess.run((program, "-k", "1.36", "--strict", built), capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    unknown = [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("WARN")]
    assert all("keda.sh/v1alpha1" in line for line in unknown), "only the scaler's own kinds have no schema here"


def test_the_definition_is_one_that_the_host_reads(objects: Mapping[tuple[str, str], Any], tmp_path: Path) -> None:
    text = objects["ConfigMap", "rolehost-definition"]["data"]["service.toml"]
    (tmp_path / "service.toml").write_text(text)
    model = load(tmp_path / "service.toml", {})
    for deployment in ("front-end", "worker"):
        role = container(objects, deployment)["args"][1]
        assert role in model.roles


def test_a_pod_is_given_the_time_of_its_drain(objects: Mapping[tuple[str, str], Any]) -> None:
    definition = tomllib.loads(objects["ConfigMap", "rolehost-definition"]["data"]["service.toml"])
    drain = definition["service"]["drain_seconds"]
    grace = objects["Deployment", "worker"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= drain + 10
    assert drain >= WorkerSettings().timeout, "a worker that is scaled in finishes the job that it has"


def test_pods_have_no_more_rights_than_they_need(objects: Mapping[tuple[str, str], Any]) -> None:
    for (kind, name), each in objects.items():
        if kind != "Deployment":
            continue
        pod = each["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        rights = container(objects, name)["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}


def test_probes_ask_where_the_host_answers(objects: Mapping[tuple[str, str], Any]) -> None:
    for deployment in ("front-end", "worker"):
        its = container(objects, deployment)
        (port,) = (each["containerPort"] for each in its["ports"] if each["name"] == "probes")
        assert f"--probe-port={port}" in its["args"]
        assert "--host=0.0.0.0" in its["args"], "a probe comes from the node"
        assert its["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "probes"}
        assert its["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "probes"}


def test_no_secret_is_in_a_manifest_for_azure(built: Path) -> None:
    if built.stem != "azurite":
        text = built.read_text()
        assert "AccountKey" not in text
        assert "SharedAccessKey" not in text
        assert "kind: Secret" not in text


def test_each_selector_selects_its_pods(objects: Mapping[tuple[str, str], Any]) -> None:
    labels = [
        each["spec"]["template"]["metadata"]["labels"] for (kind, _), each in objects.items() if kind == "Deployment"
    ]
    for (kind, _), each in objects.items():
        selector = {
            "Service": lambda spec: spec["selector"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
        }.get(kind)
        if selector is not None:
            wanted = selector(each["spec"]).items()
            assert sum(wanted <= its.items() for its in labels) == 1


def test_the_scaler_counts_jobs_in_work_on_the_workers_queue(
    objects: Mapping[tuple[str, str], Any], built: Path
) -> None:
    if built.stem == "azurite":
        assert objects["Deployment", "worker"]["spec"]["replicas"] == 2
        return
    scaled = objects["ScaledObject", "worker"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == "worker"
    assert "replicas" not in objects["Deployment", "worker"]["spec"], "the scaler alone sets them"
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["queueName"] == f"{ThumbnailWorker.kind}-jobs"
    if built.stem == "azure-storage":
        assert trigger["metadata"]["queueLengthStrategy"] == "all"
