"""Certificate authorities and certificates of a test's own, by openssl. Knows nothing of Hostward."""

from __future__ import annotations

import subprocess
from pathlib import Path


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


def authority(home: Path, name: str) -> Path:
    """A certificate authority; its certificate, beside its key."""
    cert = home / f"{name}.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    _openssl("req", "-x509", *curve, "-subj", f"/CN={name}", "-keyout", str(home / f"{name}.key"), "-out", str(cert))
    return cert


def issue(home: Path, ca: Path, name: str, alternatives: str = "IP:127.0.0.1,DNS:localhost") -> tuple[Path, Path]:
    """A certificate for server or client, and its key."""
    key, request, cert = home / f"{name}.key", home / f"{name}.csr", home / f"{name}.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    _openssl("req", *curve, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request))
    (home / "ext").write_text(f"subjectAltName={alternatives}\n")
    signer = ["-CA", str(ca), "-CAkey", str(ca.with_suffix(".key")), "-CAcreateserial", "-days", "2"]
    _openssl("x509", "-req", "-in", str(request), *signer, "-extfile", str(home / "ext"), "-out", str(cert))
    return cert, key


def expired(home: Path, ca: Path, name: str, alternatives: str) -> tuple[Path, Path]:
    """A certificate that was valid for a day, long ago, and its key."""
    cert, key = issue(home, ca, name, alternatives)
    _authority_files(home)
    dates = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"]
    _openssl("ca", *_as(home, ca), *dates, "-in", str(home / f"{name}.csr"), "-extfile", str(home / "ext"), "-out", str(cert))
    return cert, key


def revoke(home: Path, ca: Path, cert: Path) -> Path:
    """A list of revoked certificates with one in it."""
    _authority_files(home)
    _openssl("ca", *_as(home, ca), "-revoke", str(cert))
    found = home / "revoked.pem"
    _openssl("ca", *_as(home, ca), "-gencrl", "-crldays", "1", "-out", str(found))
    der = home / "revoked.crl"  # etcd reads no other form
    _openssl("crl", "-in", str(found), "-outform", "DER", "-out", str(der))
    return der


def _authority_files(home: Path) -> None:
    """What `openssl ca` keeps its books in."""
    (home / "books").touch()
    (home / "serial").write_text("7001\n")
    (home / "ca.cnf").write_text(
        "[ca]\ndefault_ca=this\n[this]\nunique_subject=no\ndefault_md=sha256\npolicy=any\n"
        f"database={home}/books\nserial={home}/serial\nnew_certs_dir={home}\n[any]\ncommonName=supplied\n"
    )


def _as(home: Path, ca: Path) -> list[str]:
    return ["-batch", "-config", str(home / "ca.cnf"), "-cert", str(ca), "-keyfile", str(ca.with_suffix(".key"))]
