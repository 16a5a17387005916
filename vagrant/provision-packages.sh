#!/bin/sh
# Installs what `make install` and the tutorial need of Debian, unless it is there. Arguments: more packages.
set -eu

set -- make gcc libc6-dev python3-venv python3-dev iptables kmod iproute2 iputils-ping "$@"
# shellcheck disable=SC2016 # the dollar is dpkg-query's
if [ "$(dpkg-query -W -f '${db:Status-Status}\n' "$@" 2>/dev/null | grep -cx installed)" = $# ]; then
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "$@"
