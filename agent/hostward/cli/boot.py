"""`hostward boot`: puts the rules that were last in force into the kernel before the network is up, without any datastore."""

from __future__ import annotations

import os
import socket
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from hostward.cli.agent import FILE
from hostward.cli.failures import notice

if TYPE_CHECKING:
    from hostward.dataplane.kernel import Kernel
    from hostward.dataplane.saved_rules import SavedRules
    from hostward.model.settings import Settings
    from hostward.render.ruleset import Family

LOCK_SECONDS = 30.0


@click.command(name="boot", help="Put the rules that were last in force into the kernel, before the network is up.")
@click.option("--datastore", envvar="HOSTWARD_DATASTORE", default="etcd", show_default=True, help="As the agent's.")
def command(datastore: str) -> None:
    """Exit 1 beside a running agent, or when anything kept the last rules from being put back."""
    sys.exit(0 if _boot(datastore) else 1)


def _boot(datastore: str) -> bool:
    from hostward.dataplane.kernel import KernelError  # noqa: PLC0415 # heavy imports only when they are needed
    from hostward.dataplane.linux import LinuxKernel  # noqa: PLC0415 # the same
    from hostward.model.setting_sources import resolve  # noqa: PLC0415 # the same
    from hostward.report.agent_lock import AgentLock, AgentRunsError  # noqa: PLC0415 # the same

    file, well = _file()
    local = resolve(os.environ, file, None, None, socket.gethostname())
    for error in local.errors:
        notice(f"Error: {error}")
    lock: AgentLock | None = None
    try:
        lock = AgentLock(local.settings.state_dir)
    except AgentRunsError as error:
        notice(f"Error: {error}")
        return False
    except OSError as error:  # a disk that can't be written may hold the rules all the same; no agent starts on it
        notice(f"Error: {error.filename}: {error.strerror}")
        well = False
    try:
        settings = _remembered(file, local.settings)
        saved, readable = _read(Path(settings.state_dir))
        kernel = LinuxKernel(Path(settings.iptables_lock_file_path), LOCK_SECONDS)
        families = [family for family in kernel.families() if family == 4 or settings.ipv6_support]
        with kernel.lock():
            done = [_guard(kernel, family, saved, settings, datastore) for family in families]
    except KernelError as error:
        notice(f"Error: {error}")
        return False
    finally:
        if lock is not None:
            lock.release()
    return well and not local.errors and readable and all(done)


def _file() -> tuple[dict[str, Any], bool]:
    """The settings file, and whether it is right: without it the last rules are put back all the same."""
    try:
        return tomllib.loads(FILE.read_text(encoding="utf-8")), True
    except FileNotFoundError:
        return {}, True
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        notice(f"Error: {FILE}: {error}")
        return {}, False


def _remembered(file: Mapping[str, Any], settings: Settings) -> Settings:
    """The settings with FelixConfiguration as the agent last understood it: failsafe ports may be set there."""
    from hostward.engine.intake import Intake  # noqa: PLC0415 # heavy imports only when they are needed
    from hostward.engine.memory import FILE as MEMORY  # noqa: PLC0415 # the same
    from hostward.engine.memory import Memory  # noqa: PLC0415 # the same
    from hostward.model.setting_sources import resolve  # noqa: PLC0415 # the same

    state = Path(settings.state_dir)
    if not (state / MEMORY).exists():
        return settings
    memory = Memory(state)
    intake = Intake(memory)
    memory.close()
    node, default = (intake.remembered_configuration(name) for name in (f"node.{settings.node_name}", "default"))
    return resolve(os.environ, file, node, default, socket.gethostname()).settings


def _read(state: Path) -> tuple[SavedRules | None, bool]:
    """The rules that the agent kept, None if it kept none that can be used; and whether that is as it should be."""
    from hostward.dataplane.saved_rules import FILE as SAVED  # noqa: PLC0415 # heavy imports only when they are needed
    from hostward.dataplane.saved_rules import SavedRulesError, read  # noqa: PLC0415 # the same

    path = state / SAVED
    try:
        return read(path.read_bytes()), True
    except FileNotFoundError:
        return None, True
    except (OSError, SavedRulesError) as error:
        notice(f"Error: {path} is not used: {error}")
        return None, False


def _guard(kernel: Kernel, family: Family, saved: SavedRules | None, settings: Settings, datastore: str) -> bool:
    """Puts one IP version's rules into the kernel; whether they are the best that there are."""
    from hostward.dataplane import boot  # noqa: PLC0415 # heavy imports only when they are needed
    from hostward.dataplane.kernel import KernelError  # noqa: PLC0415 # the same

    wanted = saved.families.get(family) if saved is not None else None
    try:
        if boot.is_guarded(family):
            click.echo(f"IPv{family}: Hostward's rules are there already; nothing was done")
            return True
        if saved is not None and wanted is not None:
            boot.put(kernel, family, wanted)
            click.echo(f"IPv{family}: the rules of {saved.origin} are in force")
            return True
    except KernelError as error:
        notice(f"Error: IPv{family}: {error}")
        # What they guarded isn't left open, whatever the setting says of a host that never had rules.
        guarded = (*settings.boot_interfaces, *(wanted.interfaces() if wanted is not None else ()))
        if guarded:  # else what is there stays: nobody knows what it is
            _close(kernel, family, replace(settings, boot_interfaces=tuple(dict.fromkeys(guarded))), datastore)
        return False
    return _close(kernel, family, settings, datastore)


def _close(kernel: Kernel, family: Family, settings: Settings, datastore: str) -> bool:
    """What `bootInterfaces` says, where there are no rules to put back; whether it could be done."""
    from hostward.dataplane import boot  # noqa: PLC0415 # heavy imports only when they are needed
    from hostward.dataplane.kernel import KernelError  # noqa: PLC0415 # the same
    from hostward.dataplane.saved_rules import of_ruleset  # noqa: PLC0415 # the same
    from hostward.render.minimum import minimum  # noqa: PLC0415 # the same

    names = ", ".join(settings.boot_interfaces)
    try:
        if not names:
            boot.remove(kernel, family)
            click.echo(f"IPv{family}: no rules are kept, and bootInterfaces is empty: nothing is guarded until the agent runs")
            return True
        ruleset = minimum(settings, _etcd(datastore), (family,))
        boot.put(kernel, family, of_ruleset(ruleset, "bootInterfaces").families[family])
    except KernelError as error:
        notice(f"Error: IPv{family}: {error}")
        return False
    click.echo(f"IPv{family}: closed but for failsafe ports until the agent runs: {names}")
    return True


def _etcd(datastore: str) -> list[tuple[str, int]]:
    """The hosts and ports of etcd as the agent will find them; none where its settings are wrong."""
    from hostward.datastore.connection import SettingsError, from_environment  # noqa: PLC0415 # heavy imports late

    if datastore.startswith("dir:"):
        return []
    try:
        return [(endpoint.host, endpoint.port) for endpoint in from_environment(os.environ).endpoints]
    except SettingsError as error:
        notice(f"Error: {error}")
        return []
