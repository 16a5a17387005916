"""Commands against a real etcd, in this process; and what changes from run to run given names."""

from __future__ import annotations

import re

from hostward.cli.main import main

ROOT = "/calico/resources/v3/projectcalico.org/"
_CHANGING = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "UID"),
    (r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r'(resourceVersion"?: )"\d+"', r'\1"REVISION"'),
    (r"\b[0-9a-f]{32}\b", "GUID"),
    (r"revision is \d+, not \d+", "revision is NEW, not OLD"),
)


def named(text: str) -> str:
    """A text with uids, times and revisions replaced by their names."""
    for pattern, name in _CHANGING:
        text = re.sub(pattern, name, text)
    return text


def run(capsys, *args: str) -> tuple[int, str, str]:
    """One command: exit code, stdout, stderr."""
    capsys.readouterr()
    code = main(args)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert "internal error" not in err
    return code, out, err


def use(monkeypatch, etcd) -> None:
    """Has commands use this server, which is emptied."""
    etcd.delete("/calico/", prefix=True)
    for name in ("HOSTWARD_DATASTORE", "ETCD_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in etcd.env.items():
        monkeypatch.setenv(name, value)
