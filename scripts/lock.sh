#!/bin/sh
# Writes requirements.lock: the newest versions that pyproject.toml allows, with the hashes of all their files, so that one
# lock serves every supported Python. Run it on the oldest one (3.11), whose dependencies include those of later ones.
# Then requirements-agent.lock, the part of it that the agent needs to run. With --agent: only that.
set -eu
cd "$(dirname "$0")/.."

new=$(mktemp)
trap 'rm -f "$new"' EXIT

# $1: what the lock holds; $2: the lock; the rest are pip-compile's own options.
lock() {
    told=$1 lock=$2
    shift 2
    .venv/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
        --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file "$new" "$@" pyproject.toml
    {
        echo "# $told, with hashes. \`make lock\` writes this file; nobody edits it."
        cat "$new"
    } >"$lock"
    : >"$new"
}

[ "${1:-}" = --agent ] || lock 'Every dependency of Hostward and of its development' requirements.lock --upgrade --extra dev
lock 'What the agent needs to run, in the versions of requirements.lock' requirements-agent.lock --constraint requirements.lock --no-annotate
