#!/bin/sh
# What `make install` and `make uninstall` do: the agent and the command line on a host with systemd.
#
#   /opt/hostward               the program and everything that it needs of Python, replaced as a whole
#   $PREFIX/bin/hostward        the command (PREFIX is /usr/local)
#   /usr/lib/systemd/system, /usr/lib/sysusers.d   the services, and the user that they run as
#   /etc/hostward               agent.toml and agent.env, written once and then yours
#
# With DESTDIR everything goes below that directory, and this machine is left alone: for those who build packages.
set -eu
cd "$(dirname "$0")/.."
umask 022 # the agent isn't root, and must be able to read its program

DESTDIR=${DESTDIR:-}
PREFIX=${PREFIX:-/usr/local}
HOME_DIR=/opt/hostward
UNITS=/usr/lib/systemd/system
USERS=/usr/lib/sysusers.d/hostward.conf
SETTINGS=/etc/hostward

say() {
    echo "hostward: $*"
}

fail() {
    echo "hostward: $*" >&2
    exit 1
}

need_root() {
    [ -n "$DESTDIR" ] || [ "$(id -u)" = 0 ] || fail "$1 changes this machine: run it as root, or with DESTDIR=/some/directory"
}

# Whether systemd runs this machine, and the machine is meant.
by_systemd() {
    [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]
}

check_tools() {
    missing=
    /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
    python3-config --includes >/dev/null 2>&1 || missing="$missing python3-dev"
    command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
    if [ -z "$DESTDIR" ]; then
        PATH="$PATH:/usr/sbin:/sbin" command -v iptables-legacy-restore >/dev/null 2>&1 || missing="$missing iptables"
    fi
    [ -z "$missing" ] || fail "these packages are missing:$missing
Install them:  apt-get install --no-install-recommends$missing"
    /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail 'Python 3.11 or newer is needed: Debian 12 and later have it'
}

# A setting that the new version doesn't take would keep it from starting; then the old one stays.
check_settings() {
    [ -z "$DESTDIR" ] || return 0
    "$1/bin/python3" "$1/bin/hostward" agent --show-config >/dev/null || {
        rm -rf "$1"
        fail "nothing was changed: this version doesn't take the settings in $SETTINGS/agent.toml; the reason is above"
    }
}

install_program() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    scripts/venv.sh wheels "$work"
    scripts/venv.sh hostward "$work"
    # Beside the old one, so that there is a whole one at any moment but between two renames.
    new=$DESTDIR$HOME_DIR.new
    scripts/venv.sh install "$work" "$new" "$HOME_DIR"
    cp -R README.md docs "$new/"
    check_settings "$new"
    rm -rf "$DESTDIR$HOME_DIR.old"
    [ ! -d "$DESTDIR$HOME_DIR" ] || mv "$DESTDIR$HOME_DIR" "$DESTDIR$HOME_DIR.old"
    mv "$new" "$DESTDIR$HOME_DIR"
    rm -rf "$DESTDIR$HOME_DIR.old"
    mkdir -p "$DESTDIR$PREFIX/bin"
    ln -sfn "$HOME_DIR/bin/hostward" "$DESTDIR$PREFIX/bin/hostward"
}

install_services() {
    for unit in systemd/*.service; do
        install -D -m 644 "$unit" "$DESTDIR$UNITS/${unit#systemd/}"
    done
    install -D -m 644 systemd/hostward.sysusers "$DESTDIR$USERS"
}

make_user() {
    [ -z "$DESTDIR" ] || return 0
    if command -v systemd-sysusers >/dev/null 2>&1; then
        systemd-sysusers hostward.conf
    elif ! id hostward >/dev/null 2>&1; then
        useradd --system --user-group --home-dir /var/lib/hostward --no-create-home --shell /usr/sbin/nologin hostward
    fi
}

install_settings() {
    install -d -m 755 "$DESTDIR$SETTINGS"
    for name in agent.toml agent.env; do
        file=$DESTDIR$SETTINGS/$name
        if [ -e "$file" ]; then
            say "$SETTINGS/$name stays as it is"
            continue
        fi
        # It may come to hold a password.
        install -m 640 "systemd/$name" "$file"
        [ -n "$DESTDIR" ] || chgrp hostward "$file"
    done
}

guards() {
    PATH="$PATH:/usr/sbin:/sbin"
    for family in iptables ip6tables; do
        "$family-legacy-save" 2>/dev/null | grep -q '^:hw-' && return 0
    done
    return 1
}

check_quiet() {
    [ -z "$DESTDIR" ] || return 0
    if by_systemd && systemctl is-active --quiet hostward-agent.service; then
        fail 'the agent runs. Stop it first:  systemctl disable --now hostward-agent'
    fi
    if [ "${KEEP_RULES:-}" != yes ] && guards; then
        fail "this host's rules are in the kernel, and without the program nothing removes or changes them before it is started anew.
Remove them:            hostward cleanup      (nothing guards this host then)
Or leave them in place: make uninstall KEEP_RULES=yes"
    fi
}

case ${1:-} in
install)
    need_root 'make install'
    check_tools
    install_program
    install_services
    make_user
    install_settings
    if by_systemd; then
        systemctl daemon-reload
        # Its rules stay in force meanwhile.
        systemctl try-restart hostward-agent.service
    fi
    say "installed in $HOME_DIR"
    say "now say in $SETTINGS/agent.env where the policies are, and then:  systemctl enable --now hostward-agent"
    ;;
uninstall)
    need_root 'make uninstall'
    check_quiet
    for unit in systemd/*.service; do
        rm -f "$DESTDIR$UNITS/${unit#systemd/}"
    done
    rm -f "$DESTDIR$USERS" "$DESTDIR$PREFIX/bin/hostward"
    rm -rf "$DESTDIR$HOME_DIR"
    if by_systemd; then
        systemctl daemon-reload
    fi
    say "removed; $SETTINGS, /var/lib/hostward and the user hostward are left"
    ;;
*)
    fail 'usage: install.sh install|uninstall'
    ;;
esac
