"""An index of selectors or labels may find too much, never too little; and where it can tell, it finds little."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostward.calc.label_index import LabelIndex, SelectorIndex
from hostward.model.selector_needs import Need, needs
from hostward.model.selectors import canonical, parse

KEYS = st.sampled_from(["a", "b", "projectcalico.org/namespace", "projectcalico.org/orchestrator"])
VALUES = st.sampled_from(["", "x", "xy", "z"])
TERMS = st.one_of(
    st.builds("{} == '{}'".format, KEYS, VALUES),
    st.builds("{} != '{}'".format, KEYS, VALUES),
    st.builds("{} starts with '{}'".format, KEYS, VALUES),
    st.builds("{} contains '{}'".format, KEYS, VALUES),
    st.builds("has({})".format, KEYS),
    st.builds("{} in {{'{}', '{}'}}".format, KEYS, VALUES, VALUES),
    st.builds("{} not in {{'{}'}}".format, KEYS, VALUES),
    st.builds("{} in {{}}".format, KEYS),
    st.just("all()"),
)
SELECTORS = st.recursive(
    TERMS,
    lambda inner: st.one_of(
        st.builds("({}) && ({})".format, inner, inner),
        st.builds("({}) || ({})".format, inner, inner),
        st.builds("!({})".format, inner),
    ),
    max_leaves=6,
).map(canonical)
LABELS = st.dictionaries(KEYS, VALUES, max_size=3)


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | SELECTORS), max_size=12), LABELS)
def test_all_selectors_that_match_are_found(puts: list[tuple[int, str | None]], labels: dict[str, str]) -> None:
    index: SelectorIndex[int] = SelectorIndex()
    for key, selector in puts:
        index.put(key, selector)
    now = {key: selector for key, selector in dict(puts).items() if selector is not None}
    matching = {key for key, selector in now.items() if parse(selector).matches(labels)}
    assert matching <= index.candidates(labels) <= now.keys()


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | LABELS), max_size=12), SELECTORS)
def test_all_labels_that_match_are_found(puts: list[tuple[int, dict[str, str] | None]], selector: str) -> None:
    index: LabelIndex[int] = LabelIndex()
    for key, labels in puts:
        index.put(key, labels)
    now = {key: labels for key, labels in dict(puts).items() if labels is not None}
    matching = {key for key, labels in now.items() if parse(selector).matches(labels)}
    assert matching <= index.candidates(selector) <= now.keys()


def test_the_rarest_need_of_several_is_chosen() -> None:
    pods = "projectcalico.org/orchestrator == 'k8s' && app == 'web' && projectcalico.org/namespace == 'shop'"
    assert needs(pods) == {Need("app", "web", "shop")}
    assert needs(pods.replace("app == 'web'", "has(app)")) == {Need("projectcalico.org/namespace", "shop")}
    assert needs("a == 'x' || b in {'y', 'z'}") == {Need("a", "x"), Need("b", "y"), Need("b", "z")}
    assert needs("a == 'x' || !has(b)") is None
    assert needs("a in {}") == frozenset()


def test_a_policy_of_one_application_is_not_asked_about_others() -> None:
    index: SelectorIndex[int] = SelectorIndex()
    for number in range(10_000):
        index.put(number, f"app == 'a{number}' && projectcalico.org/namespace == 'shop'")
    assert index.candidates({"app": "a7", "projectcalico.org/namespace": "shop"}) == {7}
