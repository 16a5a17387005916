# Every target sets the machine up first (scripts/bootstrap.sh; quick when nothing is missing).
# Tests and the demo use network namespaces and the packet filter in them, so they need root: sudo is asked where it isn't us.

SHELL := /bin/sh
export PATH := $(PATH):/usr/sbin:/sbin
BIN := .venv/bin
PREFIX := /usr/local
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E env PATH="$(PATH)")
TYPED := demo tests/lab
FIGURES := HOSTWARD_FIGURES=build/figures.jsonl
CATALOGUE := tests/reliability tests/unit/test_units.py
SCRIPTS := $(wildcard scripts/*.sh vagrant/*.sh tests/lab/*.sh) .ci/run

.PHONY: help setup demo test conformance test-confined kube test-kube soak lint bench install uninstall lock clean

help:
	@echo 'make demo    the main job with real packets, in network namespaces; half a minute'
	@echo 'make test    all tests but those that take minutes each'
	@echo 'make conformance  all public verdicts on Kubernetes NetworkPolicies by real packets; two to three minutes'
	@echo 'make test-confined  the end-to-end tests with every agent in the image, without root; ten minutes'
	@echo 'make test-kube  tests against a real API server and kube-proxy, which `make kube` builds first (four minutes, once)'
	@echo 'make soak    the long forms of tests, to their gates, and their figures into docs/reliability.md; an hour or two'
	@echo 'make lint    style, types and layers'
	@echo 'make bench   the benchmarks'
	@echo 'make setup   only what the others need: Debian packages, .venv'
	@echo 'make install  the agent and the command line on this machine (DESTDIR, PREFIX); make uninstall removes them'
	@echo 'make lock    write requirements.lock anew from pyproject.toml'
	@echo 'make clean   remove what make has made, but .cache'

setup:
	@scripts/bootstrap.sh

demo: setup
	@$(AS_ROOT) $(BIN)/python -B -m demo

test: setup
	$(AS_ROOT) $(BIN)/python -B -m pytest -n auto --maxprocesses 4 --dist loadfile --hypothesis-profile=same -m 'not (soak or kube or conformance)'

conformance: setup
	$(AS_ROOT) $(BIN)/python -B -m pytest -m conformance tests/conformance

test-confined: setup
	$(AS_ROOT) env HOSTWARD_TEST_CONFINED=1 $(BIN)/python -B -m pytest -m 'not soak' tests/e2e

kube: setup
	@scripts/kube.sh

test-kube: kube
	$(AS_ROOT) $(BIN)/python -B -m pytest -m kube tests/kube

# A gate that is missed fails in the end; the figures that were reached are kept all the same. The second run is of what has no
# long form.
soak: setup
	@rm -rf build/figures.jsonl
	@status=0; \
	$(AS_ROOT) env $(FIGURES) $(BIN)/python -B -m pytest -m soak || status=$$?; \
	$(AS_ROOT) env $(FIGURES) $(BIN)/python -B -m pytest -m 'not soak' $(CATALOGUE) || status=$$?; \
	env $(FIGURES) $(BIN)/python -B -m tests.reliability.report; exit $$status

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=.:agent:stubs $(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports
	shellcheck $(SCRIPTS)

bench: setup
	$(AS_ROOT) $(BIN)/python -B -m benchmarks
	$(BIN)/python -B -m benchmarks.command_line

install uninstall:
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" KEEP_RULES="$(KEEP_RULES)" scripts/install.sh $@

lock: setup
	scripts/lock.sh

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache agent/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
