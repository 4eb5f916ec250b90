# Parley: `make run` starts the system, `make test` runs every test. `make help` lists the rest.
# The Python environment is .venv, built from the lock files in requirements/; nothing else is installed for `run`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
BICEP ?= bicep
VENV := .venv
PY := $(VENV)/bin/python
RUNNER := local.runner
# Further arguments for pytest, for example: make test TESTS="tests/unit -k token"
TESTS ?= tests

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Seconds for each target of `make fuzz`.
FUZZ_SECONDS ?= 60

.PHONY: help run test check bench fuzz package format lock clean environment-run environment-azurite environment-dev node-modules emulators dataplane
.PHONY: test-web test-python test-rust test-fuzz
.PHONY: check-style check-types check-stubs check-imports check-locks check-web check-rust check-bicep

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  make run honours PORT (8080), HOST (127.0.0.1), TLS=1, DATA_DIR (.data), PUBLIC_IP and PROFILE (azurite, azure)."

# The emulators of PROFILE=azurite run on Node, which comes as a package of Python.
run: environment-$(if $(filter azurite,$(PROFILE)),azurite,run) ## Start the system and print the address to open
	@$(if $(filter azurite,$(PROFILE)),tools/emulators.sh,:)
	@tools/dataplane.sh
	@exec $(PY) -m $(RUNNER) --with-parent

test: test-web test-rust test-fuzz test-python ## Run every test (TESTS="tests/unit" runs some)

test-web: node-modules
	@tools/node.sh npm test --silent

test-python: dataplane emulators
	@tools/test_programs.sh
	@tools/rust.sh cargo build --quiet --locked --package parley-load --package parley-tun
	$(PY) -m pytest -m "not bench" --durations=30 --durations-min=5 $(TESTS)

test-rust: environment-dev
	@echo "Testing the data plane (its first build takes some minutes)"
	@tools/rust.sh cargo test --quiet --workspace --locked

test-fuzz: environment-dev
	@tools/rust.sh fuzz/run.sh 10

fuzz: environment-dev ## Fuzz the data plane, FUZZ_SECONDS (60) a target
	@tools/rust.sh fuzz/run.sh $(FUZZ_SECONDS)

check: check-style check-types check-stubs check-imports check-locks check-web check-rust check-bicep ## Run the static checks

check-style: environment-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

check-types: environment-dev
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy tools

check-stubs: dataplane
	@tools/check_stubs.sh

check-imports: environment-dev
	$(VENV)/bin/lint-imports --no-cache

check-locks: environment-dev
	$(PY) tools/check_locks.py

check-web: node-modules
	@tools/node.sh npm run --silent check

check-rust: environment-dev
	@tools/rust.sh ../tools/check_rust.sh

check-bicep:
	@BICEP="$(BICEP)" tools/check_bicep.sh

bench: dataplane ## Measure speed and memory into build/bench.json
	@tools/test_programs.sh bench
	PYTHONPATH=clients/python $(PY) -m tests.bench

package: environment-dev ## Build what is published as the Functions app, into build/functions
	@$(PY) tools/package.py

format: environment-dev ## Format Python and Rust, and mend what ruff can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	@tools/rust.sh cargo fmt --all
	@tools/rust.sh cargo fmt --manifest-path fuzz/Cargo.toml

lock: environment-dev ## Write the lock files from pyproject.toml
	@tools/lock.sh

clean: ## Remove caches and build results (not .venv, not .data)
	rm -rf build dist dataplane/target .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -not -path './node_modules/*' -prune -exec rm -rf {} +

environment-run environment-azurite environment-dev: environment-%:
	@PYTHON="$(PYTHON)" tools/environment.sh $*

dataplane: environment-dev
	@tools/dataplane.sh

node-modules: environment-dev
	@tools/node_modules.sh

emulators: environment-dev
	@tools/emulators.sh
