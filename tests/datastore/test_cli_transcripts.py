"""Every verb and output format on every kind, against a real etcd, as golden transcripts."""

import pytest

from hostward.convert.validate import WRITABLE
from tests.datastore import transcripts
from tests.datastore.command_line import use
from tests.lab.etcd import Etcd

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def etcd():
    with Etcd() as server:
        yield server


@pytest.mark.parametrize("kind", sorted(WRITABLE))
def test_every_verb_and_format(kind, etcd, tmp_path, monkeypatch):
    use(monkeypatch, etcd)
    monkeypatch.chdir(tmp_path)
    assert transcripts.transcript(kind, etcd, tmp_path) == (transcripts.GOLDEN / f"{kind}.txt").read_text()


def test_there_is_one_for_every_kind():
    assert set(transcripts.documents()) == WRITABLE
    assert {file.stem for file in transcripts.GOLDEN.iterdir()} == WRITABLE
