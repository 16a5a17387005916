"""What can be seen of etcd's servers from this host, one by one: TCP, TLS, their clocks; and what our user may read.

The client in `etcd` goes to whichever server works; here each is asked, by Python's own TLS, which says why it refuses. Any
thread.
"""

from __future__ import annotations

import email.utils
import http.client
import socket
import ssl
import time
from contextlib import suppress
from typing import Final, NamedTuple

from hostward.datastore.connection import Connection, Endpoint
from hostward.datastore.store import StoreError

TIMEOUT: Final = 3.0
_VERIFY: Final = (
    ("certificate has expired", "the server's certificate has expired", "have it renewed, or check this host's clock"),
    ("not yet valid", "the server's certificate isn't valid yet", "check the clocks of both hosts"),
    ("Hostname mismatch", "the server's certificate isn't for this name", "name the server as its certificate does"),
    ("IP address mismatch", "the server's certificate isn't for this address", "name the server as its certificate does"),
    ("", "the server's certificate isn't signed by the CA in ETCD_CA_CERT_FILE", "give the CA that signed it"),
)
_EARLY: Final = ("the server hung up", "does it speak TLS? else write http:// in ETCD_ENDPOINTS")  # before TLS was agreed on
_ALERTS: Final = (
    ("WRONG_VERSION_NUMBER", "the server doesn't speak TLS", "write http:// in ETCD_ENDPOINTS, or switch TLS on there"),
    ("RECORD_LAYER_FAILURE", "the server doesn't speak TLS", "write http:// in ETCD_ENDPOINTS, or switch TLS on there"),
    ("CERTIFICATE_REQUIRED", "the server wants a client certificate", "set ETCD_CERT_FILE and ETCD_KEY_FILE"),
    ("EOF", *_EARLY),
    ("ALERT", "the server refuses our client certificate", "give one that its trusted CA has signed, and that hasn't expired"),
)


class Answer(NamedTuple):
    """What one server answered: `trouble` and what to do about it, "" when it does answer; `skew`: how many seconds this host's
    clock is ahead of its, None where it doesn't say."""

    endpoint: str
    trouble: str = ""
    do: str = ""
    skew: float | None = None


def ask_each(connection: Connection) -> list[Answer]:
    """Every server by itself. Raises StoreError when certificates or keys can't be read."""
    context = _context(connection) if any(endpoint.tls for endpoint in connection.endpoints) else None
    return [_ask(endpoint, context, has_certificate=connection.cert is not None) for endpoint in connection.endpoints]


def _context(connection: Connection) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=connection.ca.read().decode() if connection.ca else None)
        if connection.cert and connection.key and connection.cert.file:
            context.load_cert_chain(connection.cert.file, connection.key.file)
    except (OSError, ValueError) as error:
        raise StoreError(f"certificates or key can't be used: {error}") from error
    return context


def _hung_up_after_handshake(name: str, *, has_certificate: bool) -> Answer:
    """In TLS 1.3 a server judges the client's certificate when the client has gone on; its alert may be lost with the rest."""
    words = "ALERT" if has_certificate else "CERTIFICATE_REQUIRED"
    return Answer(name, *next((what, do) for needle, what, do in _ALERTS if needle == words))


def _ask(endpoint: Endpoint, context: ssl.SSLContext | None, *, has_certificate: bool) -> Answer:
    name = str(endpoint)
    web = (
        http.client.HTTPSConnection(endpoint.host, endpoint.port, timeout=TIMEOUT, context=context)
        if endpoint.tls
        else http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=TIMEOUT)
    )
    shaken = False
    try:
        web.connect()
        shaken = endpoint.tls
        web.request("GET", "/version")
        date = web.getresponse().headers["Date"]
    except ssl.SSLCertVerificationError as error:
        return Answer(name, *next((what, do) for needle, what, do in _VERIFY if needle in error.verify_message))
    except ssl.SSLError as error:
        words = str(error.reason or error).upper().replace(" ", "_")
        if shaken and "EOF" in words:
            return _hung_up_after_handshake(name, has_certificate=has_certificate)
        if context is not None and "ALERT" in words and not has_certificate:
            words = "CERTIFICATE_REQUIRED"
        return Answer(name, *next(((w, do) for needle, w, do in _ALERTS if needle in words), (str(error), "see etcd's log")))
    except socket.gaierror as error:
        return Answer(name, f"host name not found: {error.strerror}", "check the name, and this host's name servers")
    except TimeoutError:
        do = "look for a firewall on the way; the agent's own rules always let it through, others' here may not"
        return Answer(name, f"no answer within {TIMEOUT:g} s", do)
    except ConnectionResetError:
        if shaken:
            return _hung_up_after_handshake(name, has_certificate=has_certificate)
        return Answer(name, *_EARLY) if endpoint.tls else Answer(name, "the server hung up", "does it want https:// ?")
    except OSError as error:
        return Answer(name, error.strerror or str(error), "is etcd running there, and is the port right?")
    except http.client.HTTPException:
        if not endpoint.tls and _speaks_tls(endpoint):
            return Answer(name, "the server wants TLS", "write https:// in ETCD_ENDPOINTS")
        return Answer(name)  # it answers, but no web pages
    finally:
        web.close()
    with suppress(TypeError, ValueError):  # no date, or none that can be read
        return Answer(name, skew=time.time() - email.utils.parsedate_to_datetime(date).timestamp())
    return Answer(name)


def _speaks_tls(endpoint: Endpoint) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((endpoint.host, endpoint.port), TIMEOUT) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


def count_resources(connection: Connection) -> int:
    """How many resources are stored, asked as the agent asks, over all of them at once. Raises StoreError when it may not."""
    from hostward.datastore.etcd.store import EtcdStore  # noqa: PLC0415 # heavy, and of no use to who has a directory

    store = EtcdStore(connection)
    try:
        return store.count()
    finally:
        store.close()
