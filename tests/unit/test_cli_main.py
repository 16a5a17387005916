"""The whole command line on a directory: options in any position, exit codes, messages, and never a traceback."""

import io
import json
import subprocess
import sys
from types import ModuleType

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostward import __version__
from hostward.cli import manifests
from hostward.cli.main import COMMANDS, cli, main
from tests.unit.test_convert_v1 import PAGE
from tests.unit.test_convert_validate import mutated

V3 = """\
apiVersion: projectcalico.org/v3
kind: {kind}
metadata: {{name: {name}}}
spec: {spec}
"""


@pytest.fixture
def hw(tmp_path, monkeypatch, capsys):
    """Runs a command on a directory of its own; its exit code, stdout and stderr."""
    store = tmp_path / "store"
    store.mkdir()
    monkeypatch.setenv("HOSTWARD_DATASTORE", f"dir:{store}")
    monkeypatch.chdir(tmp_path)

    def run(*args, stdin=None):
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(args)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    run.file = lambda text, name="m.yaml": (tmp_path / name).write_text(text) and name
    return run


def test_the_pages_recipe_applies(hw):
    assert hw("apply", "-f", hw.file(PAGE)) == (0, "Successfully applied 1 'GlobalNetworkPolicy' resource(s)\n", "")
    code, out, _ = hw("get", "policy", "-o", "yaml", "deny-kube-node-port-services")
    assert code == 0
    assert "  preDNAT: true\n" in out
    assert hw("delete", "policy", "deny-kube-node-port-services")[:2] == (
        0,
        "Successfully deleted 1 'GlobalNetworkPolicy' resource(s)\n",
    )
    assert hw("get", "policy") == (0, "NAME   TIER   \n\n", "")


@pytest.mark.parametrize(
    "args",
    [
        ("get", "tier", "-o", "json"),
        ("-o", "json", "get", "tier"),
        ("--output=json", "get", "tier"),
        ("get", "-ojson", "tier"),
        ("get", "-o", "json", "--config", "unused.cfg", "tier"),
        ("--config=unused.cfg", "-o", "json", "get", "tier"),
    ],
)
def test_options_in_any_position(hw, args):
    code, out, err = hw(*args)
    assert (code, err) == (0, "")
    assert json.loads(out)["kind"] == "TierList"


def test_the_file_and_the_datastore_before_the_verb(hw, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    assert hw("-f", hw.file(PAGE), "--datastore", f"dir:{other}", "apply")[0] == 0
    assert hw("get", "policy")[1] == "NAME   TIER   \n\n"
    assert "deny-kube" in hw("--datastore", f"dir:{other}", "get", "policy")[1]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "Usage"),
        (("frob",), "No such command 'frob'"),
        (("get",), "Give either KIND [NAME]... or -f FILE."),
        (("get", "tier", "-f", "x"), "Give either"),
        (("get", "tier", "-o", "xml"), "unrecognized output format 'xml'"),
        (("get", "np", "-A", "-n", "x"), "-A can't be given"),
        (("get", "tier", ""), "A NAME is empty"),
        (("apply",), "Missing option '-f'"),
        (("apply", "-o", "yaml", "-f", "x"), "No such option"),
        (("delete", "tier"), "Give the NAME"),
        (("--nonsense", "get", "tier"), "No such option"),
        (("-n", "x"), "Missing command"),
        (("get", "np", "-n"), "requires an argument"),
    ],
)
def test_usage(hw, args, text):
    code, out, err = hw(*args)
    assert code == 2
    assert text in out + err


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("get", "frobs"), "resource type 'frobs' is not supported; known are policy"),
        (("get", "polcy"), "resource type 'polcy' is not supported; did you mean 'policy'?"),
        (("get", "tier", "-n", "x"), "Tier lives in no namespace, so -n x can't be meant for it"),
        (("get", "tier", "-A"), "Tier lives in no namespace, so -A"),
        (("get", "gnp", "a"), "resource does not exist: GlobalNetworkPolicy(a) with error: <nil>"),
        (("get", "np", "a"), "resource does not exist: NetworkPolicy(default/a) with error: <nil>"),
        (("get", "np", "a", "-n", "x"), "resource does not exist: NetworkPolicy(x/a) with error: <nil>"),
        (("delete", "tier", "default"), "operation delete is not supported on Tier(default): this tier is built in"),
        (("apply", "-f", "gone.yaml"), "failed to execute command: gone.yaml: No such file or directory"),
        (("apply", "-f", "store"), "failed to execute command: no resources specified in store"),
        (("--datastore", "dir:/nonexistent", "get", "tier"), "/nonexistent: No such file or directory"),
        (("--datastore", "ftp:x", "get", "tier"), 'datastore "ftp:x" is not known'),
        (("--datastore", "etcd", "get", "tier", "--config", "gone.cfg"), "Error reading config file: gone.cfg"),
    ],
)
def test_failures(hw, args, text):
    code, out, err = hw(*args)
    assert (code, out) == (1, "")
    assert text in err


def test_all_errors_of_all_files_at_once_and_nothing_is_written(hw):
    good = hw.file(PAGE, "a.yaml")
    broken = hw.file(
        """\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: Bad_Name
spec:
  ingress:
  - action: allow
    protocol: TCP
    destination:
      port: [80]
---
apiVersion: v1
kind: policy
metadata:
  name: x
spec:
  selector: a ==
""",
        "b.yaml",
    )
    worse = hw.file("a: [\n", "c.yaml")
    code, out, err = hw("apply", "-f", good, "-f", broken, "-f", worse)
    assert (code, out) == (1, "")
    lines = err.splitlines()
    assert lines[:6] == [
        "failed to execute command: 5 problems, so nothing was done:",
        "  b.yaml:4: document 1: metadata.name: 'Bad_Name' is no name for this: a name is made of lower-case letters, digits, "
        "'-' and '.', and begins and ends with a letter or digit; 'bad-name' would do",
        "  b.yaml:7: document 1: spec.ingress[0].action: 'allow' is none of Allow, Deny, Log, Pass; did you mean 'Allow'?",
        "  b.yaml:10: document 1: spec.ingress[0].destination.port: unknown field; did you mean 'ports'?",
        lines[4],
        lines[5],
    ]
    assert lines[4].startswith("  b.yaml:17: document 2: spec.selector: 'a ==' is no selector: ")
    assert lines[5].startswith("  c.yaml:1: ")
    assert hw("get", "policy")[1] == "NAME   TIER   \n\n"


def test_one_error_is_one_line(hw):
    code, _, err = hw("apply", "-f", hw.file(V3.format(kind="Tier", name="a", spec="{ordr: 5}")))
    assert code == 1
    assert err == "failed to execute command: m.yaml:4: document 1: spec.ordr: unknown field; did you mean 'order'?\n"


def test_a_port_range_is_no_sexagesimal_number(hw):
    spec = "{ingress: [{action: Deny, protocol: TCP, destination: {ports: [53:54, 20:22]}}]}"
    assert hw("apply", "-f", hw.file(V3.format(kind="GlobalNetworkPolicy", name="a", spec=spec)))[0] == 0
    (rule,) = json.loads(hw("get", "gnp", "a", "-o", "json")[1])["spec"]["ingress"]
    assert rule["destination"]["ports"] == ["53:54", "20:22"]


def test_stdin_directories_and_lists(hw, tmp_path):
    assert hw("apply", "-f", "-", stdin=PAGE.encode())[0] == 0
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    (folder / "b.yml").write_text(V3.format(kind="Tier", name="b", spec="{order: 5}"))
    (folder / "a.json").write_text(json.dumps({"kind": "TierList", "apiVersion": "projectcalico.org/v3", "items": [
        {"metadata": {"name": "a"}, "spec": {}},
    ]}))  # fmt: skip
    (folder / "notes.txt").write_text("no manifest")
    (folder / "deeper" / "c.yaml").write_text(V3.format(kind="Node", name="c", spec="{}"))
    assert hw("apply", "-f", "folder")[1] == "Successfully applied 2 'Tier' resource(s)\n"
    assert hw("apply", "-f", "folder", "-R")[1] == "Successfully applied 3 resource(s)\n"
    # what get prints can be applied again
    again = hw("get", "tiers", "-o", "yaml")[1]
    assert hw("apply", "-f", hw.file(again, "again.yaml"))[0] == 0


def test_partial_success(hw):
    text = (
        V3.format(kind="Tier", name="a", spec="{}")
        + "---\n"
        + V3.format(kind="GlobalNetworkPolicy", name="b", spec="{tier: no}")
    )
    code, out, err = hw("apply", "-f", hw.file(text))
    assert (code, out) == (1, "")
    assert err == (
        "Partial success: applied the first 1 out of 2 resources:\n"
        "hit error: [resource does not exist: Tier(no) with error: <nil>]\n"
        "  m.yaml:1: Tier(a): applied\n"
        "  m.yaml:6: GlobalNetworkPolicy(b): not applied: resource does not exist: Tier(no) with error: <nil>\n"
    )


def test_v1_renames_are_told_and_found_by_file_and_name(hw):
    text = PAGE.replace("deny-kube-node-port-services", "Block_NodePorts")
    code, _, err = hw("apply", "-f", hw.file(text))
    assert code == 0
    assert err == "policy 'Block_NodePorts' is stored as GlobalNetworkPolicy 'block-nodeports-6df207f1'\n"
    assert "block-nodeports-6df207f1" in hw("get", "policy", "Block_NodePorts")[1]
    assert "block-nodeports-6df207f1" in hw("get", "-f", "m.yaml")[1]
    assert hw("delete", "policy", "Block_NodePorts")[0] == 0
    assert hw("delete", "-f", "m.yaml")[0] == 1
    assert hw("delete", "-s", "-f", "m.yaml")[0] == 0


def test_policies_of_both_kinds(hw):
    spec = "{order: 5, selector: all()}"
    hw("apply", "-f", hw.file(V3.format(kind="GlobalNetworkPolicy", name="g", spec=spec)))
    for namespace in ("one", "two"):
        hw("apply", "-n", namespace, "-f", hw.file(V3.format(kind="NetworkPolicy", name="n", spec=spec)))
    assert hw("get", "policy", "-o", "wide")[1] == (
        "NAME   TIER      ORDER   SELECTOR   \n"
        "g      default   5       all()      \n\n"
        "NAMESPACE   NAME   TIER      ORDER   SELECTOR   \n"
        "one         n      default   5       all()      \n"
        "two         n      default   5       all()      \n\n"
    )  # fmt: skip
    assert hw("get", "policy", "-n", "one")[1] == "NAMESPACE   NAME   TIER      \none         n      default   \n\n"
    assert hw("get", "np")[1] == "NAME   TIER   \n\n"
    code, _, err = hw("get", "policy", "n")
    assert code == 1
    assert "NetworkPolicy(one/n), NetworkPolicy(two/n)" in err
    code, out, err = hw("get", "policy", "g", "nope", "-o", "json")
    assert code == 1
    assert [one["metadata"]["name"] for one in json.loads(out)] == ["g"]
    assert err.startswith("resource does not exist: ")


def test_namespaces_of_documents_and_the_option_agree(hw):
    text = V3.format(kind="NetworkPolicy", name="n, namespace: shop", spec="{}")
    code, _, err = hw("apply", "-n", "other", "-f", hw.file(text))
    assert code == 1
    assert err.endswith("metadata.namespace: 'shop' is not the namespace given with -n, 'other'\n")
    code, _, err = hw("apply", "-n", "other", "-f", hw.file(PAGE))
    assert code == 1
    assert "GlobalNetworkPolicy lives in no namespace, so -n other can't be meant for it" in err


def test_version(hw):
    assert hw("version") == (0, f"Client Version:    {__version__}\n", "")
    assert hw("version", "--cluster")[1].splitlines()[1:] == ["Cluster Version:   unknown", "Cluster Type:      unknown"]


def test_version_and_help_import_no_heavy_library():
    code = (
        "import sys; from hostward.cli.main import main; main(['version']); main(['--help']);"
        "heavy = {'grpc', 'etcd3', 'iptc', 'pyroute2', 'yaml', 'structlog', 'msgspec'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_every_verb_is_there_or_says_so():
    for verb in COMMANDS:
        assert isinstance(cli.get_command(click.Context(cli), verb), click.Command)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, ""),
        (RuntimeError("boom"), 1, "hostward: internal error: RuntimeError: boom (at test_cli_main.py:"),
        (RecursionError("deep"), 1, "internal error: RecursionError"),
        (MemoryError(), 1, "internal error: MemoryError"),
    ],
)
def test_no_error_becomes_a_traceback(hw, monkeypatch, error, code, text):
    def fail():
        raise error

    module = ModuleType("hostward.cli.version")
    module.command = click.Command("version", callback=fail)
    monkeypatch.setitem(sys.modules, "hostward.cli.version", module)
    found, _, err = hw("version")
    assert found == code
    assert text in err


def test_a_missing_verb_or_library_is_said(hw, monkeypatch):
    monkeypatch.setitem(COMMANDS, "brew", "Make coffee.")
    assert hw("brew") == (1, "", "this build has no command 'brew'\n")


def test_a_reader_that_goes_away_is_no_error_to_show(tmp_path):
    command = f"{sys.executable} -c 'import sys; from hostward.cli.main import main; sys.exit(main())'"
    shell = f"{command} --datastore dir:{tmp_path} get tiers -o yaml | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""


YAML = st.text(st.sampled_from(list("ab:-[]{}#&*!|>'\"%@`,? \n\t\x00é0")), max_size=60)
LINES = st.lists(
    st.sampled_from(
        [*PAGE.splitlines(), "---", "- a", "  - &x [*x]", "kind: List", "items: [[]]", "<<: *a", "? a", "!!python/x y"]
    ),
    max_size=12,
).map("\n".join)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=YAML
    | LINES
    | mutated().map(lambda value: json.dumps(value, allow_nan=True))
    | st.just("[" * 5000)
    | st.just("a: " * 500)
)
def test_no_text_yields_a_traceback(hw, tmp_path, text):
    (tmp_path / "fuzz.yaml").write_text(text)
    code, out, err = hw("apply", "-f", "fuzz.yaml")
    assert code in (0, 1)
    assert "internal error" not in err
    assert bool(out) == (code == 0)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=50))
def test_no_bytes_yield_a_traceback(hw, tmp_path, content):
    (tmp_path / "fuzz.yaml").write_bytes(content)
    code, _, err = hw("apply", "-f", "fuzz.yaml")
    assert code == 1
    assert "internal error" not in err


def test_many_errors_are_cut(hw):
    text = "---\n".join(V3.format(kind="Tier", name=f"a{n}", spec="{x: 1}") for n in range(150))
    lines = hw("apply", "-f", hw.file(text))[2].splitlines()
    assert len(lines) == 1 + manifests._MOST_SHOWN + 1
    assert lines[-1] == "  and 50 more"
