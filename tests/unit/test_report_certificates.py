"""When certificates end, as openssl says it, in every form of time; and files that hold none."""

from __future__ import annotations

import os
import subprocess
from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hostward.report.certificates import CertificateError, Certificates, validity


def made(path: Path, days: int) -> float:
    """Makes a certificate; when it ends, by openssl."""
    key = path.with_suffix(".key")
    run = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run += ["-days", str(days), "-subj", "/CN=w1", "-keyout", str(key), "-out", str(path)]
    subprocess.run(run, check=True, capture_output=True, timeout=30)
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", str(path)], check=True, capture_output=True, text=True, timeout=30
    ).stdout
    text = shown.strip().removeprefix("notAfter=")
    return datetime.strptime(text, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC).timestamp()


def ends(pem: bytes) -> float:
    return validity(pem)[1].timestamp()


@pytest.mark.parametrize("days", [10, 20_000])  # after 2049 the form of time is another
def test_the_end_is_openssl_s(tmp_path: Path, days: int) -> None:
    path = tmp_path / "cert.pem"
    end = made(path, days)
    assert ends(path.read_bytes()) == end
    assert ends(b"Certificate:\n some text\n" + path.read_bytes() + path.read_bytes()) == end  # of a chain the first


def test_a_renewed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    files = {"etcd-client": str(path), "metrics-server": ""}
    certificates = Certificates(lambda: files)
    assert certificates() == {}
    first = made(path, 10)
    assert certificates() == {"etcd-client": first}
    second = made(path, 20)
    assert certificates() == {"etcd-client": second} != {"etcd-client": first}
    files["metrics-server"] = str(path)
    assert certificates() == {"etcd-client": second, "metrics-server": second}
    path.write_bytes(b"")
    assert certificates() == {}
    path.unlink()
    os.mkfifo(path)  # reading it would wait for ever
    assert certificates() == {}


@pytest.mark.parametrize(
    "broken",
    [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"\xff" * 100, b"-----BEGIN CERTIFICATE-----A-----END CERTIFICATE-----"],
)
def test_what_is_no_certificate_has_no_end(broken: bytes) -> None:
    with pytest.raises(CertificateError, match="no certificate"):
        validity(broken)


@pytest.mark.parametrize("content", [b"", b"\x30\x00", b"\x30\x02\x30\x00", b"\x30\x05\x30"])
def test_nor_has_one_that_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cert.pem"
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\n" + b64encode(content) + b"\n-----END CERTIFICATE-----\n")
    assert Certificates(lambda: {"etcd-client": str(path)})() == {}


def test_no_byte_of_a_certificate_can_do_harm(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    made(path, 10)
    head, body, tail = path.read_bytes().partition(b"\n")
    for at in range(0, len(tail) - 30, 3):
        for other in (b"A", b"/", b"="):
            with suppress(CertificateError):
                validity(head + body + tail[:at] + other + tail[at + 1 :])
