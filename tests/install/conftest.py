"""Machines with Debian and the packages that provisioning installs, on the networks that the Vagrantfile describes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import image

PACKAGES = """
FROM debian:bookworm-slim
COPY vagrant/provision-packages.sh /packages/
RUN /packages/provision-packages.sh etcd-server etcd-client && rm -rf /var/lib/apt/lists/* /var/cache/*
"""


@pytest.fixture(scope="session")
def debian() -> Path:
    """A root with the packages of every machine, so that they aren't fetched time after time."""
    return image.made(PACKAGES, "machine")[0]
