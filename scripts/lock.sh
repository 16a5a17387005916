#!/bin/sh
# Writes requirements.lock: the newest versions that pyproject.toml allows, with the hashes of all their files, so that one
# lock serves every supported Python. Run it on the oldest one (3.11), whose dependencies include those of later ones.
set -eu
cd "$(dirname "$0")/.."

new=$(mktemp)
trap 'rm -f "$new"' EXIT
.venv/bin/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --extra dev --strip-extras --no-header \
    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file "$new" pyproject.toml
{
    echo '# Every dependency of Hostward and of its development, with hashes. `make lock` writes this file; nobody edits it.'
    cat "$new"
} > requirements.lock
