"""Texts of manifests to objects: values, places, and refusals that name the line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.datastore.directory.rewrite import to_manifest
from hostward.datastore.documents import DocumentError, parse


def one(text: str | bytes, file: str = "f.yaml") -> dict[str, Any]:
    (found,) = parse(text, file)
    return found.document


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("53:54", "53:54"),
        ("22:22", "22:22"),
        ("1:59", "1:59"),
        ("0112", "0112"),
        ("1_000", "1_000"),
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("2020-01-01", "2020-01-01"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e999", "1e999"),
        ("9" * 5000, "9" * 5000),
        ("true", True),
        ("False", False),
        ("'true'", "true"),
        ("~", None),
        ("", None),
        ("80", 80),
        ("-1", -1),
        ("0", 0),
        ("0x1f0000", 0x1F0000),
        ("0o17", 15),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ('"80"', "80"),
        ("!!str 80", "80"),
        ("|\n  two\n  lines", "two\nlines"),
    ],
)
def test_scalars_are_read_as_yaml_1_2_and_no_cleverer(written: str, value: object) -> None:
    found = one(f"a: {written}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_texts_as_written() -> None:
    assert one("53: a\ntrue: b\n0112: c\n~: d") == {"53": "a", "true": "b", "0112": "c", "~": "d"}


LISTS = """\
# a comment
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicyList
items:
- metadata: {name: a}
- kind: Other
  metadata:
    name: b
---
---
# nothing here
---
- {apiVersion: v1, kind: policy, metadata: {name: c}}
- apiVersion: v1
  kind: List
  items:
  - {kind: d}
"""


def test_documents_lists_and_sequences_are_taken_apart() -> None:
    found = parse(LISTS, "f.yaml")
    assert [(one.document.get("kind"), one.document.get("metadata", {}).get("name")) for one in found] == [
        ("GlobalNetworkPolicy", "a"),
        ("Other", "b"),
        ("policy", "c"),
        ("d", None),
    ]
    assert found[0].document["apiVersion"] == "projectcalico.org/v3"
    assert [one.source.number for one in found] == [1, 1, 4, 4]
    assert found[1].source.where("metadata.name") == "f.yaml:8"
    assert [one.source.line() for one in found] == [5, 6, 13, 17]


PLACES = """\
kind: X
spec:
  ingress:
  - action: Allow
    destination:
      ports:
      - 1
      - 22:22
  - {action: Deny,
     protocol: TCP}
metadata:
  labels: {ibm.role: x}
"""


def test_fields_know_their_lines() -> None:
    ((_, source),) = parse(PLACES, "f")
    lines = {
        "": 1,
        "spec": 2,
        "spec.ingress": 3,
        "spec.ingress[0]": 4,
        "spec.ingress[0].destination.ports": 6,
        "spec.ingress[0].destination.ports[1]": 8,
        "spec.ingress[0].destination.nets": 5,
        "spec.ingress[1].protocol": 10,
        "metadata.labels.ibm.role": 12,
        "metadata.labels.ibm.other": 12,
        "nowhere.at[3].all": 1,
    }
    assert {path: source.line(path) for path in lines} == lines


@pytest.mark.parametrize("path", ["spec.a]", "spec['x']", "spec.[", "spec.\n", "]", "spec.a[x].b", "[", "spec." + "]" * 99])
def test_fields_with_odd_names_are_found_where_they_would_be(path: str) -> None:
    source = parse("kind: x\nspec: {b: 1}\n", "f.yaml")[0].source
    assert source.line(path) == (2 if path.startswith("spec") else 1)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: 1\nb: 2\na: 3", 3, 'key "a" appears twice; first in line 1'),
        ("a:\n  b: 1\n  b: 2", 3, 'key "b" appears twice; first in line 2'),
        ("a: 1\n" + "[" * 5000, 2, ""),
        ("[" * 5000, 1, "nested"),
        ("- " * 5000, 1, "nested"),
        ('{"a":' * 5000, 1, "nested"),
        ("a: 1\nb: [*x]", 2, "alias"),
        ("a: &x [1, *x]", 1, "alias"),
        ("b: 1\n<<: {a: 1}", 2, "merge"),
        ("a: 1\nb: \0", 2, "U+0000"),
        (b"a: 1\nb: \xff", 2, "0xff is not UTF-8"),
        (b"\xff\xfea\0", 1, "not UTF-8"),
        ("a: 1\nb: !!python/object:x {}", 2, "tag"),
        ("a: 1\nb: !!int 53:54", 2, "tag"),
        ("? [a]\n: 1", 1, "key"),
        ("a: 'x\n\nb: 1", 3, "quoted scalar"),
        ("a: [1\nb: 2", 2, ""),
        ("a: [", 1, "bracket or brace not closed?"),
        ("a: {b: 1", 1, "bracket or brace not closed?"),
        ("a:\n\tb: 1", 2, "indent with spaces"),
        ("a: b\n  c: d", 2, "is the line indented too far, or does a text that holds ': ' need quotes?"),
        ("a: b: c", 1, "need quotes?"),
        ("a:\n  b: 1\n c: 2", 3, "is a line indented otherwise than its neighbours"),
        ("a:\n - 1\n  - 2\n b: 3", 4, "is a line indented otherwise than its neighbours"),
        ("a: @x", 1, "needs quotes"),
        ("hello", 1, "a text"),
        ("- 1", 1, "a number"),
        ("kind: XList\nitems: 7", 2, "items"),
        ('{"a": 1,\n "a": 2}', 2, "twice"),
        ('{"a": NaN}', 1, "NaN"),
        ("%YAML 9.9\n---\na: 1", 1, ""),
        ("[[[[[]]]]]", 1, "deep"),
    ],
)
def test_refusals_name_the_line(text: str | bytes, line: int, reason: str) -> None:
    with pytest.raises(DocumentError) as told:
        parse(text, "f.yaml")
    assert told.value.line == line
    assert reason in told.value.reason
    assert str(told.value) == f"f.yaml:{line}: {told.value.reason}"


def test_aliases_are_copies_and_limited() -> None:
    found = one("a: &x {n: [1]}\nb: *x\nc: &y 53:54\nd: *y")
    assert found == {"a": {"n": [1]}, "b": {"n": [1]}, "c": "53:54", "d": "53:54"}
    assert found["a"]["n"] is not found["b"]["n"]
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 8)}]\n" for level in range(1, 12))
    with pytest.raises(DocumentError, match="aliases stand for more than"):
        parse(bomb, "f")


def test_json_has_its_own_escapes() -> None:
    assert one('{"a": "\\ud83d\\ude00 \\/",\n\t"b": [1, 2.5, 53]}', "f.json") == {"a": "😀 /", "b": [1, 2.5, 53]}
    ((_, source),) = parse('{\n "a": {\n  "b": 1}}', "f.json")
    assert source.line("a.b") == 3
    with pytest.raises(DocumentError, match=r"f.json:2: not JSON"):
        parse('{"a": 1,\n b: 2}', "f.json")
    with pytest.raises(DocumentError, match="only in pairs"):
        parse('{"a": ["\\udc00"]}', "f.json")
    assert one("{a: 1, b: 53:54}") == {"a": 1, "b": "53:54"}


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    try:
        parse(text, "f")
    except DocumentError as error:
        assert error.line >= 1  # noqa: PT017 # either outcome is fine


_texts = (
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
    | st.from_regex(r"\A[-+0-9:._exo~a-f]{1,8}\Z")
    | st.sampled_from(
        [
            "on",
            "yes",
            "null",
            "~",
            "true",
            "53:54",
            "0112",
            "1e3",
            "0o17",
            "0x1f",
            ".inf",
            "=",
            "<<",
            "---",
            "# x",
            "- a",
            "a: b",
            "",
            " x",
            "1.",
        ]
    )
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts.filter(lambda text: text != "<<"), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.just("spec"), _values, min_size=1))
def test_what_we_write_reads_back(document: dict[str, Any]) -> None:
    assert one(to_manifest([document])) == document
    assert one(json.dumps(document), "f.json") == document
