"""Whatever is in files, in patches and in the store: a sentence and an exit code, never a traceback."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostward.cli import edits, lockout
from hostward.cli.output import Listing, render
from hostward.cli.write import NotSupportedError
from hostward.convert.defaults import shown
from hostward.datastore.store import Found, StoreError
from hostward.model.keys import ResourceKey
from tests.lab.memory_store import MemoryStore
from tests.unit.command_line import CommandLine
from tests.unit.test_convert_validate import DOCUMENTS, mutated

LIGHT = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    ["kind", "apiVersion", "metadata", "spec", "name", "labels", "annotations", "ingress", "ports", "order", "tier"]
)
PATCH = st.recursive(JUNK, lambda inner: st.dictionaries(FIELDS, inner, max_size=3), max_leaves=8)


@pytest.fixture(scope="module")
def hw(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield CommandLine(tmp_path_factory.mktemp("fuzz"), monkeypatch, _Captured(monkeypatch))


class _Captured:
    """What capsys does, for longer than one test."""

    def __init__(self, monkeypatch):
        import io  # noqa: PLC0415 # only here
        import sys  # noqa: PLC0415 # only here

        self._io, self._sys, self._monkeypatch = io, sys, monkeypatch
        self._fresh()

    def _fresh(self):
        self.streams = self._io.StringIO(), self._io.StringIO()
        self._monkeypatch.setattr(self._sys, "stdout", self.streams[0])
        self._monkeypatch.setattr(self._sys, "stderr", self.streams[1])

    def readouterr(self):
        texts = tuple(stream.getvalue() for stream in self.streams)
        self._fresh()
        return texts


@LIGHT
@given(
    documents=st.lists(mutated(), min_size=1, max_size=3),
    verb=st.sampled_from(["validate", "convert", "get", "delete", "create"]),
)
def test_documents(hw, documents, verb):
    hw.file(json.dumps(documents))
    code, _, err = hw.run(verb, "-f", "m.yaml")
    assert code in (0, 1)
    assert code == 0 or err
    hw.run("convert", "--ignore-validation", "-f", "m.yaml")
    report = hw.run("validate", "-o", "json", "-f", "m.yaml")
    if report[1]:
        assert json.loads(report[1])["valid"] is (report[0] == 0)


@given(st.sampled_from(DOCUMENTS), PATCH.filter(lambda patch: isinstance(patch, dict)))
@settings(max_examples=300, deadline=None)
def test_patches_of_good_resources_leave_good_ones(document, patch):
    found = Found(
        ResourceKey(document["kind"], document["metadata"].get("namespace", ""), document["metadata"]["name"]), document, 5
    )
    try:
        after = edits.patched(found, patch)
    except NotSupportedError:
        return
    assert after["metadata"]["name"] == document["metadata"]["name"]
    assert after["kind"] == document["kind"]


@given(mutated(), st.dictionaries(FIELDS, JUNK, max_size=2))
@settings(max_examples=300, deadline=None)
def test_whatever_is_stored_can_be_shown_labelled_and_patched_or_is_refused(document, patch):
    if not isinstance(document, dict):
        return
    key = ResourceKey("GlobalNetworkPolicy", "", "x")
    found = Found(key, document, 5)
    for work in (
        lambda: edits.patched(found, {"spec": patch}),
        lambda: edits.labelled(found, "a", "b", overwrite=True),
        lambda: edits.labelled(found, "a", None, overwrite=True),
    ):
        try:
            work()
        except StoreError:
            continue
    printed = shown(key, "x", document, "5")
    for form in ("ps", "wide", "yaml", "json"):
        assert render(Listing("GlobalNetworkPolicy", 5, [printed]), form)


@given(st.lists(mutated(), max_size=3), st.lists(mutated(), max_size=2))
@settings(max_examples=200, deadline=None)
def test_warnings_never_fail(stored, changed):
    store = MemoryStore()
    store.served = (("192.0.2.1", 2000),)
    kinds = ("HostEndpoint", "GlobalNetworkPolicy", "FelixConfiguration", "Tier", "Profile")
    for number, document in enumerate(one for one in stored if isinstance(one, dict)):
        kind = document.get("kind")
        if isinstance(kind, str) and kind in kinds:
            store.put(ResourceKey(kind, "", f"x{number}"), document)
    after = {
        ResourceKey(one["kind"], "", f"x{number}"): one
        for number, one in enumerate(changed)
        if isinstance(one, dict) and isinstance(one.get("kind"), str) and one["kind"] in kinds
    }
    lockout.warn(store, after, lambda text: None)
