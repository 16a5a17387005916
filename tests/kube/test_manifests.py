"""A real API server takes what `deploy/` has, field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.lab.kubernetes import ApiServer

MANIFESTS = sorted((Path(__file__).parents[2] / "deploy").glob("*.yaml"))


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with ApiServer() as api:
        yield api


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_a_manifest_is_accepted(server: ApiServer, file: Path) -> None:
    documents = [document for document in yaml.safe_load_all(file.read_text(encoding="utf-8")) if document]
    assert documents
    # kubectl refuses fields that the server's schema doesn't have; the server checks their values.
    applied = server.kubectl("apply", "--dry-run=server", "--validate=true", "-f", str(file), "-o", "name").split()
    assert len(applied) == len(documents)


def test_a_field_that_is_misspelt_is_refused(server: ApiServer, tmp_path: Path) -> None:
    daemon_set = next(
        document
        for file in MANIFESTS
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
        if document and document["kind"] == "DaemonSet"
    )
    daemon_set["spec"]["template"]["spec"]["hostNetwerk"] = True
    (tmp_path / "wrong.json").write_text(json.dumps(daemon_set), encoding="utf-8")
    with pytest.raises(RuntimeError, match="hostNetwerk"):
        server.kubectl("apply", "--dry-run=server", "-f", str(tmp_path / "wrong.json"))
