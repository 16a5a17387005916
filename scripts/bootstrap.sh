#!/bin/sh
# Makes a Debian machine ready for `make`: system packages that are missing, and .venv from requirements.lock. Does nothing
# when nothing is missing, needs no network then, and never changes the machine's own packet filter.
set -eu
cd "$(dirname "$0")/.."

PACKAGES='iptables ipset conntrack iproute2 iputils-ping etcd-server etcd-client gcc libc6-dev python3-venv python3-dev make openssl procps debootstrap shellcheck bubblewrap systemd'

fail() {
    echo "setup: $*" >&2
    exit 1
}

missing_packages() {
    for package in $PACKAGES; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || printf '%s ' "$package"
    done
}

install_packages() {
    if [ "$(id -u)" = 0 ]; then
        root=
    elif command -v sudo >/dev/null 2>&1; then
        root=sudo
    fi
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    if [ -z "${root+set}" ]; then
        fail "these packages are missing: $missing
Install them as root:  apt-get install --no-install-recommends $missing"
    fi
    echo "setup: installing $missing" >&2
    $root apt-get update -q || fail 'apt-get update failed; its message is above'
    # shellcheck disable=SC2086 # a list of words
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing ||
        fail "apt-get could not install $missing; its message is above"
    case " $missing" in
    *' etcd-server '*)
        # Debian starts a server with the package. Tests start their own ones; this machine asked for none.
        if [ -d /run/systemd/system ]; then
            $root systemctl disable --now etcd.service >/dev/null 2>&1 || echo 'setup: etcd.service could not be switched off' >&2
        fi
        ;;
    esac
}

# Debian's own interpreter first: its headers are what python3-dev brings, and a shim on PATH may stand for anything.
find_python() {
    for python in ${PYTHON:-} /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return 0
        fi
    done
    return 1
}

make_environment() {
    python=$(find_python) || fail 'no Python 3.11 or newer was found (Debian 12 and later have it; PYTHON=/path/to/python3 names one)'
    wanted="$(cat requirements.lock pyproject.toml | sha256sum | cut -d' ' -f1) $(pwd)"
    if [ -x .venv/bin/python ] && [ "$(cat .venv/made-from 2>/dev/null)" = "$wanted" ]; then
        return 0
    fi
    if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        rm -rf .venv
        "$python" -m venv .venv || fail "$python -m venv failed; python3-venv belongs to it"
    fi
    # Tools that build the rest (wheel needs packaging) come first and from the lock too: with build isolation pip would fetch others, without hashes.
    tools=$(mktemp)
    trap 'rm -f "$tools"' EXIT
    awk '/^[a-z]/ { wanted = /^(packaging|pip|setuptools|wheel)==/ } wanted' requirements.lock >"$tools"
    .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r "$tools" ||
        fail "pip could not install its own tools; is the package index reachable?"
    .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-build-isolation -r requirements.lock ||
        fail 'pip could not install requirements.lock; its message is above'
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . ||
        fail 'pip could not install the checkout; its message is above'
    echo "$wanted" >.venv/made-from
}

# Out of Debian's package, which isn't installed: it would bring a server, and start it.
get_promtool() {
    [ ! -x .cache/promtool/promtool ] || return 0
    mkdir -p .cache/promtool
    (
        cd .cache/promtool
        echo 'setup: getting promtool out of the package prometheus' >&2
        apt-get download -q prometheus >/dev/null 2>&1 || {
            ${root-} apt-get update -q >&2
            apt-get download -q prometheus >&2
        }
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool >promtool.new
        chmod +x promtool.new
        mv promtool.new promtool
        rm -f prometheus_*.deb
    ) || fail 'promtool could not be had out of the Debian package prometheus; the message is above'
}

if command -v dpkg-query >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1; then
    install_packages
    get_promtool
else
    for tool in iptables-legacy ipset conntrack ip ping etcd etcdctl gcc openssl debootstrap shellcheck; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "$tool" >/dev/null 2>&1 || fail "$tool is missing; this machine has no apt-get, so please install it"
    done
fi
make_environment
