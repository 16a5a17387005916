"""Alerts, runbooks and the dashboard: each alert is tested and has its page, and what the pages say to type can be typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripts import monitoring

from hostward.cli import kinds
from hostward.cli.main import cli

ROOT = Path(__file__).parents[2]
MONITORING, RUNBOOKS = ROOT / "deploy/monitoring", ROOT / "docs/runbooks"
RULES, TESTS = MONITORING / "rules.yaml", sorted(MONITORING.glob("rules_*test.yaml"))
SECTIONS = ["## Who is exposed", "## What to look at", "## What to do"]
SEVERITIES = {"critical", "warning", "info"}
TOOLS = {
    "ausearch", "cat", "conntrack", "curl", "df", "dmesg", "etcdctl", "hostward", "ip", "ipset", "iptables-legacy",
    "iptables-legacy-save", "journalctl", "kubectl", "last", "ls", "openssl", "systemctl", "top",
}  # fmt: skip # a list of words
METRIC = re.compile(r"\b(?:hostward|felix)_[a-z0-9_]+")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = [rule for group in groups for rule in group["rules"]]
    return found


ALERTS = sorted({rule["alert"] for rule in rules()})


@pytest.fixture(scope="module")
def promtool() -> str:
    """`make setup` gets it."""
    found = shutil.which("promtool", path=f"{ROOT / '.cache/promtool'}:{os.environ['PATH']}")
    if found is None and shutil.which("apt-get") is None:
        pytest.skip("no promtool, and no apt-get that `make setup` could get it with")
    assert found, "run `make setup`"
    return found


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def blocks(page: str, language: str) -> Iterator[str]:
    """The fenced blocks of a language."""
    yield from re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


# --- alerts ------------------------------------------------------------------------------------------------------------
def test_what_is_generated_is_what_is_there() -> None:
    for name, text in monitoring.generated().items():
        assert (MONITORING / name).read_text(encoding="utf-8") == text, "run scripts/monitoring.py"
    operator = yaml.safe_load((MONITORING / monitoring.OPERATOR_RULES).read_text(encoding="utf-8"))
    assert operator["spec"] == yaml.safe_load(RULES.read_text(encoding="utf-8"))


def test_each_alert_fires_when_it_should_and_not_when_it_should_not(promtool: str) -> None:
    checked = run(promtool, "check", "rules", RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = run(promtool, "test", "rules", *TESTS)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    cases = [case["name"] for file in TESTS for case in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]]
    for alert in ALERTS:
        assert f"{alert} fires" in cases
        assert f"{alert} stays quiet" in cases


def test_the_tests_of_alerts_notice_what_is_wrong(promtool: str, tmp_path: Path) -> None:
    """Of each alert: without its expression and with one that is always true, a test of it fails."""
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for expression, found in (("vector(1) < 0", "got: nil"), ("vector(1)", "exp: nil")):
        for rule in document["groups"][0]["rules"]:
            rule |= {"expr": expression}
            rule.pop("for", None)
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        tested = run(promtool, "test", "rules", *(shutil.copy(file, tmp_path) for file in TESTS))
        assert tested.returncode != 0
        failures = (tested.stdout + tested.stderr).split("expr: ")[1:]
        for alert in ALERTS:
            assert any(f'alertname=\\"{alert}\\"' in text and found in text for text in failures), f"{alert}: {expression}"


def test_each_alert_says_what_it_means(promtool: str, tmp_path: Path) -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in SEVERITIES
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["summary"].endswith(".")
    shutil.copy(RULES, tmp_path)
    for file in TESTS:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        document["tests"] = [case for case in document["tests"] if case["name"].endswith(" fires")]
        for case in document["tests"]:  # told to expect none, promtool prints those that come, with their texts filled in
            (probe,) = case.pop("promql_expr_test")
            alert = case["name"].split()[0]
            case["alert_rule_test"] = [{"eval_time": probe["eval_time"], "alertname": alert, "exp_alerts": []}]
        (tmp_path / file.name).write_text(yaml.safe_dump(document), encoding="utf-8")
    printed = run(promtool, "test", "rules", *(tmp_path / file.name for file in TESTS))
    text = printed.stdout + printed.stderr
    assert "error expanding template" not in text
    assert "<no value>" not in text
    assert {rule["annotations"]["runbook_url"] for rule in rules()} == set(re.findall(r'runbook_url="([^"]+)"', text))


# --- runbooks ----------------------------------------------------------------------------------------------------------
def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    for rule in rules():
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
    assert sorted(page.stem for page in RUNBOOKS.glob("*.md") if page.stem != "README") == ALERTS
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    severities = {
        alert: ", ".join(rule["labels"]["severity"] for rule in rules() if rule["alert"] == alert) for alert in ALERTS
    }
    assert dict(re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| ([\w, ]+) \|$", index, re.MULTILINE)) == severities


@pytest.mark.parametrize("alert", ALERTS)
def test_a_page_says_who_is_exposed_what_to_look_at_and_what_to_do(alert: str) -> None:
    page = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {alert}\n\n")
    assert [line for line in page.splitlines() if line.startswith("## ")] == SECTIONS
    assert list(blocks(page, "sh")), "nothing to type"
    for link in re.findall(r"\]\(([^)#]+)", page):
        assert (RUNBOOKS / link).exists(), link


@pytest.mark.parametrize("name", [*(f"runbooks/{alert}" for alert in ALERTS), "runbooks/README", "tasks"])
def test_what_a_page_says_to_type_can_be_typed(name: str) -> None:
    page = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    commands = [line for block in blocks(page, "sh") for line in block.splitlines()]
    commands += [text for text in re.findall(r"`([^`]+)`", page.replace("\n  ", " ")) if text.startswith("hostward ")]
    for command in commands:
        assert run("sh", "-n", "-c", command).returncode == 0, command
        words = shlex.split(command)
        assert words[0] in TOOLS, command
        if words[0] == "hostward":
            parse(words[1:])
        if words[:2] in (["hostward", "get"], ["hostward", "patch"]):
            (kind, *_) = kinds.named(words[2], None) or ("",)
            assert kind, command
            assert words[1] == "get" or kind != "ClusterInformation", "the command line only reads it"


def parse(words: list[str]) -> None:
    """Raises where `hostward WORDS` would end with a usage error."""
    with cli.make_context("hostward", list(words)) as context:
        name, command, rest = cli.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None, words
        command.make_context(name, rest, parent=context)


def test_pages_and_alerts_name_metrics_that_exist(promtool: str, tmp_path: Path) -> None:
    known = set(METRIC.findall((ROOT / "docs/metrics.md").read_text(encoding="utf-8")))
    histograms = {f"{name}_{part}" for name in known for part in ("bucket", "sum", "count")}
    queries = []
    for page in (*sorted(RUNBOOKS.glob("*.md")), ROOT / "docs/tasks.md"):
        text = page.read_text(encoding="utf-8")
        assert set(METRIC.findall(text)) <= known | histograms, page.name
        queries += [line for block in blocks(text, "promql") for line in block.splitlines()]
    queries += [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    checked = [{"record": f"q{at}", "expr": plain(query)} for at, query in enumerate(queries)]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": checked}]}), encoding="utf-8")
    done = run(promtool, "check", "rules", tmp_path / "queries.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def plain(query: str) -> str:
    """Grafana's variables as something that Prometheus can parse."""
    return query.replace("$__rate_interval", "5m").replace("$top", "10")


# --- the dashboard -----------------------------------------------------------------------------------------------------
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MONITORING / monitoring.DASHBOARD).read_text(encoding="utf-8"))
    return found


def test_the_dashboard_can_be_imported_anywhere() -> None:
    found = dashboard()
    assert re.fullmatch(r"[a-z0-9-]{1,40}", found["uid"])
    assert found["schemaVersion"] >= 39
    assert "id" not in found
    variables = {variable["name"]: variable for variable in found["templating"]["list"]}
    assert {"datasource", "job", "instance"} <= variables.keys()
    assert variables["datasource"]["type"] == "datasource"
    for panel in found["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["description"]
        assert [target["refId"] for target in panel["targets"]] == [chr(65 + at) for at in range(len(panel["targets"]))]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            assert 'job=~"$job"' in target["expr"]
            assert 'instance=~"$instance"' in target["expr"]


def test_panels_group_by_labels_that_there_are() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| \w+ \| ([\w, ]*)\| ", (ROOT / "docs/metrics.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    labels = {name: set(re.findall(r"\w+", listed)) for name, listed in rows}
    queries = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    grouped = [found for query in queries for found in re.findall(r"by \(([\w, ]+)\) \((?:\w+\()?(\w+?)(?:_bucket)?\{", query)]
    grouped = [(by, name) for by, name in grouped if name in labels]
    assert len(grouped) > 15
    for by, name in grouped:
        assert set(re.findall(r"\w+", by)) <= labels[name] | {"instance", "job", "le"}, (by, name)


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]
