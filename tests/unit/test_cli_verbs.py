"""create, replace, patch, label, delete and --dry-run on a directory."""

import io
import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.cli import edits, write
from hostward.cli.rehearsal import Rehearsal
from hostward.cli.write import edit
from hostward.datastore.store import AlreadyExistsError, BrokenError, ConflictError, NotFoundError
from hostward.model.keys import ResourceKey
from tests.lab.memory_store import MemoryStore
from tests.unit.command_line import V3, CommandLine
from tests.unit.test_cli_write import manifest

GNP = "GlobalNetworkPolicy"


@pytest.fixture
def hw(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(write, "_PAUSE", 0)
    return CommandLine(tmp_path, monkeypatch, capsys)


def test_create_and_replace(hw):
    file = hw.manifest("Tier", "a", {"order": 1})
    assert hw.fails("replace", "-f", file) == (
        "failed to replace 'Tier' resource: [resource does not exist: Tier(a) with error: <nil>]\n"
    )
    assert hw.ok("create", "-f", file) == "Successfully created 1 'Tier' resource(s)\n"
    assert hw.fails("create", "-f", file) == (
        "failed to create 'Tier' resource: [resource already exists: Tier(a) with error: <nil>]\n"
    )
    assert hw.ok("create", "--skip-exists", "-f", hw.manifest("Tier", "a", {"order": 2})) == (
        "Successfully created 1 'Tier' resource(s)\n"
    )
    assert hw.stored("tier", "a")["spec"]["order"] == 1
    assert hw.ok("replace", "-f", "m.yaml") == "Successfully replaced 1 'Tier' resource(s)\n"
    assert hw.stored("tier", "a")["spec"]["order"] == 2


def test_create_refuses_a_revision_and_replace_compares_it(hw):
    file = hw.manifest("Tier", "a", {"order": 1}, resourceVersion="5")
    assert "Metadata.ResourceVersion = '5' (field must not be set for a Create request)" in hw.fails("create", "-f", file)
    hw.ok("create", "-f", hw.manifest("Tier", "a", {"order": 1}))
    assert "the manifest was made from revision 5, and the stored one is" in hw.fails("replace", "-f", hw.manifest(
        "Tier", "a", {"order": 2}, resourceVersion="5")
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["apply", "create", "replace", "delete", "validate"])
def test_empty_files(hw, verb):
    file = hw.file("# nothing\n---\n")
    assert "no resources specified in m.yaml" in hw.fails(verb, "-f", file)
    assert hw.ok(verb, "-f", file, "--skip-empty") == "No resources specified\n"


def test_calicoctls_options_are_taken_by_every_verb(hw):
    hw.manifest("Tier", "a", {"order": 1})
    assert hw.ok("-l", "debug", "apply", "-f", "m.yaml", "--allow-version-mismatch", "--context=x")
    assert hw.ok("get", "tiers", "--log-level=INFO")
    assert hw.ok("validate", "-f", "m.yaml", "-c", "x.cfg", "-l", "info")
    assert hw.ok("convert", "-f", "m.yaml", "-l", "info")
    assert "unknown log level 'loud', expected one of: panic" in hw.fails("get", "tiers", "-l", "loud")


def test_patch(hw):
    spec = {"order": 5, "selector": "a == 'b'", "ingress": [{"action": "Deny", "protocol": "TCP"}]}
    hw.ok("apply", "-f", hw.manifest(GNP, "x", spec, annotations={"n": "1"}))
    before = hw.stored("gnp", "x")
    patch = json.dumps({"spec": {"order": 7, "selector": None, "ingress": [{"action": "Allow"}]}})
    assert hw.ok("patch", "gnp", "x", "-p", patch) == "Successfully patched 1 'GlobalNetworkPolicy' resource\n"
    after = hw.stored("gnp", "x")
    assert after["spec"] == {"order": 7, "ingress": [{"action": "Allow"}], "types": ["Ingress"], "tier": "default"}
    for name in ("labels", "annotations", "uid", "creationTimestamp"):
        assert after["metadata"].get(name) == before["metadata"].get(name)
    hw.ok("patch", "gnp", "x", "--type=merge", "-p", "{metadata: {annotations: {n: null, m: '2'}}}")
    assert hw.stored("gnp", "x")["metadata"]["annotations"] == {"m": "2"}


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("x", "-p", '{"spec": {"ordr": 1}}'), "GlobalNetworkPolicy(x): spec.ordr: unknown field; did you mean 'order'?"),
        (("x", "-p", '{"metadata": {"name": "y"}}'), "a patch can't change metadata.name"),
        (("x", "-p", '{"kind": "Tier"}'), "a patch can't change kind"),
        (("x", "-p", '{"spec": {"ingress": [{"action": "allow"}]}}'), "did you mean 'Allow'?"),
        (("nope", "-p", "{}"), "resource does not exist: GlobalNetworkPolicy(nope) with error: <nil>"),
        (("x", "-p", "["), "--patch:1: "),
        (("x", "-p", "5"), "--patch: expected one object"),
    ],
)
def test_patches_that_are_refused(hw, args, text):
    hw.ok("apply", "-f", hw.manifest(GNP, "x", {"order": 5}))
    assert text in hw.fails("patch", "gnp", *args)
    assert hw.stored("gnp", "x")["spec"]["order"] == 5
    assert "unknown patch type" in hw.run("patch", "gnp", "x", "-p", "{}", "-t", "json")[2]


def test_a_patch_is_not_refused_for_what_others_stored(tmp_path):
    store = MemoryStore()
    key = ResourceKey(GNP, "", "x")
    store.put(
        key, {"metadata": {"name": "x"}, "kind": GNP, "apiVersion": "projectcalico.org/v3", "spec": {"newField": {"a": 1}}}
    )
    edit(store, lambda: store.get(key), lambda found: edits.patched(found, {"spec": {"order": 3}}), "patch", pytest.fail)
    assert store.get(key).document["spec"]["newField"] == {"a": 1}
    assert store.get(key).document["spec"]["order"] == 3


def test_label(hw):
    hw.ok("apply", "-f", hw.manifest("HostEndpoint", "h", {"node": "n", "interfaceName": "eth0"}))
    assert hw.ok("label", "hep", "h", "role=a") == "Successfully set label role on HostEndpoint h\n"
    assert "has the label role=a already; --overwrite changes it" in hw.fails("label", "hep", "h", "role=b")
    assert hw.ok("label", "hep", "h", "role=b", "--overwrite") == "Successfully updated label role on HostEndpoint h\n"
    assert hw.stored("hep", "h")["metadata"]["labels"] == {"role": "b"}
    assert hw.ok("label", "hep", "h", "role", "--remove") == "Successfully removed label role from HostEndpoint h\n"
    assert "labels" not in hw.stored("hep", "h")["metadata"]
    assert "has no label role, so it can't be removed" in hw.fails("label", "hep", "h", "role", "--remove")
    for args in (("role",), ("role=b", "--remove"), ("=b",), ("a b=c",), ("a=" + "x" * 64,)):
        assert "invalid label" in hw.fails("label", "hep", "h", *args)


def test_labels_that_follow_the_resource(hw):
    hw.ok("apply", "-f", hw.manifest(GNP, "x", {"order": 5}))
    assert "can't be changed" in hw.fails("label", "gnp", "x", "projectcalico.org/tier=other", "--overwrite")
    assert "built in and not stored" in hw.fails("label", "tier", "default", "a=b")
    assert "this profile is built in" in hw.fails("label", "profile", "projectcalico-default-allow", "a=b")


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(VALUE, VALUE)
@settings(max_examples=200, deadline=None)
def test_a_merge_patch_is_idempotent_and_leaves_no_null_of_its_own(target, patch):
    once = edits.merge(target, patch)
    assert edits.merge(once, patch) == once
    if isinstance(target, dict) and isinstance(patch, dict):
        assert {name: once[name] for name in target.keys() - patch.keys()} == {
            name: target[name] for name in target.keys() - patch.keys()
        }
        assert not any(patch[name] is None and name in once for name in patch)


# --- deleting many, and rehearsals


def test_deleting_many_asks_on_a_terminal_only(hw, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    hw.ok("apply", "-f", hw.file("---\n".join(V3.format(kind="Tier", name=name, spec="{}") for name in "abcdef")))
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    code, out, err = hw.run("delete", "tier", "a", "b")
    assert (code, out) == (1, "")
    assert err.startswith("  Tier(a)\n  Tier(b)\nDelete these 2 resources? [y/N]: ")
    assert err.endswith("nothing was deleted\n")
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert hw.run("delete", "tier", "a", "b")[:2] == (0, "Successfully deleted 2 'Tier' resource(s)\n")
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    assert hw.run("delete", "tier", "c", "d")[0] == 130  # the terminal went away
    assert hw.ok("delete", "tier", "c")
    assert hw.ok("delete", "-y", "tier", "d", "e")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert hw.run("delete", "tier", "f", "a")[2].endswith("  Tier(f): deleted\n  Tier(a): not deleted: "
        "resource does not exist: Tier(a) with error: <nil>\n")  # fmt: skip


def test_dry_runs_of_every_verb_write_nothing_and_show_the_difference(hw):
    hw.ok("apply", "-f", hw.manifest(GNP, "x", {"order": 5, "selector": "a == 'b'"}))
    before = {file.name: file.read_bytes() for file in (hw.home / "store").iterdir()}
    hw.manifest(GNP, "x", {"order": 6, "selector": "a == 'b'"})
    hw.manifest(GNP, "y", {"order": 6}, "new.yaml")
    for args in (("apply",), ("replace",)):
        code, out, err = hw.run(*args, "-f", "m.yaml", "--dry-run")
        assert code == 0
        assert out.splitlines() == [
            "--- GlobalNetworkPolicy(x) (stored)",
            "+++ GlobalNetworkPolicy(x) (after)",
            "@@ -5,7 +5,7 @@",
            "     projectcalico.org/tier: default",
            "   name: x",
            " spec:",
            "-  order: 5",
            "+  order: 6",
            "   selector: a == 'b'",
            "   tier: default",
            "   types:",
        ]
        assert err == "dry run, nothing was written: 0 to create, 1 to change, 0 to delete, 0 to stay as is\n"
    assert "+  order: 6" in hw.run("create", "-f", "new.yaml", "--dry-run")[1]
    assert "+  order: 9" in hw.run("patch", "gnp", "x", "-p", "{spec: {order: 9}}", "--dry-run")[1]
    assert "+    a: b" in hw.run("label", "gnp", "x", "a=b", "--dry-run")[1]
    code, out, err = hw.run("delete", "gnp", "x", "--dry-run")
    assert (code, out.splitlines()[1]) == (0, "+++ /dev/null")
    assert "1 to delete" in err
    code, out, err = hw.run("delete", "gnp", "x", "nope", "--dry-run")
    assert code == 1
    assert "resource does not exist: GlobalNetworkPolicy(nope)" in err
    hw.manifest(GNP, "x", {"order": 5, "selector": "a == 'b'"})
    assert hw.run("apply", "-f", "m.yaml", "--dry-run") == (
        0, "", "dry run, nothing was written: 0 to create, 0 to change, 0 to delete, 1 to stay as is\n",
    )  # fmt: skip
    assert {file.name: file.read_bytes() for file in (hw.home / "store").iterdir()} == before


def test_a_rehearsal_is_a_store_and_touches_nothing():
    store = MemoryStore()
    a, b, c = (ResourceKey("Tier", "", name) for name in "abc")
    store.put(a, {"spec": {"order": 1}})
    store.put(b, {"spec": {"order": 2}})
    store.objects[c] = ("broken", 9)
    kept = dict(store.objects)
    rehearsal = Rehearsal(store)
    with pytest.raises(AlreadyExistsError):
        rehearsal.create(a, {})
    with pytest.raises(AlreadyExistsError):
        rehearsal.create(c, {})
    with pytest.raises(BrokenError):
        rehearsal.get(c)
    with pytest.raises(ConflictError):
        rehearsal.update(a, {}, 99)
    with pytest.raises(NotFoundError):
        rehearsal.update(ResourceKey("Tier", "", "d"), {}, 1)
    revision = rehearsal.update(a, {"spec": {"order": 5}}, store.get(a).revision)
    assert rehearsal.get(a).revision == revision
    with pytest.raises(ConflictError):
        rehearsal.delete(a, store.get(a).revision)
    rehearsal.delete(a, revision)
    rehearsal.update(c, {"spec": {}}, 9)
    with pytest.raises(NotFoundError):
        rehearsal.get(a)
    rehearsal.create(ResourceKey("Tier", "", "aa"), {"spec": {}})
    assert [one.key.name for one in rehearsal.list("Tier")[1]] == ["aa", "b", "c"]
    assert [(change.key.name, change.before, change.unreadable) for change in rehearsal.changes()] == [
        ("a", {"spec": {"order": 1}}, False), ("c", None, True), ("aa", None, False),
    ]  # fmt: skip
    assert store.objects == kept


def test_apply_over_what_nobody_can_read():
    store = MemoryStore()
    key = ResourceKey(GNP, "", "foo")
    store.objects[key] = ("broken", 7)
    said = []
    write.apply(store, manifest(spec={"order": 1}), said.append)
    document = store.get(key).document
    assert document["spec"]["order"] == 1
    assert set(document["metadata"]) == {"name", "uid", "creationTimestamp", "labels", "annotations"}
    assert said == [f"{key}: what was stored there could not be read and is replaced"]
    store.objects[key] = ("broken", 8)
    with pytest.raises(AlreadyExistsError):
        write.create(store, manifest(), said.append)
    write.replace(store, manifest(spec={"order": 2}), said.append)
    assert store.get(key).document["spec"]["order"] == 2
    rehearsal = Rehearsal(store)
    store.objects[key] = ("broken", 9)
    write.apply(rehearsal, manifest(spec={"order": 3}), said.append)
    assert rehearsal.changes()[0].unreadable


def test_an_edit_that_loses_a_race_is_repeated_on_what_is_there():
    store = MemoryStore()
    key = ResourceKey("Tier", "", "a")
    store.put(key, {"metadata": {"name": "a"}, "spec": {"order": 1}})
    store.before_write = lambda: store.put(key, {"metadata": {"name": "a", "labels": {"theirs": "1"}}, "spec": {"order": 1}})
    said = []
    edit(
        store,
        lambda: store.get(key),
        lambda found: edits.labelled(found, "ours", "1", overwrite=False)[0],
        "label",
        said.append,
    )
    assert store.get(key).document["metadata"]["labels"] == {"theirs": "1", "ours": "1"}
    assert len(said) == 1


def test_a_file_that_made_a_tier_and_its_policies_also_removes_them(hw):
    text = V3.format(kind="Tier", name="t", spec="{}") + "---\n" + V3.format(kind=GNP, name="p", spec="{tier: t}")
    hw.ok("apply", "-f", hw.file(text))
    assert hw.ok("delete", "-f", "m.yaml") == "Successfully deleted 2 resource(s)\n"
