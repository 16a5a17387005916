"""`hostward defaults`: prints the default worker policies and host endpoints, for `apply -f -`. Runs in the main thread."""

from __future__ import annotations

import json

import click

from hostward.cli.failures import CommandError
from hostward.cli.options import calicoctl_options
from hostward.convert import validate
from hostward.convert.worker_defaults import POD_NETWORKS, SERVICE_PORTS, Values, documents
from hostward.datastore.yaml_text import to_yaml
from hostward.model import nets


@click.command("defaults", short_help="Print the default worker policies and host endpoints.")
@click.option(
    "--node", "nodes", metavar="NAME", multiple=True, help="A worker to guard; without one, policies only. Repeatable."
)
@click.option("--public-interface", metavar="NAME", default="eth1", show_default=True, help='"" for none.')
@click.option("--private-interface", metavar="NAME", default="eth0", show_default=True, help='"" for none.')
@click.option("--public-address", metavar="IP", multiple=True, help="Of the one --node's public interface. Repeatable.")
@click.option("--private-address", metavar="IP", multiple=True, help="Of its private interface. Repeatable.")
@click.option("--pod-network", metavar="CIDR", multiple=True, default=POD_NETWORKS, show_default=True, help="Repeatable.")
@click.option(
    "--service-port",
    type=click.IntRange(1, 65535),
    multiple=True,
    default=SERVICE_PORTS,
    show_default=True,
    help="Ports that allow-bigfix-port opens. Repeatable.",
)
@click.option("--management-network", metavar="CIDR", multiple=True, help="From where allow-sys-mgmt lets in. Repeatable.")
@click.option("--apply-on-forward", is_flag=True, help="Policies judge forwarded traffic under every hostForwardPolicy.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@calicoctl_options
def command(
    *,
    nodes: tuple[str, ...],
    public_interface: str,
    private_interface: str,
    public_address: tuple[str, ...],
    private_address: tuple[str, ...],
    pod_network: tuple[str, ...],
    service_port: tuple[int, ...],
    management_network: tuple[str, ...],
    apply_on_forward: bool,
    output: str,
) -> None:
    """Print the default policies for workers and the host endpoints of the given nodes, in an order that is safe to apply.

    hostward defaults --node w1 --management-network 198.51.100.0/24 | hostward apply -f -
    """
    if (public_address or private_address) and len(nodes) != 1:
        raise click.UsageError("Addresses belong to one --node; call this once for each.")
    values = Values(
        nodes=tuple(dict.fromkeys(nodes)),
        public_interface=public_interface,
        private_interface=private_interface,
        public_addresses=_addresses("--public-address", public_address),
        private_addresses=_addresses("--private-address", private_address),
        pod_networks=_networks("--pod-network", pod_network),
        service_ports=tuple(dict.fromkeys(service_port)),
        management_networks=_networks("--management-network", management_network),
        apply_on_forward=apply_on_forward,
    )
    found = documents(values)
    if wrong := [f"{one['metadata']['name']}: {problem}" for one in found for problem in validate.problems(one)]:
        raise CommandError("\n  ".join(["failed to execute command: these values make no valid resources:", *wrong]))
    if output == "json":
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        click.echo("---\n".join(to_yaml(one, sort_keys=False) for one in found), nl=False)


def _addresses(option: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_canonical(option, text, nets.parse_address(text), "an IP address") for text in texts))


def _networks(option: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_canonical(option, text, nets.parse_net(text), "a network") for text in texts))


def _canonical(option: str, text: str, canonical: str | None, expected: str) -> str:
    if canonical is None:
        raise click.UsageError(f"{option}: '{text}' is not {expected}.")
    return canonical
