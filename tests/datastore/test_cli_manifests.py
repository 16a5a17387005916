"""Manifests shaped like public ones are accepted and read back equal; broken ones get exact messages and write nothing."""

import json
from pathlib import Path

import pytest

from hostward.cli.manifests import load
from hostward.convert.defaults import filled
from hostward.model import keys
from tests.datastore.command_line import ROOT, run, use
from tests.lab.etcd import Etcd

pytestmark = pytest.mark.etcd

GOOD, BROKEN = (Path(__file__).parents[1] / "manifests" / name for name in ("good", "broken"))


@pytest.fixture(scope="module")
def etcd():
    with Etcd() as server:
        yield server


@pytest.fixture
def hw(etcd, monkeypatch, capsys):
    use(monkeypatch, etcd)
    return lambda *args: run(capsys, *args)


@pytest.mark.parametrize("file", sorted(GOOD.iterdir()), ids=lambda file: file.name)
def test_good_manifests_read_back_equal(hw, etcd, tmp_path, file):
    wanted = {one.key: filled(one.document) for one in load([str(file)], None)}
    code, out, _ = hw("apply", "-f", str(file))
    assert code == 0, _
    assert f" {len(wanted)} " in out
    first = {key: value for key, value in etcd.list(ROOT).items() if "clusterinformations" not in key}
    for key, document in wanted.items():
        code, out, err = hw("get", key.kind, key.name, "-o", "json", *(["-n", key.namespace] if key.namespace else []))
        assert (code, err) == (0, "")
        read = json.loads(out)
        assert read["spec"] == document["spec"]
        assert read["metadata"].get("labels") == document["metadata"].get("labels")
        assert json.loads(first[keys.path(key)])["spec"] == document["spec"]
    # what is read can be written again, and nothing is different then, byte by byte
    assert hw("get", "-f", str(file), "-o", "yaml")[0] == 0
    (tmp_path / "again.yaml").write_text(_without_revisions(hw("get", "-f", str(file), "-o", "yaml")[1]))
    assert hw("apply", "-f", str(tmp_path / "again.yaml"))[0] == 0
    assert {key: value for key, value in etcd.list(ROOT).items() if "clusterinformations" not in key} == first
    assert hw("delete", "-f", str(file), "-y")[0] == 0
    left = [key for key in etcd.list(ROOT) if "/tiers/" not in key and "clusterinformations" not in key]
    assert left == []


def _without_revisions(text):
    return "".join(f"{line}\n" for line in text.splitlines() if "resourceVersion" not in line)


@pytest.mark.parametrize("file", sorted(BROKEN.iterdir()), ids=lambda file: file.name)
@pytest.mark.parametrize("verb", ["apply", "create", "replace", "delete", "get", "validate"])
def test_broken_manifests_have_exact_messages_and_write_nothing(hw, etcd, monkeypatch, file, verb):
    monkeypatch.chdir(BROKEN)
    before = etcd.revision()
    expected = [line.removeprefix("#! ").rstrip("\n") for line in file.open() if line.startswith("#! ")]
    assert expected
    code, out, err = hw(verb, "-f", file.name)
    assert (code, out) == (1, "")
    lines = err.splitlines()
    if verb == "validate":
        assert lines[:-1] == [f"error: {text}" for text in expected]
    elif len(expected) == 1:
        assert lines == [f"failed to execute command: {expected[0]}"]
    else:
        assert lines[0] == f"failed to execute command: {len(expected)} problems, so nothing was done:"
        assert lines[1:] == [f"  {text}" for text in expected]
    assert etcd.revision() == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", b'{"kind": "Tier",\n "a": }', "x.json:2: not JSON: Expecting value"),
        ("x.yaml", b"kind: Tier\nname: \xff\n", "x.yaml:2: byte 0xff is not UTF-8"),
        ("x.yaml", b"kind: Tier\nname: \x00\n", "x.yaml:2: character U+0000 is not allowed in a document"),
        ("x.yaml", b"just a text\n", "x.yaml:1: expected a mapping or a list of mappings, not a text"),
        ("x.yaml", b"a: *nothing\n", "x.yaml:1: alias *nothing refers to nothing that is complete before it"),
        (
            "x.yaml",
            b"a: !!python/object:os.system x\n",
            "x.yaml:1: tag tag:yaml.org,2002:python/object:os.system is not supported",
        ),
    ],
)
def test_files_that_are_no_documents(hw, etcd, tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    before = etcd.revision()
    Path(name).write_bytes(content)
    code, out, err = hw("apply", "-f", name)
    assert (code, out) == (1, "")
    assert err.startswith(f"failed to execute command: {message}")
    assert etcd.revision() == before
