"""Many writers of one resource, against a real etcd: whatever was reported as done is there."""

import json
import os
import subprocess
import sys
import threading

import pytest

from hostward.cli import edits, write
from hostward.cli.write import edit
from hostward.datastore.connection import from_environment
from hostward.datastore.etcd.store import EtcdStore
from hostward.datastore.store import StoreError
from hostward.model.keys import ResourceKey
from tests.datastore.command_line import ROOT, run, use
from tests.lab.etcd import Etcd
from tests.unit.test_cli_write import manifest

pytestmark = pytest.mark.etcd

KEY = ResourceKey("GlobalNetworkPolicy", "", "foo")
PATH = f"{ROOT}globalnetworkpolicies/foo"
WRITERS = 10


@pytest.fixture(scope="module")
def etcd():
    with Etcd() as server:
        yield server


@pytest.fixture
def clean(etcd, monkeypatch):
    use(monkeypatch, etcd)
    return etcd


def together(etcd, work):
    """Runs work(number, store) in ten threads that start at once."""
    start, errors = threading.Barrier(WRITERS), []

    def body(number):
        store = EtcdStore(from_environment(etcd.env))
        try:
            store.list("Tier")
            start.wait(30)
            work(number, store)
        except Exception as error:  # noqa: BLE001 # the main thread raises it
            errors.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=body, args=(number,)) for number in range(WRITERS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert not errors, errors


def test_ten_processes_label_one_resource(clean, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.yaml").write_text(json.dumps(manifest(spec={"order": 1}).document))
    assert run(capsys, "apply", "-f", "m.yaml")[0] == 0
    code = "import sys; from hostward.cli.main import main; sys.exit(main())"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, "label", "gnp", "foo", f"writer{number}=x"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | clean.env,
        )
        for number in range(WRITERS)
    ]  # fmt: skip
    done = [(*one.communicate(timeout=120), one.returncode) for one in processes]
    assert [code for _, _, code in done] == [0] * WRITERS, done
    labels = json.loads(clean.get(PATH))["metadata"]["labels"]
    assert set(labels) == {f"writer{number}" for number in range(WRITERS)} | {"projectcalico.org/tier"}


def test_ten_writers_of_labels_lose_nothing_that_was_reported(clean, monkeypatch):
    monkeypatch.setattr(write, "_PAUSE", 0.02)
    EtcdStore(from_environment(clean.env)).create(KEY, manifest().document)
    reported, conflicts, refused = set(), [], []

    def work(number, store):
        for again in range(4):
            name = f"w{number}-{again}"
            try:
                edit(
                    store,
                    lambda: store.get(KEY),
                    lambda found, name=name: edits.labelled(found, name, "x", overwrite=False)[0],
                    "label",
                    conflicts.append,
                )
            except StoreError as error:
                refused.append(str(error))
            else:
                reported.add(name)

    together(clean, work)
    labels = json.loads(clean.get(PATH))["metadata"]["labels"]
    assert set(labels) == reported
    assert all("update conflict" in text for text in refused)
    assert conflicts  # else this test shows nothing
    assert len(reported) >= WRITERS


def test_ten_creators_make_one_and_ten_appliers_keep_its_identity(clean, monkeypatch):
    monkeypatch.setattr(write, "_PAUSE", 0.02)
    made, refused = [], []

    def create(number, store):
        try:
            write.create(store, manifest(spec={"order": number}), pytest.fail)
        except StoreError as error:
            refused.append(str(error))
        else:
            made.append(number)

    together(clean, create)
    first = json.loads(clean.get(PATH))
    assert made == [first["spec"]["order"]]
    assert refused == ["resource already exists: GlobalNetworkPolicy(foo) with error: <nil>"] * (WRITERS - 1)
    applied, conflicts = [], []

    def apply(number, store):
        try:
            write.apply(store, manifest(spec={"order": 100 + number}), lambda _: None)
        except StoreError as error:
            conflicts.append(str(error))
        else:
            applied.append(100 + number)

    together(clean, apply)
    last = json.loads(clean.get(PATH))
    assert last["spec"]["order"] in applied
    assert all("update conflict" in text for text in conflicts)
    for name in ("uid", "creationTimestamp"):
        assert last["metadata"][name] == first["metadata"][name]


def test_broken_json_is_replaced_by_apply(clean, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.yaml").write_text(json.dumps(manifest(spec={"order": 1}).document))
    for broken in ("{", "[]", "\xff", '"text"'):
        clean.put(PATH, broken)
        assert run(capsys, "get", "gnp", "foo")[::2] == (
            1, "GlobalNetworkPolicy(foo): the stored value is not a JSON object\n",
        )  # fmt: skip
        code, out, err = run(capsys, "apply", "-f", "m.yaml")
        assert (code, out) == (0, "Successfully applied 1 'GlobalNetworkPolicy' resource(s)\n")
        assert err == "GlobalNetworkPolicy(foo): what was stored there could not be read and is replaced\n"
        document = json.loads(clean.get(PATH))
        assert document["spec"]["order"] == 1
        assert {"uid", "creationTimestamp"} <= set(document["metadata"])
