"""Every verb and output format on every kind, as golden transcripts: against a real etcd, and against a directory."""

import re

import pytest

from hostward.convert.validate import WRITABLE
from tests.datastore import transcripts
from tests.datastore.command_line import use
from tests.lab.etcd import Etcd

_IDENTITY = re.compile(r'^ *"?(?:uid|creationTimestamp|resourceVersion)"?: .*\n', re.M)


@pytest.fixture(scope="module")
def etcd():
    with Etcd() as server:
        yield server


@pytest.mark.etcd
@pytest.mark.parametrize("kind", sorted(WRITABLE))
def test_every_verb_and_format(kind, etcd, tmp_path, monkeypatch):
    use(monkeypatch, etcd)
    monkeypatch.chdir(tmp_path)
    assert transcripts.transcript(kind, tmp_path) == (transcripts.GOLDEN / f"{kind}.txt").read_text()


def without_identity(text):
    """A transcript without what only a server adds; and without commas at ends of lines, as JSON's last field has none."""
    return re.sub(",$", "", _IDENTITY.sub("", text), flags=re.M)


@pytest.mark.parametrize("kind", sorted(WRITABLE))
def test_a_directory_answers_as_etcd_does(kind, tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("HOSTWARD_DATASTORE", f"dir:{tmp_path / 'store'}")
    monkeypatch.chdir(tmp_path)
    of_etcd = (transcripts.GOLDEN / f"{kind}.txt").read_text()
    assert without_identity(transcripts.transcript(kind, tmp_path)) == without_identity(of_etcd)


def test_there_is_one_for_every_kind():
    assert set(transcripts.documents()) == WRITABLE
    assert {file.stem for file in transcripts.GOLDEN.iterdir()} == WRITABLE
