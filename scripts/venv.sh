#!/bin/sh
# Makes the environment that the agent runs in, the same for a host (scripts/install.sh) and for an image (Dockerfile):
#
#   scripts/venv.sh wheels WORK        builds the dependencies that requirements-agent.lock names into WORK
#   scripts/venv.sh hostward WORK      builds this checkout into WORK
#   scripts/venv.sh install WORK DIR [AT]   puts all of it into a new environment at DIR, which will stand at AT (default: DIR)
#
# Everything that is downloaded is checked against the locks' hashes. The environment holds no pip and no compiler's output but
# the dependencies' own. Needs Python 3.11 with venv and headers, and a C compiler.
set -eu
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-/usr/bin/python3}

fail() {
    echo "venv: $*" >&2
    exit 1
}

pip() {
    "$work/tools/bin/python" -m pip --quiet --disable-pip-version-check --no-input "$@"
}

wheels() {
    rm -rf "$work/tools" "$work/wheels"
    mkdir -p "$work/wheels"
    "$PYTHON" -m venv "$work/tools" || fail "$PYTHON -m venv failed; on Debian the package python3-venv belongs to it"
    # Tools that build the rest (wheel needs packaging) come first and from the lock too: with build isolation pip would fetch others, without hashes.
    awk '/^[a-z]/ { wanted = /^(packaging|pip|setuptools|wheel)==/ } wanted' requirements.lock >"$work/tools.lock"
    pip install --require-hashes -r "$work/tools.lock" || fail 'pip could not install its own tools; is the package index reachable?'
    pip wheel --require-hashes --no-deps --no-build-isolation -r requirements-agent.lock -w "$work/wheels" 2>"$work/log" || {
        cat "$work/log" >&2
        fail 'pip could not build requirements-agent.lock; its message is above'
    }
}

hostward() {
    rm -f "$work"/wheels/hostward-*
    # From a copy: setuptools leaves files beside what it builds.
    rm -rf "$work/source"
    mkdir "$work/source"
    cp -R agent pyproject.toml README.md "$work/source/"
    pip wheel --no-deps --no-build-isolation "$work/source" -w "$work/wheels" || fail 'pip could not build the checkout; its message is above'
    rm -rf "$work/source"
}

install() {
    directory=$1 at=$2
    rm -rf "$directory"
    "$PYTHON" -m venv --without-pip "$directory"
    pip --python "$directory/bin/python3" install --no-index --no-deps "$work"/wheels/*.whl || fail "pip could not fill $directory; its message is above"
    # One command is ours; those that came with dependencies aren't for anybody here.
    find "$directory/bin" ! -name 'python*' ! -name hostward -type f -exec rm {} +
    sed -i "1s,^#!.*,#!$at/bin/python3," "$directory/bin/hostward"
}

[ $# -ge 2 ] || fail 'usage: venv.sh wheels|hostward|install WORK [DIR [AT]]'
mkdir -p "$2"
work=$(cd "$2" && pwd)
case $1 in
wheels) wheels ;;
hostward) hostward ;;
install) install "$3" "${4:-$3}" ;;
*) fail "unknown step $1" ;;
esac
