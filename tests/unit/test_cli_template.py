"""-o go-template and custom-columns: the part of Go's language that is known, and every mistake as one sentence."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.cli.output import FormatError, Listing, Named, parse_format, render
from hostward.cli.template import TemplateError, parse, run

ENDPOINT = {
    "kind": "HostEndpoint",
    "apiVersion": "projectcalico.org/v3",
    "metadata": {"name": "a", "labels": {"y": "2", "x": "1"}, "annotations": {"a.b/c": "d"}},
    "spec": {"node": "w1", "interfaceName": "eth0", "expectedIPs": ["10.0.0.1", "10.0.0.2"], "order": 1900, "half": 0.5},
}


def templated(text, value=ENDPOINT):
    return run(parse(text), [value])


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("{{range .}}{{.metadata.name}}{{end}}", "a"),
        ("{{range .}}{{.ObjectMeta.Name}} {{.Spec.InterfaceName}} {{.TypeMeta.Kind}}{{end}}", "a eth0 HostEndpoint"),
        ("{{range .}}{{.Spec.ExpectedIPs}}{{end}}", "[10.0.0.1 10.0.0.2]"),
        ("{{range .}}{{join .Spec.ExpectedIPs \",\"}}{{end}}", "10.0.0.1,10.0.0.2"),
        ("{{range .}}{{joinAndTruncate .Spec.ExpectedIPs \",\" 10}}{{end}}", "10.0.0.1,1..."),
        ("{{range .}}{{.spec.order}} {{.spec.half}} {{.spec.none}} {{.a.b.c}}{{end}}", "1900 0.5 <no value> <no value>"),
        ("{{range $i, $one := .}}{{$i}}={{$one.metadata.name}}{{end}}", "0=a"),
        ("{{range .}}{{range $k, $v := .metadata.labels}}{{$k}}:{{$v}};{{end}}{{end}}", "x:1;y:2;"),
        ("{{range .}}{{index .metadata.annotations \"a.b/c\"}}{{index .spec.expectedIPs 1}}{{end}}", "d10.0.0.2"),
        ("{{range .}}{{if .spec.order}}yes{{else}}no{{end}}{{end}}", "yes"),
        ("{{range .}}{{if .spec.none}}yes{{else if .spec.node}}node{{end}}{{end}}", "node"),
        ("{{range .}}{{with .spec.node}}<{{.}}>{{end}}{{with .spec.none}}x{{else}}none{{end}}{{end}}", "<w1>none"),
        ("{{range .}}{{range .spec.none}}x{{else}}nothing{{end}}{{end}}", "nothing"),
        ("{{len .}} {{len (index . 0).spec.expectedIPs}}", "1 2"),
        ("{{range .}}{{.spec.node | printf \"%-5s|\"}}{{end}}", "w1   |"),
        ("{{range .}}{{$n := .spec.node}}{{$n}}{{$.x | len}}{{end}}", None),
        ("{{if and true (not false) (or false 1) (eq 1 2 1) (ne 1 2) (lt 1 2) (ge 2 2)}}t{{end}}", "t"),
        ("a  {{- \"b\" -}}  c", "abc"),
        ("{{/* a comment */}}x{{`raw \"text\"`}}", 'xraw "text"'),
        ("{{print 1 true nil}} {{println \"a\" 2}}", "1true<no value> a 2\n"),
        ("{{range .}}{{.metadata.labels}}{{end}}", "map[x:1 y:2]"),
        ("{{\"{{\"}}", "{{"),
    ],
)  # fmt: skip
def test_templates(text, result):
    if result is None:
        with pytest.raises(TemplateError):
            templated(text)
    else:
        assert templated(text) == result


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{.a", "{{ is never closed"),
        ("{{}}", "empty action"),
        ("{{range .}}", "{{range}} has no {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "{{else}} without"),
        ("{{if 1}}{{else}}{{else}}{{end}}", "{{else}} without"),
        ("{{if}}{{end}}", "a value is missing"),
        ("{{frob 1}}", "function 'frob' is not known; known are and, eq"),
        ("{{(1}}", "a parenthesis is never closed"),
        ("{{1)}}", "unexpected ')'"),
        ("{{1 | }}", "a value is missing"),
        ("{{$x}}", "variable $x is not set"),
        ("{{#}}", "can't be read: '#'"),
        ("{{range 5}}{{end}}", "range can't go over '5'"),
        ("{{len 5}}", "len: 5 has no length"),
        ("{{index . 7}}", "index: there is nothing at 7"),
        ("{{lt 1 \"a\"}}", "lt: "),
        ("{{printf \"%d\" \"a\"}}", "printf: "),
        ("{{printf \"%99999999d\" 1}}", "printf: a width of 99999999 is too much"),
        ("{{join}}", "join: "),
        ("{{.x}}", "can't take field x"),
        ("{{1 2}}", "1 is no function"),
        ("{{" + "(" * 99 + "1" + ")" * 99 + "}}", "nested more than 50 deep"),
        ("{{if 1}}" * 99, "nested more than 50 deep"),
    ],
)  # fmt: skip
def test_mistakes(text, reason):
    with pytest.raises(TemplateError) as told:
        templated(text)
    assert reason in str(told.value)


PIECES = st.lists(
    st.sampled_from(
        ["{{", "}}", "{{-", "-}}", "range", "end", "if", "else", "with", ".", ".a", "$x", ":=", "|", "(", ")", '"', "`", "1",
         "len",
         "index", "printf", '"%d"', "and", "{{end}}", "{{range .}}", "{{.spec.order}}", " ", ",", "=", "text", "nil", "join"]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@given(PIECES)
@settings(max_examples=400, deadline=None)
def test_any_template_runs_or_is_refused(text):
    with contextlib.suppress(TemplateError):
        templated(text)


def test_what_a_template_gets():
    listing = Listing("HostEndpoint", 5, [ENDPOINT, ENDPOINT])
    form = parse_format("go-template={{range .}}{{range .Items}}{{.metadata.name}},{{end}}{{end}}", str)
    assert render(listing, form) == "a,a,"
    named = parse_format("go-template={{range .}}{{.metadata.name}},{{end}}", str)
    assert render(Named([ENDPOINT], False), named) == "a,"
    assert render(Named([ENDPOINT, ENDPOINT], True), named) == "a,a,"
    from_file = parse_format("go-template-file=x.tmpl", {"x.tmpl": "file {{len .}}"}.__getitem__)
    assert render(listing, from_file) == "file 1"


def test_custom_columns():
    listing = Listing("HostEndpoint", 5, [ENDPOINT])
    assert render(listing, parse_format("custom-columns=ips,NAME", str)) == (
        "IPS                 NAME   \n10.0.0.1,10.0.0.2   a      \n\n"
    )
    with pytest.raises(
        FormatError, match="unknown column 'IP'; HostEndpoint has NAMESPACE, NAME, NODE, INTERFACE, IPS, PROFILES"
    ):
        render(listing, parse_format("custom-columns=IP", str))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("xml", "unrecognized output format 'xml'; known are ps, wide, yaml, json, custom-columns=..., go-template=..."),
        ("yaml=x", "unrecognized output format 'yaml=x'"),
        ("custom-columns", "custom-columns needs a value: custom-columns=NAME,..."),
        ("go-template=", "go-template needs a value"),
        ("go-template={{", "go-template: {{ is never closed"),
    ],
)
def test_formats_that_are_refused(text, reason):
    with pytest.raises(FormatError) as told:
        parse_format(text, str)
    assert reason in str(told.value)
