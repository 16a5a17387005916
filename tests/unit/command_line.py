"""Runs commands against a directory of their own: exit code, stdout and stderr; and writes the files that they read."""

import io
import json
import sys

import yaml

from hostward.cli.main import main

V3 = "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"


class CommandLine:
    """`run(*args)` is one command; a traceback on any stream is a failure."""

    def __init__(self, home, monkeypatch, capsys):
        self.home, self._monkeypatch, self._capsys = home, monkeypatch, capsys
        (home / "store").mkdir()
        monkeypatch.setenv("HOSTWARD_DATASTORE", f"dir:{home / 'store'}")
        monkeypatch.chdir(home)

    def run(self, *args, stdin=None):
        if stdin is not None:
            self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        self._capsys.readouterr()
        code = main(args)
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        assert "internal error" not in err
        return code, out, err

    def ok(self, *args, stdin=None):
        code, out, err = self.run(*args, stdin=stdin)
        assert (code, err) == (0, "")
        return out

    def fails(self, *args, code=1, stdin=None):
        found, out, err = self.run(*args, stdin=stdin)
        assert (found, out) == (code, "")
        return err

    def file(self, text, name="m.yaml"):
        (self.home / name).write_text(text)
        return name

    def manifest(self, kind, name, spec, file="m.yaml", **metadata):
        document = {
            "apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name} | metadata, "spec": spec,
        }  # fmt: skip
        return self.file(yaml.safe_dump(document), file)

    def stored(self, kind, name, *more):
        return json.loads(self.ok("get", kind, name, "-o", "json", *more))
