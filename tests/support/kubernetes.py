"""Kubernetes manifests, checked against the API's classes."""

import dataclasses
import sys
import types
import typing
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

MANIFESTS: Final = Path(__file__).resolve().parents[2] / "packaging/kubernetes"
KINDS: Final = {
    ("v1", "Namespace"): "core_v1",
    ("v1", "Service"): "core_v1",
    ("apps/v1", "DaemonSet"): "apps_v1",
    ("apps/v1", "StatefulSet"): "apps_v1",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networking_v1",
}


def documents(folder: str) -> list[dict[str, Any]]:
    """Return the objects in a folder of manifests, without the kustomization."""
    files = sorted((MANIFESTS / folder).glob("*.yaml"))
    texts = [file.read_text() for file in files if file.name != "kustomization.yaml"]
    return [each for text in texts for each in yaml.safe_load_all(text)]


def faults(document: dict[str, Any]) -> list[str]:
    """Return the fields of an object that do not match the API's schema."""
    _stand_in()
    module = import_module(f"lightkube.models.{KINDS[document['apiVersion'], document['kind']]}")
    return list(_faults(getattr(module, document["kind"]), document, document["kind"]))


def _stand_in() -> None:
    """Provide fakes of the client modules that lightkube-models imports."""
    schema = types.ModuleType("lightkube.core.schema")
    schema.DictMixin, schema.field, schema.dataclass = object, dataclasses.field, dataclasses.dataclass  # type: ignore[attr-defined]
    sys.modules.setdefault("lightkube.core", types.ModuleType("lightkube.core"))
    sys.modules.setdefault("lightkube.core.schema", schema)


def _faults(wanted: Any, value: Any, where: str) -> typing.Iterator[str]:
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in {typing.Union, types.UnionType}:
        choices = [each for each in inner if each is not type(None)]
        found = [list(_faults(each, value, where)) for each in choices]
        yield from min(found, key=len)
    elif origin is list and isinstance(value, list):
        for place, each in enumerate(value):
            yield from _faults(inner[0], each, f"{where}[{place}]")
    elif origin is dict and isinstance(value, dict):
        for key, each in value.items():
            yield from _faults(inner[1], each, f"{where}.{key}")
    elif dataclasses.is_dataclass(wanted) and isinstance(value, dict):
        yield from _faults_of_object(wanted, value, where)
    elif not isinstance(value, origin or wanted if isinstance(origin or wanted, type) else object):
        yield f"{where}: {value!r} is no {wanted}"


def _faults_of_object(wanted: Any, value: dict[str, Any], where: str) -> typing.Iterator[str]:
    hints = typing.get_type_hints(wanted, vars(sys.modules[wanted.__module__]))
    names = {each.metadata.get("json", each.name): each for each in dataclasses.fields(wanted)}
    for key, inner in value.items():
        if key not in names:
            yield f"{where}: there is no {key}"
        else:
            yield from _faults(hints[names[key].name], inner, f"{where}.{key}")
    for key, each in names.items():
        if each.default is each.default_factory is dataclasses.MISSING and key not in value:
            yield f"{where}: {key} is missing"
