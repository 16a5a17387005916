"""Golden transcripts of every verb and output format on every kind: the commands, and how they are run and written down.

`python -m tests.datastore.transcripts` writes the golden files anew; what changed is then for a person to read.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hostward.cli.main import main
from tests.datastore.command_line import named
from tests.lab.etcd import Etcd

GOLDEN = Path(__file__).with_name("golden")
EVERY_KIND = Path(__file__).parents[1] / "manifests" / "good" / "every-kind.json"
_FORMATS = ("ps", "wide", "yaml", "json", "custom-columns=NAME")
_TEMPLATE = '{{range .}}{{.Kind}} {{.ObjectMeta.Name}}{{"\\n"}}{{end}}'
_PATCHES = {  # a change of the spec that is valid for the kind
    "Tier": {"order": 51},
    "GlobalNetworkPolicy": {"order": 6},
    "NetworkPolicy": {"order": 6},
    "HostEndpoint": {"interfaceName": "eth0"},
    "WorkloadEndpoint": {"profiles": None},
    "Profile": {"egress": None},
    "NetworkSet": {"nets": ["198.51.100.0/25"]},
    "GlobalNetworkSet": {"nets": []},
    "Node": {"orchRefs": None},
    "IPPool": {"natOutgoing": False},
    "FelixConfiguration": {"chainInsertMode": None},
    "KubeControllersConfiguration": {"logSeverityScreen": "Info"},
    "StagedGlobalNetworkPolicy": {"order": 7},
    "StagedNetworkPolicy": {"order": 7},
    "StagedKubernetesNetworkPolicy": {"policyTypes": ["Ingress", "Egress"]},
}


def documents() -> dict[str, dict]:
    """One document of every kind that can be written."""
    return {one["kind"]: one for one in json.loads(EVERY_KIND.read_text())["items"]}


def commands(kind: str, document: dict) -> Iterator[str]:
    """What is done with one kind, from nothing to nothing."""
    word, name = kind.lower(), document["metadata"]["name"]
    where = f" -n {document['metadata']['namespace']}" if "namespace" in document["metadata"] else ""
    if document["spec"].get("tier"):
        yield "apply -f tier.json"
    yield f"get {word} {name}{where}"
    yield "replace -f one.json"
    yield "validate -f one.json"
    yield "create -f one.json --dry-run"
    yield "create -f one.json"
    yield "create -f one.json"
    yield "create -f one.json --skip-exists"
    yield "apply -f one.json"
    for form in _FORMATS:
        yield f"get {word}{where} -o {form}"
        yield f"get {word} {name}{where} -o {form}"
    yield f"get {word} {name}{where} -o yaml --export"
    yield f"get {word} {name}{where} -o go-template='{_TEMPLATE}'"
    if where:
        yield f"get {word} -A"
    yield f"patch {word} {name}{where} -p '{json.dumps({'spec': _PATCHES[kind]})}' --dry-run"
    yield f"patch {word} {name}{where} -p '{json.dumps({'spec': _PATCHES[kind]})}'"
    yield f"label {word} {name}{where} purpose=test"
    yield f"label {word} {name}{where} purpose=other"
    yield f"label {word} {name}{where} purpose=other --overwrite"
    yield f"label {word} {name}{where} purpose --remove"
    yield "replace -f one.json"
    yield "convert -f one.json"
    yield f"delete {word} {name}{where} --dry-run"
    yield "delete -f one.json"
    yield f"delete {word} {name}{where}"
    yield f"delete {word} {name}{where} --skip-not-exists"


def transcript(kind: str, home: Path) -> str:
    """What the commands of a kind print, on a store that must be empty. Files are made in `home`, the current directory."""
    of_kind = documents()
    (home / "one.json").write_text(json.dumps(of_kind[kind]))
    (home / "tier.json").write_text(json.dumps(of_kind["Tier"]))
    return "\n".join(_ran(command) for command in commands(kind, of_kind[kind]))


def _ran(command: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(shlex.split(command))
    text = named(out.getvalue())
    text += "" if text.endswith("\n") or not text else "(no newline)\n"
    text += "".join(f"! {line}\n" for line in named(err.getvalue()).splitlines())
    return f"$ hostward {command}\n{text}" + (f"exit {code}\n" if code else "")


def rewrite() -> None:
    """Writes all golden files anew."""
    GOLDEN.mkdir(exist_ok=True)
    with Etcd() as etcd, tempfile.TemporaryDirectory() as home:
        for name in ("HOSTWARD_DATASTORE", "ETCD_ENDPOINTS"):
            os.environ.pop(name, None)
        os.environ.update(etcd.env)
        os.chdir(home)
        for kind in documents():
            etcd.delete("/calico/", prefix=True)
            (GOLDEN / f"{kind}.txt").write_text(transcript(kind, Path(home)))


if __name__ == "__main__":
    sys.exit(rewrite())
