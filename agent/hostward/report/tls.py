"""TLS for the metrics server: certificate, key, and which clients are let in; files that change are loaded again.

Only the server's own thread uses it.
"""

from __future__ import annotations

import ssl
import stat
from pathlib import Path
from typing import Final

from msgspec import Struct

MAX_FILE: Final = 2**20
_MODES: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


class TlsError(Exception):
    """The certificate, key or CA file can't be used; the text names the setting and the file."""


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        info = Path(path).stat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino


def _check(setting: str, path: str) -> None:
    """A path can come from the datastore: /dev/zero or a pipe must not hold the server's thread for ever."""
    try:
        info = Path(path).stat()
        if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_FILE:
            raise TlsError(f"{setting}: {path}: not a regular file of at most {MAX_FILE} bytes")
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise TlsError(f"{setting}: {path}: {error.strerror}") from error


class TlsFiles(Struct):
    """The three files and `prometheusMetricsClientAuth`. Without a CA file no client certificate is asked for."""

    cert: str
    key: str
    ca: str = ""
    client_auth: str = "RequireAndVerifyClientCert"
    _stamps: tuple[object, ...] = ()
    _context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """The present context; made again when a file has changed. TlsError; then the next call tries once more.

        Certificates are renewed without a restart (docs/reliability.md P2). While new files are broken the last good context is
        kept by the caller, who gets the error.
        """
        stamps = tuple(_stamp(path) for path in (self.cert, self.key, self.ca) if path)
        if self._context is None or stamps != self._stamps:
            self._context = self._load()
            self._stamps = stamps
        return self._context

    def _load(self) -> ssl.SSLContext:
        if not self.cert or not self.key:
            raise TlsError("TLS needs both prometheusMetricsCertFile and prometheusMetricsKeyFile")
        for name, path in (("CertFile", self.cert), ("KeyFile", self.key), ("CAFile", self.ca)):
            if path:
                _check(f"prometheusMetrics{name}", path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # An empty password: an encrypted key is an error here, not a question on the terminal.
            context.load_cert_chain(self.cert, self.key, password="")  # it is no secret, it is the absence of one
        except (ssl.SSLError, OSError, ValueError) as error:
            raise TlsError(
                f"prometheusMetricsCertFile {self.cert} with prometheusMetricsKeyFile {self.key}: {error}"
            ) from error
        if self.ca:
            try:
                context.load_verify_locations(self.ca)
            except (ssl.SSLError, OSError) as error:
                raise TlsError(f"prometheusMetricsCAFile: {self.ca}: {error}") from error
            context.verify_mode = _MODES[self.client_auth]
        return context
