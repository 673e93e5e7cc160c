"""Reads YAML manifests strictly, holds each document against the schema of its kind, and prints all of them as JSON.

Kinds of Kubernetes itself are held against its own schemas, without a key that they do not know, for an old and a new version; those of
Istio, cert-manager and the Prometheus operator against models that were made from their CRDs. What there is no schema for is told
on standard error. Ends with 1 when something is wrong."""

import importlib
import json
import sys

import kubernetes_validate
import yaml

VERSIONS = ("1.30", "1.37")

MODELS = {
    "cert-manager.io/v1": "cloudcoil.models.cert_manager.v1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
    "networking.istio.io/v1": "cloudcoil.models.istio.networking.v1",
    "networking.istio.io/v1alpha3": "cloudcoil.models.istio.networking.v1alpha3",
    "security.istio.io/v1": "cloudcoil.models.istio.security.v1",
}

# Never a resource of a cluster: what `istioctl` reads.
WITHOUT_SCHEMA = {"IstioOperator"}


class Strict(yaml.SafeLoader):
    """YAML in which a key stands once."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {sorted(twice)} twice")
        return super().construct_mapping(node, deep)


def lost(given, taken, path=""):
    """What a model did not take over, because it has no such field."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(taken, dict) or key not in taken:
                yield f"{path}.{key}"
            else:
                yield from lost(value, taken[key], f"{path}.{key}")
    elif isinstance(given, list):
        for at, value in enumerate(given):
            yield from lost(value, taken[at], f"{path}[{at}]")


def faults(document):
    missing = [name for name in ("apiVersion", "kind") if not isinstance(document.get(name), str)]
    if missing or not (document.get("metadata") or {}).get("name"):
        return [f"without {missing or 'a name'}"]
    version, kind = document["apiVersion"], document["kind"]
    if version in MODELS:
        model = getattr(importlib.import_module(MODELS[version]), kind, None)
        if model is None:
            return [f"{version} has no {kind}"]
        try:
            taken = model.model_validate(document).model_dump(mode="json", by_alias=True, exclude_unset=True)
        except ValueError as error:
            return [str(error)]
        return [f"{version} {kind} has no {path}" for path in lost(document, taken)]
    if kind in WITHOUT_SCHEMA:
        print(f"{version} {kind}: syntax only", file=sys.stderr)
        return []
    found = []
    for kubernetes in VERSIONS:
        try:
            kubernetes_validate.validate(document, kubernetes, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            found.append(f"Kubernetes {kubernetes}: {error.message}")
    return found


everything, is_good = [], True
for file in sys.argv[1:]:
    with open(file, encoding="utf-8") as text:
        try:
            documents = list(yaml.load_all(text, Strict))
        except yaml.YAMLError as error:
            sys.exit(f"{file}: {error}")
    for document in documents:
        for fault in faults(document):
            print(f"{file}: {document.get('kind')} {document.get('metadata')}: {fault}", file=sys.stderr)
            is_good = False
        everything.append({"file": file, "document": document})
json.dump(everything, sys.stdout)
sys.exit(0 if is_good else 1)
