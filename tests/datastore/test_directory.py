"""A directory of manifests: what an editor, a copy or a missing mount does to it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hostward.datastore.directory.feed import DirFeed
from hostward.datastore.directory.store import DirStore
from hostward.datastore.store import StoreError
from hostward.model import keys
from hostward.model.keys import ResourceKey
from tests.datastore.recorder import Recorder, running

SET = ResourceKey("GlobalNetworkSet", "", "s")
PATH = keys.path(SET)
CLUSTER = f"{keys.ROOT}clusterinformations/default"
V1_POLICY = "{apiVersion: v1, kind: policy, metadata: {name: old}, spec: {selector: all(), ingress: [{action: deny}]}}"


def manifest(name: str, net: str = "192.0.2.0/24") -> str:
    return f"apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata:\n  name: {name}\nspec:\n  nets:\n  - {net}\n"


class Complaints:
    """What the feed says about files; the last word on each."""

    def __init__(self) -> None:
        self.about: dict[str, str] = {}
        self.said: list[tuple[str, str]] = []

    def __call__(self, path: str, text: str) -> None:
        self.said.append((Path(path).name, text))
        self.about[Path(path).name] = text


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


def feed(path: Path, complaints: Complaints, cache: Path | None = None) -> DirFeed:
    return DirFeed(path, problem=complaints, cache=cache, poll=0.05)


def nets(heard: Recorder, path: str = PATH) -> Callable[[], str | None]:
    def read() -> str | None:
        return str(json.loads(heard.state[path].value)["spec"]["nets"][0]) if path in heard.state else None

    return read


def test_it_is_always_ready(tmp_path: Path, complaints: Complaints) -> None:
    (tmp_path / "a.yaml").write_text(manifest("s"))
    with running(feed(tmp_path, complaints)) as heard:
        heard.wait(lambda: heard.contacts > 2)
        assert json.loads(heard.state[CLUSTER].value)["spec"] == {"clusterGUID": "dir", "datastoreReady": True}
        assert heard.revision == 1
        assert not heard.changed, "nothing changed"
        assert not complaints.said


def test_a_file_that_is_replaced_edited_moved_and_removed(tmp_path: Path, complaints: Complaints) -> None:
    (tmp_path / "a.yaml").write_text(manifest("s"))
    with running(feed(tmp_path, complaints)) as heard:
        heard.wait(lambda: heard.snapshots)
        (tmp_path / "fresh").write_text(manifest("s", "198.51.100.0/24"))
        os.replace(tmp_path / "fresh", tmp_path / "a.yaml")
        heard.wait(lambda: nets(heard)() == "198.51.100.0/24")
        (tmp_path / "a.yaml").write_text(manifest("s", "203.0.113.0/24"))
        heard.wait(lambda: nets(heard)() == "203.0.113.0/24")
        (tmp_path / "a.yaml").rename(tmp_path / "b.yaml")
        heard.wait(lambda: heard.revision == 4)
        (tmp_path / "none.yaml").touch()
        (tmp_path / "b.yaml").unlink()
        heard.wait(lambda: PATH not in heard.state)
        said = [one.objects[PATH] for one in heard.changed if PATH in one.objects]
        assert len(said) == 3, "a rename changes nothing"


def test_the_same_size_and_time_do_not_hide_a_change(tmp_path: Path, complaints: Complaints) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(manifest("s", "192.0.2.0/24"))
    about = file.stat()
    with running(feed(tmp_path, complaints)) as heard:
        heard.wait(lambda: heard.snapshots)
        file.write_text(manifest("s", "192.0.3.0/24"))
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
        heard.wait(lambda: nets(heard)() == "192.0.3.0/24")


@pytest.mark.parametrize(
    "broken", ["a: [", "kind: GlobalNetworkSett\nspec: {}\n", manifest(""), "\0", V1_POLICY.replace("deny", "dney")]
)
def test_a_broken_file_keeps_its_last_good_version(tmp_path: Path, complaints: Complaints, broken: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(manifest("s"))
    with running(feed(tmp_path, complaints)) as heard:
        heard.wait(lambda: heard.snapshots)
        file.write_text(broken)
        (tmp_path / "b.yaml").write_text(manifest("other"))
        heard.wait(lambda: keys.path(SET._replace(name="other")) in heard.state and complaints.about)
        assert nets(heard)() == "192.0.2.0/24"
        assert complaints.about["a.yaml"].startswith(f"{file}:1:") or f"{file}:" in complaints.about["a.yaml"]
        assert "last good version stays in force" in complaints.about["a.yaml"]
        file.write_text(manifest("s", "203.0.113.0/24"))
        heard.wait(lambda: nets(heard)() == "203.0.113.0/24")
        assert complaints.said[-1] == ("a.yaml", "")


def test_a_file_that_was_never_good_gives_what_can_be_told_apart(tmp_path: Path, complaints: Complaints) -> None:
    (tmp_path / "a.yaml").write_text(manifest("s") + "---\nkind: Nonsense\n")
    (tmp_path / "b.yaml").write_text("a: [")
    with running(feed(tmp_path, complaints)) as heard:
        heard.wait(lambda: heard.snapshots)
        assert PATH in heard.state
        assert complaints.about.keys() == {"a.yaml", "b.yaml"}


def test_a_new_agent_remembers_the_last_good_version(tmp_path: Path, complaints: Complaints) -> None:
    manifests, cache = tmp_path / "m", tmp_path / "cache"
    manifests.mkdir()
    (manifests / "a.yaml").write_text(manifest("s"))
    with running(feed(manifests, complaints, cache)) as heard:
        heard.wait(lambda: heard.snapshots)
    (manifests / "a.yaml").write_text("a: [")
    with running(feed(manifests, complaints, cache)) as heard:
        heard.wait(lambda: heard.snapshots)
        assert nets(heard)() == "192.0.2.0/24"
    assert "last good" in complaints.about["a.yaml"]


def test_a_cache_that_can_not_be_used_loses_nothing(tmp_path: Path, complaints: Complaints) -> None:
    (tmp_path / "a.yaml").write_text(manifest("s"))
    (tmp_path / "b.yaml").write_text(manifest("other"))
    (tmp_path / "no-directory").write_text("")
    with running(feed(tmp_path, complaints, tmp_path / "no-directory" / "cache")) as heard:
        heard.wait(lambda: heard.snapshots)
        (tmp_path / "a.yaml").write_text(manifest("s", "198.51.100.0/24"))
        heard.wait(lambda: nets(heard)() == "198.51.100.0/24")
        (tmp_path / "a.yaml").write_text("kind: [")
        heard.wait(lambda: "stays in force" in complaints.about.get("a.yaml", ""))
        (tmp_path / "a.yaml").unlink()
        heard.wait(lambda: PATH not in heard.state)
        assert not heard.losses


def test_what_was_removed_while_no_agent_ran_does_not_come_back(tmp_path: Path, complaints: Complaints) -> None:
    """D4: deleting an object ends its last good version."""
    here, cache = tmp_path / "manifests", tmp_path / "cache"
    here.mkdir()
    (here / "a.yaml").write_text(manifest("s"))
    (here / "b.yaml").write_text(manifest("other"))
    with running(feed(here, complaints, cache)) as heard:
        heard.wait(lambda: heard.snapshots)
    (here / "a.yaml").unlink()
    with running(feed(here, complaints, cache)) as heard:
        heard.wait(lambda: heard.snapshots)
        (here / "a.yaml").write_text("kind: [")
        heard.wait(lambda: "a.yaml" in complaints.about)
        assert PATH not in heard.state


@pytest.mark.parametrize("gone", ["emptied", "removed"])
def test_a_directory_that_is_gone_changes_nothing(tmp_path: Path, complaints: Complaints, gone: str) -> None:
    """A volume that isn't mounted looks like this, and must not open the host."""
    manifests = tmp_path / "m"
    manifests.mkdir()
    (manifests / "a.yaml").write_text(manifest("s"))
    with running(feed(manifests, complaints)) as heard:
        heard.wait(lambda: heard.snapshots)
        (manifests / "a.yaml").unlink()
        if gone == "removed":
            manifests.rmdir()
        heard.wait(lambda: heard.losses)
        assert PATH in heard.state
        contacts = heard.contacts
        manifests.mkdir(exist_ok=True)
        (manifests / "a.yaml").write_text(manifest("s", "203.0.113.0/24"))
        heard.wait(lambda: heard.contacts > contacts and nets(heard)() == "203.0.113.0/24")


def test_only_manifests_count(tmp_path: Path, complaints: Complaints) -> None:
    for name in (".a.yaml.swp", ".b.yaml", "c.yaml~", "#d.yaml#", "e.txt", "f.yaml.bak"):
        (tmp_path / name).write_text(manifest("wrong"))
    (tmp_path / "sub.yaml").mkdir()
    (tmp_path / "sub.yaml" / "g.yaml").write_text(manifest("wrong"))
    (tmp_path / "dangling.yaml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "h.json").write_text(
        json.dumps({"apiVersion": keys.API_VERSION, "kind": "GlobalNetworkSet", "metadata": {"name": "s"}})
    )
    with running(feed(tmp_path, complaints)) as heard:
        heard.wait(lambda: heard.snapshots)
        assert heard.state.keys() == {PATH, CLUSTER}


def test_v1_documents_are_converted_and_documents_filled_in(tmp_path: Path, complaints: Complaints) -> None:
    (tmp_path / "a.yaml").write_text(V1_POLICY)
    with running(feed(tmp_path, complaints)) as heard:
        heard.wait(lambda: heard.snapshots)
        found = json.loads(heard.state[f"{keys.ROOT}globalnetworkpolicies/old"].value)
        assert found["spec"]["types"] == ["Ingress"]
        assert found["spec"]["applyOnForward"] is True
        assert found["spec"]["ingress"][0]["action"] == "Deny"


def test_a_resource_that_is_not_valid_is_handed_on_and_named(tmp_path: Path, complaints: Complaints) -> None:
    """The agent decides how much of it can be used (D4); the operator is told the line."""
    (tmp_path / "a.yaml").write_text(manifest("s", "192.0.2.300/24"))
    with running(feed(tmp_path, complaints)) as heard:
        heard.wait(lambda: complaints.about)
        assert nets(heard)() == "192.0.2.300/24"
        assert f"{tmp_path}/a.yaml:7: GlobalNetworkSet(s)" in complaints.about["a.yaml"]


def test_of_two_files_with_one_resource_the_first_counts(tmp_path: Path, complaints: Complaints) -> None:
    (tmp_path / "b.yaml").write_text(manifest("s", "198.51.100.0/24"))
    (tmp_path / "a.yaml").write_text(manifest("s", "192.0.2.0/24"))
    with running(feed(tmp_path, complaints)) as heard:
        heard.wait(lambda: complaints.about)
        assert nets(heard)() == "192.0.2.0/24"
        assert complaints.about == {
            "b.yaml": f"{tmp_path}/b.yaml:1: GlobalNetworkSet(s) is already in {tmp_path}/a.yaml:1, which counts"
        }
        (tmp_path / "a.yaml").unlink()
        heard.wait(lambda: nets(heard)() == "198.51.100.0/24")
        assert complaints.about == {"b.yaml": ""}


MANY = f"""\
# Sets of the shop.

--- # the first
{manifest("one")}
---
# the second has a comment
{manifest("two")}# and one after it
---
- {{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {{name: three}}}}
- {{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {{name: four}}}}
"""


def test_a_resource_among_others_is_changed_where_it_is(tmp_path: Path) -> None:
    file, store = tmp_path / "many.yaml", DirStore(tmp_path)
    file.write_text(MANY)
    file.chmod(0o640)
    two, three = SET._replace(name="two"), SET._replace(name="three")
    found = store.get(two)
    revision = store.update(two, found.document | {"spec": {"nets": ["203.0.113.0/24"]}}, found.revision)
    assert store.get(two).revision == revision
    text = file.read_text()
    assert text.startswith(MANY[: MANY.index("apiVersion", MANY.index("# the second"))])
    assert "# and one after it\n---\n- {apiVersion" in text
    assert file.stat().st_mode & 0o777 == 0o640
    store.delete(three)
    assert [one.key.name for one in store.list("GlobalNetworkSet")[1]] == ["four", "one", "two"]
    store.delete(SET._replace(name="one"))
    store.delete(SET._replace(name="four"))
    assert [one.key.name for one in store.list("GlobalNetworkSet")[1]] == ["two"]
    assert "# the second has a comment" in file.read_text()
    store.delete(two)
    assert not file.exists()


def test_json_files_stay_json(tmp_path: Path) -> None:
    file, store = tmp_path / "a.json", DirStore(tmp_path)
    items = [{"apiVersion": keys.API_VERSION, "kind": "GlobalNetworkSet", "metadata": {"name": name}} for name in "st"]
    file.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": items}))
    store.update(SET, {"spec": {"nets": ["203.0.113.0/24"]}}, store.get(SET).revision)
    assert json.loads(file.read_text())["items"][0]["spec"] == {"nets": ["203.0.113.0/24"]}
    store.delete(SET)
    assert json.loads(file.read_text())["metadata"]["name"] == "t"


def test_nothing_is_written_beside_what_cannot_be_read(tmp_path: Path) -> None:
    store = DirStore(tmp_path)
    store.create(SET, {})
    (tmp_path / "broken.yaml").write_text("a: [")
    assert store.get(SET)
    with pytest.raises(StoreError, match=r"broken.yaml:1: "):
        store.create(SET._replace(name="t"), {})
    with pytest.raises(StoreError, match=r"does not exist.*broken.yaml:1: "):
        store.get(SET._replace(name="t"))
    with pytest.raises(StoreError, match="No such file"):
        DirStore(tmp_path / "nowhere").list("Tier")


def test_readers_never_see_half_a_file(tmp_path: Path, complaints: Complaints) -> None:
    store, stop = DirStore(tmp_path), threading.Event()
    revision = store.create(SET, {"spec": {"nets": ["192.0.2.0/24"] * 500}})

    def write() -> None:
        mine = revision
        for number in range(100):
            if stop.is_set():
                return
            mine = store.update(SET, {"spec": {"nets": [f"192.0.{number}.0/24"] * 500}}, mine)

    with running(feed(tmp_path, complaints)) as heard:
        writer = threading.Thread(target=write)
        writer.start()
        try:
            heard.wait(lambda: nets(heard)() == "192.0.99.0/24")
        finally:
            stop.set()
            writer.join(30)
    assert not complaints.said
