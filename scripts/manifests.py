"""Render the Helm chart, and hold all that is deployed against the schemas of those who read it.

Kubernetes' own schemas in their strict form, those of KEDA and the Prometheus operator from their
models, KServe's from its SDK, compose's from its specification.  Runs in an environment of its own:

    manifests ROOT OUT

ROOT is the project, OUT a folder for the onnxport.toml of each set of values.
"""

from __future__ import annotations

import ast
import copy
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor
from compose_spec import PyCompose
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

# The oldest that the chart allows and the schemas know, and the newest.
KUBERNETES = ("1.28", "1.33", "1.37")
IMAGE_VOLUMES_SINCE = (1, 33)
_REFERENCE = re.compile(r"^(?:list\[(?P<list>.+)\]|dict[\[(]str, (?P<dict>.+)[\])])$")
_PLAIN = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}


def main(root: Path, out: Path) -> None:
    """Check all; the first that does not hold ends it with its text."""
    chart = root / "deploy/helm/onnxport"
    kserve = kserve_schemas()
    count = 0
    for values in sorted((chart / "ci").glob("*.yaml")):
        manifests = list(rendered(chart, yaml.safe_load(values.read_text())))
        for manifest in manifests:
            check(manifest, kserve)
            check_promises(manifest)
            if manifest["kind"] == "ConfigMap":
                (out / f"{values.stem}.toml").write_text(manifest["data"]["onnxport.toml"])
        count += len(manifests)
        kinds = sorted(manifest["kind"] for manifest in manifests)
        print(f"{values.stem}: {len(manifests)} manifests hold: {', '.join(kinds)}")
    check_refusals(chart)
    for path in sorted((root / "deploy/kserve").glob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            check(manifest, kserve)
            count += 1
            print(f"{path.name}: {manifest['kind']} holds")
    check_that_faults_are_seen(chart, kserve)
    compose = (root / "docker-compose.yml").read_text()
    check_compose(compose)
    print(f"docker-compose.yml holds\n{count} manifests hold against Kubernetes {KUBERNETES}")


def rendered(chart: Path, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the chart's manifests, after Helm's own lint."""
    report = helm_python.lint(chart, values, strict=True)
    faults = [*report["errors"], *(m for m in report["messages"] if m["severity"] > 1)]
    if faults:
        raise SystemExit(f"helm lint: {faults}")
    with helm_python.Chart.load(chart) as loaded:
        loaded.validate_schema(values)
        texts = loaded.render(values, name="release", namespace="serving")
    for name, text in sorted(texts.items()):
        if name.endswith((".yaml", ".yml")):
            yield from (manifest for manifest in yaml.safe_load_all(text) if manifest)


def check(manifest: dict[str, Any], kserve: dict[str, Any]) -> None:
    """Hold one manifest against the schema of its kind."""
    group = manifest["apiVersion"].rpartition("/")[0]
    if group == "serving.kserve.io":
        check_kserve(manifest, kserve)
    elif group in {"keda.sh", "monitoring.coreos.com"}:
        model = {"ScaledObject": ScaledObject, "ServiceMonitor": ServiceMonitor}[manifest["kind"]]
        jsonschema.validate(manifest, closed(model.model_json_schema(by_alias=True)))
    else:
        for version in KUBERNETES:
            number = tuple(map(int, version.split(".")))
            if "reference:" in yaml.safe_dump(manifest) and number < IMAGE_VOLUMES_SINCE:
                continue
            kubernetes_validate.validate(manifest, version, strict=True)


def closed(schema: object) -> object:
    """Return the schema with every object that lists its members refusing others."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        result.setdefault("additionalProperties", False)
    return result


def check_promises(manifest: dict[str, Any]) -> None:
    """Check what no schema says: limits, probes, an orderly end."""
    if manifest["kind"] != "Deployment":
        return
    pod = manifest["spec"]["template"]["spec"]
    (server,) = (c for c in pod["containers"] if c["name"] == "onnxport")
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(server), "probes"
    assert server["livenessProbe"]["httpGet"]["path"] == "/v2/health/live", (
        "liveness needs no model"
    )
    waits = int(server["lifecycle"]["preStop"]["exec"]["command"][1])
    assert waits + 30 < pod["terminationGracePeriodSeconds"], "time for drain and grace"
    assert pod["securityContext"]["runAsNonRoot"], "not root"
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"]["readOnlyRootFilesystem"], "read-only root"
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, "no capability"
        assert container["resources"]["limits"]["cpu"], "threads follow the limit"
    mounted = {mount["name"] for mount in server["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}, "each volume is mounted"


def check_refusals(chart: Path) -> None:
    """Values that would deploy something else than was meant are refused."""
    for values in (
        {"replicas": 3},
        {"models": {"type": "nfs"}},
        {"models": {"type": "s3"}},
        {"models": {"type": "image"}},
        {"autoscaling": {"enabled": True, "type": "vpa"}},
    ):
        with helm_python.Chart.load(chart) as loaded:
            try:
                loaded.validate_schema(values)
                loaded.render(values, name="release", namespace="serving")
            except helm_python.HelmError:
                continue
        raise SystemExit(f"the chart takes {values}")


def check_compose(text: str) -> None:
    """Hold the compose file against its specification, and its parts against each other."""
    # As compose reads it: variables first, then what YAML merges.
    document = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
    PyCompose.from_yaml(yaml.safe_dump(document)).validate()
    for name, service in document["services"].items():
        held = set(service.get("depends_on", ())) <= set(document["services"])
        assert held, f"{name} waits for a service that is not declared"
        named = {v.split(":")[0] for v in service.get("volumes", ()) if v[0] not in "./"}
        assert named <= set(document["volumes"]), f"{name} mounts what is not declared: {named}"


def check_that_faults_are_seen(chart: Path, kserve: dict[str, Any]) -> None:
    """A misspelt key must be a fault of every schema, or the checks above would mean nothing."""
    values = {"autoscaling": {"enabled": True}, "serviceMonitor": {"enabled": True}}
    manifests = list(rendered(chart, values))
    runtime = chart.parents[1] / "kserve/cluster-serving-runtime.yaml"
    manifests.append(yaml.safe_load(runtime.read_text()))
    for manifest in manifests:
        wrong = copy.deepcopy(manifest)
        wrong.setdefault("spec", wrong)["misspelt"] = 1
        try:
            check(wrong, kserve)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError):
            continue
        raise SystemExit(f"{manifest['kind']}: a misspelt key is not seen")


def kserve_schemas() -> dict[str, Any]:
    """Return a schema for each class of KServe's SDK, read from its source without importing it."""
    schemas = {}
    for file in importlib.metadata.files("kserve") or ():
        if re.match(r"kserve/models/v1\w+\.py$", str(file)):
            tree = ast.parse(Path(file.locate()).read_text())
            for node in tree.body:
                if isinstance(node, ast.ClassDef):
                    schemas[node.name] = kserve_schema(node)
    if not schemas:
        raise SystemExit("kserve's SDK has no models")
    return schemas


def kserve_schema(node: ast.ClassDef) -> dict[str, Any]:
    """Return the schema of one class: its members, their types, and which it does without."""
    tables = {
        target.id: ast.literal_eval(statement.value)
        for statement in node.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name) and target.id in {"openapi_types", "attribute_map"}
    }
    names = tables["attribute_map"]
    required = {
        names[part.name]
        for part in node.body
        if isinstance(part, ast.FunctionDef) and "must not be `None`" in ast.unparse(part)
    }
    return {
        "type": "object",
        "properties": {names[k]: type_schema(t) for k, t in tables["openapi_types"].items()},
        "required": sorted(required),
        "additionalProperties": False,
    }


def type_schema(name: str) -> dict[str, Any]:
    """Return the schema of a type in the SDK's spelling."""
    if found := _REFERENCE.match(name):
        if found["list"]:
            return {"type": "array", "items": type_schema(found["list"])}
        return {"type": "object", "additionalProperties": type_schema(found["dict"])}
    if name in _PLAIN:
        return {"type": _PLAIN[name]}
    if re.match(r"V1(alpha|beta)1", name):
        return {"$ref": f"kserve:{name}"}
    if re.match(r"V1\w+$", name):
        return {"$ref": f"core:{name.removeprefix('V1').lower()}"}
    return {}


def check_kserve(manifest: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Hold a manifest against its class, and the parts of Kubernetes in it against Kubernetes'."""
    prefix = manifest["apiVersion"].rpartition("/")[2].capitalize()
    registry = Registry(retrieve=lambda uri: retrieved(uri, schemas))
    schema = {"$ref": f"kserve:{prefix}{manifest['kind']}"}
    jsonschema.Draft7Validator(schema, registry=registry).validate(manifest)


def retrieved(uri: str, schemas: dict[str, Any]) -> Resource[Any]:
    """Return what a reference means: a class of KServe's, or a type of Kubernetes'."""
    if uri.startswith("kserve:"):
        return DRAFT7.create_resource(schemas[uri.removeprefix("kserve:")])
    name = uri.removeprefix("core:").rpartition("/")[2]
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    folder /= f"v{KUBERNETES[-1]}.0-local-strict"
    names = (name, f"{name}-v1.json", f"{name}-meta-v1.json")
    file = next(folder / known for known in names if (folder / known).is_file())

    return DRAFT7.create_resource(json.loads(file.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
