"""What is written, read and written again is the same bytes, and means the same: no rule widens on the way."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.convert.defaults import filled, merged, shown
from hostward.convert.validate import problems
from hostward.datastore.documents import parse
from hostward.datastore.encode import stored_form, to_json
from hostward.datastore.yaml_text import to_yaml
from hostward.model.decode import decode
from hostward.model.keys import KINDS, ResourceKey
from hostward.model.names import display_name
from tests.unit.test_convert_validate import DOCUMENTS, POLICY, gnp

ANY = st.sampled_from(DOCUMENTS) | POLICY.map(gnp)


def stored(document):
    """The key and bytes under which a document is stored."""
    meta = document["metadata"]
    namespace = meta.get("namespace", "default") if KINDS[document["kind"]].namespaced else ""
    key = ResourceKey(document["kind"], namespace, meta["name"])
    return key, to_json(stored_form(key, filled(document)))


def read_back(key, raw, *, as_json):
    """The stored bytes as `get` prints them, and as a file is read."""
    document = json.loads(raw)
    printed = shown(key, display_name(key, document), document, "7")
    text = json.dumps(printed, indent=2) if as_json else to_yaml(printed, sort_keys=True)
    (parsed,) = parse(text, "x.json" if as_json else "x.yaml")
    return parsed.document


@given(ANY, st.booleans())
@settings(max_examples=300, deadline=None)
def test_write_read_write_is_stable(document, as_json):
    if problems(document):
        return
    key, raw = stored(document)
    again = read_back(key, raw, as_json=as_json)
    assert problems(again) == []
    assert to_json(stored_form(key, merged(filled(again), json.loads(raw), "u", "t"))) == to_json(
        merged(json.loads(raw), json.loads(raw), "u", "t")
    )
    assert stored(again)[1] == raw


@given(ANY)
@settings(max_examples=200, deadline=None)
def test_what_the_agent_understands_stays_the_same(document):
    if problems(document):
        return
    key, raw = stored(document)
    first = decode(key, raw)
    assert decode(key, stored(read_back(key, raw, as_json=False))[1]) == first
    # a reader doesn't depend on how the author ordered or spelt it
    assert decode(key, to_json(filled(document))) == first
