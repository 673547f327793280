"""The manifests for Kubernetes: valid, with few privileges."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from drawwell.config.load import load
from support.kubernetes import MANIFESTS, documents, faults

KUBECTL = shutil.which("kubectl")
FOLDERS = ("node", "broker")


def pods(folder: str) -> dict[str, Any]:
    """Return the pod specifications in a folder."""
    (workload,) = (each for each in documents(folder) if "template" in each.get("spec", {}))
    return workload["spec"]["template"]["spec"]


def containers(folder: str) -> Iterator[dict[str, Any]]:
    """Yield every container of a folder's pods."""
    spec = pods(folder)
    yield from (*spec.get("initContainers", ()), *spec["containers"])


def run(*command: str) -> str:
    """Return the output of a command."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_object_is_in_the_schema(folder: str) -> None:
    """Every field of every object is in the API, with the right type."""
    assert {each["kind"]: faults(each) for each in documents(folder) if faults(each)} == {}


def test_the_schema_finds_a_fault() -> None:
    """A misspelt, a missing and a mistyped field are detected."""
    document = next(each for each in documents("node") if each["kind"] == "DaemonSet")
    container = document["spec"]["template"]["spec"]["containers"][0]
    del container["name"]
    container |= {"comand": ["x"], "args": "run"}
    assert len(faults(document)) == 3


@pytest.mark.parametrize("folder", FOLDERS)
def test_only_the_feeder_has_a_capability(folder: str) -> None:
    """All other capabilities are dropped, and no host resource is used."""
    added = {each["name"]: each["securityContext"]["capabilities"].get("add") for each in containers(folder)}
    assert {name: what for name, what in added.items() if what} == (
        {"feeder": ["SYS_ADMIN"]} if folder == "node" else {}
    )
    for each in containers(folder):
        context = each["securityContext"]
        assert context["capabilities"]["drop"] == ["ALL"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
    assert not re.search("privileged: true|hostPath:|host(Network|PID|IPC|Users):", yaml.dump(pods(folder)))


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_named_is_there(folder: str) -> None:
    """Selectors match pods, mounts match volumes, settings match files."""
    spec, config = pods(folder), load(str(MANIFESTS / folder / "drawwell.toml"))
    volumes = {each["name"] for each in spec["volumes"]} | {"state"}
    mounts = {mount["mountPath"] for each in containers(folder) for mount in each["volumeMounts"]}
    assert {mount["name"] for each in containers(folder) for mount in each["volumeMounts"]} <= volumes
    used = [each.identity for each in config.upstreams] + [str(Path(config.pki.ca).parent)] * (
        folder == "broker"
    )
    assert set(used) <= mounts
    specs = [each["spec"] for each in documents(folder) if "spec" in each]
    labels = {str(each["template"]["metadata"]["labels"]) for each in specs if "template" in each}
    selectors = [each.get("podSelector", each.get("selector")) for each in specs]
    assert {str(each.get("matchLabels", each)) for each in selectors} == labels


def test_the_alerts_are_those_of_the_file() -> None:
    """The Prometheus operator's object has the rules of rules.yml."""
    rules = yaml.safe_load((MANIFESTS.parent / "prometheus/rules.yml").read_text())
    (rule,) = (each for each in documents("monitoring") if each["kind"] == "PrometheusRule")
    assert rule["spec"] == rules


@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_renders(folder: str, tmp_path: Path) -> None:
    """An overlay puts all objects into its namespace, with its image."""
    if not KUBECTL or "Kustomize" not in run(KUBECTL, "version", "--client"):
        pytest.skip("needs kubectl 1.24 or later")
    shutil.copytree(MANIFESTS, tmp_path / "kubernetes")
    overlay = tmp_path / "mine"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(
        f"resources: [../kubernetes/{folder}]\ncomponents: [../kubernetes/monitoring]\n"
        "images: [{name: registry.example.org/drawwell, newName: mine/drawwell, newTag: '1'}]\n"
    )
    text = run(KUBECTL, "kustomize", str(overlay))
    found = list(yaml.safe_load_all(text))
    spaces = {each["metadata"].get("namespace") for each in found if each["kind"] != "Namespace"}
    assert spaces - {None} == {"drawwell" if folder == "node" else "drawwell-broker"}
    images = set(re.findall(r"image: (\S+)", text))
    assert images == {"mine/drawwell:1"}
    assert {"ServiceMonitor", "PrometheusRule", "NetworkPolicy"} <= {each["kind"] for each in found}
