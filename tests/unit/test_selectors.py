"""Selectors against tables and vectors, and against a naive evaluator (`statements.md` enforcement 2, V-2, V-3, V-7, V-8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostward.model import selector_scope
from hostward.model.selector_syntax import MAX_DEPTH, MAX_LABEL
from hostward.model.selectors import SelectorError, canonical, named_port_id, parse, prefixed, selector_id


@pytest.mark.parametrize(
    ("text", "form", "identity"),
    [
        ("", "all()", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
        ("all( )", "all()", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
        ("! (has(b)||!has(a))", "!(has(b) || !has(a))", "s:Iss0uCleLYv1GSv_pNm7hAO58kE9jAx1NKyG3Q"),
        ("!(a == 'b' && !c != 'd')", '!(a == "b" && !c != "d")', "s:lh3haoY1ikTRkd4UZu0nWSaIBknYLPJLX16d-w"),
        ("foo=='bar'", 'foo == "bar"', "s:KFMvceMXUppWzK90Qfbm3acGhvce0jmCAt1S_A"),
        (
            "ibm.role in{'worker_public' , 'master_public','worker_public',}",
            'ibm.role in {"master_public", "worker_public"}',
            "s:-K6y6JbhRTRlY7Pwez5q8h0rt9wWGupwfRh7gw",
        ),
    ],
)
def test_golden_forms_and_identities(text: str, form: str, identity: str) -> None:
    assert canonical(text) == form
    assert selector_id(form) == identity


def test_golden_named_port() -> None:
    assert named_port_id(selector_id("all()"), "tcp", "http") == "n:cl9_Kgeu4H0OGLbhovVR3NBLUOZscKeMK1Mu4A"


def test_golden_prefix() -> None:
    text = "!(!(k == 'v' && has(t) || all()) && (a in {'b', 'c'}))"
    assert prefixed(text, "p/") == '!(!((p/k == "v" && has(p/t)) || all()) && p/a in {"b", "c"})'


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (" \t ", "all()"),
        ("global()", "global()"),
        ("a == 'b' || c == 'd' && e == 'f'", '(a == "b" || (c == "d" && e == "f"))'),
        ("(a == 'b' || c == 'd') && e == 'f'", '((a == "b" || c == "d") && e == "f")'),
        ("has(a)&&has(b)&&has(c)", "(has(a) && has(b) && has(c))"),
        ("((has( a )))", "has(a)"),
        ("!!has(a)", "has(a)"),
        ("! ! !has(a)", "!has(a)"),
        ("!(!has(a))", "has(a)"),
        ("!a == 'b'", '!a == "b"'),
        ("a == 'say \"x\"'", "a == 'say \"x\"'"),
        ('a == "it\'s"', 'a == "it\'s"'),
        ("a contains'x'", 'a contains "x"'),
        ("a startswith 'x'", 'a starts with "x"'),
        ("a starts \t with 'x'", 'a starts with "x"'),
        ("a endswith'x'", 'a ends with "x"'),
        ("a notin{}", "a not in {}"),
        ("a not  in {'b'}", 'a not in {"b"}'),
        ("in in {'in'}", 'in in {"in"}'),
        ("has(contains)", "has(contains)"),
        ("all == 'x'", 'all == "x"'),
        ("a.b/c-d_E9 != 'anything\n at all'", 'a.b/c-d_E9 != "anything\n at all"'),
        ("a in {'ä','z','Z'}", 'a in {"Z", "z", "ä"}'),
    ],
)
def test_grammar(text: str, form: str) -> None:
    assert canonical(text) == form
    assert canonical(form) == form


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("b == b", 5),
        ("'b1' == b", 0),
        ("b", 1),
        ("a b", 2),
        ("!", 1),
        ('foo == "bar" &', 13),
        ('foo == "bar" | has(a)', 13),
        ('foo = "bar"', 4),
        ('foo in ""', 7),
        ("\"FOO'", 0),
        ("a == \"FOO'", 5),
        ("(", 1),
        ("()", 1),
        ("%", 0),
        ("has(foo) &&", 11),
        ("has(foo) ||", 11),
        ("&& has(foo)", 0),
        ("has(foo) has(b)", 9),
        ("has(foo))", 8),
        ("((has(foo))", 0),
        ("has (foo)", 4),
        ("all ()", 4),
        ("has()", 4),
        ("has(a, b)", 5),
        ("has('a')", 4),
        ("all(a)", 4),
        ("a in {,}", 6),
        ("a in {'b' 'c'}", 10),
        ("a in {'b'", 9),
        ("a in ('b')", 5),
        ("a incl 'b'", 2),
        ("a containsx 'b'", 2),
        ("a == 'b'\n", 8),
        ("a\n== 'b'", 1),
        ("a\xa0== 'b'", 1),
        ("ä == 'b'", 0),
        ("a == 'b' # c", 9),
        ("x" * (MAX_LABEL + 1) + " == 'b'", 0),
    ],
)
def test_errors_say_where(text: str, position: int) -> None:
    with pytest.raises(SelectorError) as error:
        parse(text)
    assert error.value.position == position
    assert error.value.reason


def test_a_label_may_be_as_long_as_it_may_be() -> None:
    assert parse(f"has({'x' * MAX_LABEL})").labels_used == {"x" * MAX_LABEL}


@pytest.mark.parametrize(
    ("text", "equal", "other", "missing"),
    [
        ("L == 'xay'", True, False, False),
        ("L != 'xay'", False, True, True),
        ("L in {'a','xay'}", True, False, False),
        ("L not in {'a','xay'}", False, True, True),
        ("L contains 'a'", True, False, False),
        ("L starts with 'xa'", True, False, False),
        ("L ends with 'ay'", True, False, False),
        ("L contains ''", True, True, False),
        ("has(L)", True, True, False),
        ("all()", True, True, True),
        ("global()", True, True, True),
        ("", True, True, True),
        ("L in {}", False, False, False),
        ("L not in {}", True, True, True),
        ("!(L contains 'a')", False, True, True),
        ("!L == 'xay'", False, True, True),
        ("L contains 'A'", False, False, False),
        ("has(M) || L == 'xay' && !has(M)", True, False, False),
        ("!has(M) && !(L == 'xay' || has(M))", False, True, True),
    ],
)
def test_truth_table(text: str, equal: bool, other: bool, missing: bool) -> None:
    matches = parse(text).matches
    assert (matches({"L": "xay"}), matches({"L": "other"}), matches({})) == (equal, other, missing)


def test_what_else_a_selector_tells() -> None:
    assert parse("a == 'b' && !(has(c) || d in {})").labels_used == {"a", "c", "d"}
    assert parse("(all())").is_all
    assert not parse("all() || has(a)").is_all
    assert parse("a=='b'") == parse('(a == "b")')
    assert hash(parse("a=='b'")) == hash(parse('(a == "b")'))
    assert parse("a=='b'") != parse("a=='c'")


@pytest.mark.parametrize("opening", ["(", "!(", "! ( !(", "(has(a) || (has(b) && "])
def test_deep_nesting_is_refused_not_overflowed(opening: str) -> None:
    depth = 5000 // opening.count("(")
    for text in (opening * depth, opening * depth + "has(x)" + ")" * (depth * opening.count("("))):
        with pytest.raises(SelectorError, match=r"nested|closed"):
            parse(text)


@pytest.mark.parametrize("level", ["!({} && a == 'b')", "({} && a == 'b' || has(c))", "!({})", "(!{} || has(d))"])
def test_what_is_allowed_to_nest_works_to_the_end(level: str) -> None:
    text, accepted = "has(x)", 0
    for _ in range(MAX_DEPTH + 1):
        text = level.format(text)
        try:
            selector = parse(text)
        except SelectorError:
            continue
        accepted += 1
        assert canonical(selector.text) == selector.text
        assert selector.matches({}) in (True, False)
        assert selector.labels_used >= {"x"}
    assert MAX_DEPTH // 2 - 1 <= accepted <= MAX_DEPTH


def test_long_chains_are_fine() -> None:
    assert canonical("!" * 5001 + "has(a)") == "!has(a)"
    assert parse(" || ".join(f"a == '{n}'" for n in range(5000))).matches({"a": "4999"})


# --- against a naive evaluator ------------------------------------------------------------------------------------------
Meaning = Callable[[Mapping[str, str]], bool]
LABELS = st.sampled_from(["a", "b", "in", "has", "x.y/z-1"])
VALUES = st.text(alphabet="ab \"'(){},!&|=é\n", max_size=3).filter(lambda value: not ('"' in value and "'" in value))
SPACE = st.sampled_from(["", " ", "\t", "  "])


def quoted(value: str) -> str:
    return f"'{value}'" if '"' in value else f'"{value}"'


@st.composite
def leaves(draw: st.DrawFn) -> tuple[str, Meaning]:
    label, value, space = draw(LABELS), draw(VALUES), draw(SPACE)
    values = draw(st.lists(VALUES, max_size=3))
    listed = "{" + f"{space},{space}".join(map(quoted, values)) + (draw(st.sampled_from(["", ","])) if values else "") + "}"
    return draw(
        st.sampled_from(
            [
                (f"has({space}{label}{space})", lambda got: label in got),
                (f"all({space})", lambda got: True),
                (f"global({space})", lambda got: True),
                (f"{label}{space}=={space}{quoted(value)}", lambda got: got.get(label, None) == value),
                (f"{label}{space}!={space}{quoted(value)}", lambda got: not (label in got and got[label] == value)),
                (f"{label} contains{space}{quoted(value)}", lambda got: value in got[label] if label in got else False),
                (
                    f"{label} starts{space}with {quoted(value)}",
                    lambda got: got.get(label, "\0").startswith(value) and label in got,
                ),
                (f"{label} ends{space}with {quoted(value)}", lambda got: got.get(label, "\0").endswith(value) and label in got),
                (f"{label} in{space}{listed}", lambda got: label in got and got[label] in values),
                (f"{label} not{space}in{space}{listed}", lambda got: label not in got or got[label] not in values),
            ]
        )
    )


def combine(inner: st.SearchStrategy[tuple[str, Meaning]]) -> st.SearchStrategy[tuple[str, Meaning]]:
    def joined(parts: list[tuple[str, Meaning]], space: str) -> tuple[str, Meaning]:
        # Written without parentheses, so "&&" binds first: alternatives of factors.
        groups = [parts[: len(parts) // 2 or 1], parts[len(parts) // 2 or 1 :]]
        text = f"{space}||{space}".join(f"{space}&&{space}".join(text for text, _ in group) for group in groups if group)
        return f"({space}{text}{space})", lambda got: any(all(m(got) for _, m in group) for group in groups if group)

    def negated(part: tuple[str, Meaning], times: int) -> tuple[str, Meaning]:
        return "!" * times + part[0], lambda got: part[1](got) if times % 2 == 0 else not part[1](got)

    return st.one_of(
        st.builds(joined, st.lists(inner, min_size=1, max_size=4), SPACE), st.builds(negated, inner, st.integers(1, 3))
    )


SELECTORS = st.recursive(leaves(), combine, max_leaves=12)
SOME_LABELS = st.dictionaries(LABELS, VALUES, max_size=4)


@given(SELECTORS, st.lists(SOME_LABELS, min_size=1, max_size=5))
def test_agrees_with_a_naive_evaluator(made: tuple[str, Meaning], cases: list[dict[str, str]]) -> None:
    text, meaning = made
    selector = parse(text)
    assert canonical(selector.text) == selector.text
    for labels in cases:
        assert selector.matches(labels) == meaning(labels)
        assert parse(selector.text).matches(labels) == meaning(labels)
        ignored = {label: value for label, value in labels.items() if label in selector.labels_used}
        assert selector.matches(ignored) == meaning(labels)
        longer = {f"p.{label}": value for label, value in labels.items()}
        assert parse(prefixed(text, "p.")).matches(longer) == meaning(labels)


@given(st.text(alphabet="ab=!&|(){},'\" \thasinotcl%\n", max_size=40))
def test_any_text_gives_a_selector_or_an_error(text: str) -> None:
    try:
        selector = parse(text)
    except SelectorError as error:
        refused = error
    else:
        assert canonical(selector.text) == selector.text
        return
    assert 0 <= refused.position <= len(text)


IN_N = 'projectcalico.org/namespace == "n"'


# --- namespaces and service accounts ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fields", "form"),
    [
        (("",), "all()"),
        (("role == 'x'",), 'role == "x"'),
        (("", "all()"), "has(projectcalico.org/namespace)"),
        (("", "env == 'p'"), 'pcns.env == "p"'),
        (("role == 'x'", "env == 'p'"), '(role == "x" && pcns.env == "p")'),
        (("all( ) || has(r)", "env == 'p'"), '((has(projectcalico.org/namespace) || has(r)) && pcns.env == "p")'),
        (("", "", "all()"), "has(projectcalico.org/serviceaccount)"),
        (("has(r)", "has(n)", "has(s)"), "((has(r) && has(pcns.n)) && has(pcsa.s))"),
        (("a == 'all()'", "has(n)"), '(a == "all()" && has(pcns.n))'),
        # In a namespace (M-14).
        (("", "", "", "n"), IN_N),
        ((" ", "", "", "n"), IN_N),
        (("has(a) || has(b)", "", "", "n"), f"((has(a) || has(b)) && {IN_N})"),
        (("", "", "has(s) || has(t)", "n"), f"({IN_N} && (has(pcsa.s) || has(pcsa.t)))"),
        (("has(r)", "", "has(s)", "n"), f"((has(r) && {IN_N}) && has(pcsa.s))"),
        (("", "", "", "it's"), 'projectcalico.org/namespace == "it\'s"'),
    ],
)
def test_policy_selector(fields: tuple[str, ...], form: str) -> None:
    assert selector_scope.policy_selector(*fields) == form


@pytest.mark.parametrize("fields", [("global()",), ("", "global()"), ("", "", "has(a) || global()")])
def test_a_policy_selector_is_never_global(fields: tuple[str, ...]) -> None:
    with pytest.raises(SelectorError, match="global"):
        selector_scope.policy_selector(*fields)


def test_no_selector_is_in_a_namespace_that_it_cannot_name() -> None:
    with pytest.raises(SelectorError, match="quotes"):
        selector_scope.policy_selector("", "", "", "both ' and \"")
    with pytest.raises(SelectorError, match="quotes"):
        selector_scope.within("both ' and \"")


def test_rule_scopes() -> None:
    assert canonical(selector_scope.within("n")) == IN_N
    assert selector_scope.rule_namespaces("all()") == "has(projectcalico.org/namespace)"
    assert selector_scope.rule_namespaces(" global( ) ") == "!has(projectcalico.org/namespace)"
    assert selector_scope.rule_namespaces("env == 'p' || all()") == '(pcns.env == "p" || has(projectcalico.org/namespace))'
    assert selector_scope.rule_service_accounts((), "") == ""
    assert (
        selector_scope.rule_service_accounts(("b", "a"), "has(x)")
        == '(projectcalico.org/serviceaccount in {"a", "b"} && has(pcsa.x))'
    )
    assert selector_scope.side_selectors([], None) == (None, None)
    assert selector_scope.side_selectors([], "has(q)") == (None, "has(q)")
    assert selector_scope.side_selectors(["has(a)", "has(b)"], None) == ("(has(a) && has(b))", None)
    assert selector_scope.side_selectors(["has(p)"], "has(q)") == ("(has(p) && !has(q))", None)


def test_rule_scopes_refuse_what_they_cannot_say() -> None:
    for text in ("global() || has(a)", "!global()"):
        with pytest.raises(SelectorError, match="global"):
            selector_scope.rule_namespaces(text)
    with pytest.raises(SelectorError, match="global"):
        selector_scope.plain("global()")
    with pytest.raises(SelectorError, match="quotes"):
        selector_scope.rule_service_accounts(("both ' and \"",), "")
