"""`hostward kube-controller`: keeps etcd equal to what a Kubernetes cluster says, until a signal."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, Final

import click

# Not imported from the controller: `--help` shouldn't load gRPC.
CONTROLLERS: Final = ("policy", "namespace", "serviceaccount", "workloadendpoint", "node", "service", "admin")
SEVERITIES: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "FATAL")
_PORTS: Final = click.IntRange(1, 65535)


def _controllers(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))
    for name in names:
        if name not in CONTROLLERS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(CONTROLLERS)}")
    if not names:
        raise click.BadParameter(f"name at least one of {', '.join(CONTROLLERS)}")
    return names


_ADDRESS: Final = re.compile(r"(?:(?P<host>[^:\[\]\s]+)|\[(?P<six>[0-9a-fA-F:.]+)\]):(?P<port>[0-9]{1,5})")


def _address(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise click.BadParameter(f"{text!r} is no HOST:PORT; an IPv6 address stands in brackets, as [2001:db8::1]:6443")
    return found["host"] or found["six"], int(found["port"])


@click.command(
    name="kube-controller", help="Keep etcd equal to what a Kubernetes cluster says, in the foreground, until a signal."
)
@click.option("--datastore", envvar="HOSTWARD_DATASTORE", default="etcd", show_default=True, help="etcd; nothing else will do.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="How to reach the API server from outside of a cluster.")
@click.option("--context", help="A context of the kubeconfig other than its current one.")
@click.option(
    "--api-server", metavar="HOST:PORT", callback=_address, help="The API server's address, where the Service's isn't usable."
)
@click.option(
    "--controllers",
    default=",".join(CONTROLLERS),
    show_default=True,
    callback=_controllers,
    help="What to keep equal.",
)
@click.option("--health-host", default="127.0.0.1", show_default=True, help="Where /liveness and /readiness are.")
@click.option("--health-port", type=_PORTS, default=9098, show_default=True)
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Where /metrics is.")
@click.option("--metrics-port", type=_PORTS, default=9092, show_default=True)
@click.option(
    "--lease",
    type=click.IntRange(2, 300),
    default=15,
    show_default=True,
    help="Seconds until a dead leader is replaced.",
)
@click.option("--log-severity", type=click.Choice(SEVERITIES, case_sensitive=False), default="INFO", show_default=True)
@click.option("--log-format", type=click.Choice(("auto", "json", "console")), default="auto", show_default=True)
def command(**given: Any) -> None:
    """Exit 0 after a signal, 1 when it can't start."""
    if given["datastore"] != "etcd":
        raise click.UsageError(f"--datastore {given['datastore']}: the controller writes to etcd only")
    if given["kubeconfig"] and given["api_server"]:
        raise click.UsageError("--api-server is for pods; a kubeconfig names its server itself")
    if given["context"] and not given["kubeconfig"]:
        raise click.UsageError("--context needs --kubeconfig")
    from hostward.controller.process import Options, run  # noqa: PLC0415 # heavy: gRPC, urllib3

    options = Options(
        environ=os.environ,
        controllers=given["controllers"],
        kubeconfig=given["kubeconfig"],
        context=given["context"],
        api_server=given["api_server"],
        health=(given["health_host"], given["health_port"]),
        metrics=(given["metrics_host"], given["metrics_port"]),
        lease=given["lease"],
        log_severity=given["log_severity"].upper(),
        log_format=given["log_format"],
    )
    sys.exit(run(options))
