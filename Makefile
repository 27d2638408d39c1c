# Every target does its own set-up, from a fresh clone on: a virtual environment in .venv, the package built in place
# and installed editable, the tools or test servers that the target needs. Stamp files make the second run quick.
#
#   make test PYTHON=python3.13      another interpreter (run `make clean` first when changing)
#   make test ARGS="-k multipart"    options for pytest; JOBS=0 runs them one after the other
#   OBSTORE_DEBUG=1 make build       see setup.py for the switches

PYTHON ?= python3
PYTHONS ?= $(PYTHON)
ARGS ?=
# Tests at a time: they wait for servers more than they compute, so more than the usual two cores.
JOBS ?= 3
VENV := .venv
CACHE := .cache
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
PIP := $(BIN)/python -m pip --quiet

# What the compiled modules are made of; plain Python is picked up by the editable install as it changes.
NATIVE := setup.py $(wildcard csrc/*.[ch] csrc/*.def obstore/*.pyx obstore/*.pxd obstore/*/*.pyx obstore/*/*.pxd obstore/*/*.pxi)
PY_PATHS := obstore tests benchmarks docs setup.py .ci/wheels.py
# Modules that have a stub: it is compared with what was compiled.
STUBS := $(subst /,.,$(basename $(wildcard obstore/*/*.pyi)))
# Switches of setup.py: another setting means another build.
SWITCHES := debug=$(OBSTORE_DEBUG) sanitize=$(OBSTORE_SANITIZE)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build test ecosystem demo check docs fmt endurance bench wheels sanitize tsan clean distclean FORCE

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(STAMPS)/build ## build the extension modules and install the package into .venv, editable

test: $(STAMPS)/build $(STAMPS)/test $(STAMPS)/servers ## run the test suite (ARGS="..." goes to pytest)
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

ecosystem: $(STAMPS)/build $(STAMPS)/test $(STAMPS)/ecosystem $(STAMPS)/servers ## test with fsspec, zarr, pandas, dask ... and fsspec's own suites
	$(BIN)/python -m pytest -n $(JOBS) -m ecosystem tests/ecosystem $(ARGS)

demo: $(STAMPS)/build $(STAMPS)/demo ## upload and download thousands of objects, checking every byte
	$(BIN)/python -m docs.examples.demo $(ARGS)

check: $(STAMPS)/build $(STAMPS)/test $(STAMPS)/lint ## lint, formatting and types: what CI runs before the tests
	$(BIN)/ruff check $(PY_PATHS)
	$(BIN)/ruff format --check $(PY_PATHS)
	PATH="$(abspath $(BIN)):$$PATH" cython-lint obstore  # it calls pycodestyle by name
	$(BIN)/clang-format --dry-run --Werror $(wildcard csrc/*.[ch] tests/csrc/*.[ch] benchmarks/c/*.c)
	$(BIN)/codespell
	$(BIN)/zizmor --quiet --offline .github/workflows
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml --concise --ignore-unused-allowlist \
	  --allowlist tests/typing/stubtest.txt $(STUBS)
	$(BIN)/basedpyright --warnings tests/typing

docs: $(STAMPS)/build $(STAMPS)/docs ## build the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

fmt: $(STAMPS)/lint ## format all sources in place
	$(BIN)/ruff check --fix-only $(PY_PATHS)
	$(BIN)/ruff format $(PY_PATHS)
	$(BIN)/clang-format -i $(wildcard csrc/*.[ch] tests/csrc/*.[ch] benchmarks/c/*.c)

# Its servers come from the distribution: apt-get install haproxy nginx libnginx-mod-http-lua vde2 iproute2, and Ceph as in
# tests/servers/ceph.py.
endurance: $(STAMPS)/build $(STAMPS)/test $(STAMPS)/servers ## the tests of endurance at their full length: hours
	OBSTORE_ENDURANCE=full OBSTORE_EXIT_RUNS=100 OBSTORE_ENDURANCE_REPORT=$(CACHE)/endurance.jsonl \
	  $(BIN)/python -m pytest -m "endurance or not endurance" tests/endurance tests/lifecycle/test_exit.py tests/lifecycle/test_bulk.py $(ARGS)
	$(BIN)/python -m tests.endurance.report $(CACHE)/endurance.jsonl

bench: $(STAMPS)/build $(STAMPS)/test ## run the benchmarks (see benchmarks/README.md; ARGS=--publish keeps what they show)
	$(BIN)/python -m benchmarks.scorecard $(ARGS)

# PYTHONS="python3.11 python3.14t" makes one for each; ARGS=--suite runs the library's tests on them, too.
wheels: $(STAMPS)/build-tools $(STAMPS)/dist ## build sdist and wheels into dist/, audit them, test them in fresh environments
	$(BIN)/python .ci/wheels.py $(ARGS) $(PYTHONS)

# A copy of the tree, so that the instrumented modules do not take the place of the ordinary ones.
sanitize: $(STAMPS)/build $(STAMPS)/test $(STAMPS)/servers ## run the suite under AddressSanitizer and UBSan
	.ci/sanitize address,undefined $(abspath $(VENV)) $(ARGS)

tsan: $(STAMPS)/build $(STAMPS)/test $(STAMPS)/servers ## run the tests in which threads meet under ThreadSanitizer
	.ci/sanitize thread $(abspath $(VENV)) $(ARGS)

clean: ## remove the environment and everything built; keep the test servers
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis $(CACHE)/wheels $(CACHE)/sanitize
	find obstore tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +
	find obstore -name '*.so' -delete -o -name '*.html' -delete
	for pyx in $(wildcard obstore/*.pyx obstore/*/*.pyx); do rm -f "$${pyx%.pyx}.c"; done

distclean: clean ## also remove the installed test servers
	rm -rf $(CACHE)

# ---- set-up ---------------------------------------------------------------------------------------------------------

# The version that pyproject.toml pins for a tool.
pinned = $(shell sed -n 's/^ *"$(1)==\([^"]*\)",*/\1/p' pyproject.toml | head -n 1)

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "obstore needs CPython 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@printf '#include <Python.h>\n' | $${CC:-cc} -fsyntax-only -xc - \
	  -I"$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')" 2>/dev/null || \
	  { echo "a C compiler and Python's headers are needed; on Debian and Ubuntu: apt-get install gcc libc6-dev python3-dev" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install "pip==$(call pinned,pip)"
	@mkdir -p $(STAMPS)
	@touch $@

# Written only when it changes, so that `OBSTORE_DEBUG=1 make build` rebuilds and a second one does not.
$(STAMPS)/switches: FORCE $(STAMPS)/venv
	@echo '$(SWITCHES)' | cmp -s - $@ || echo '$(SWITCHES)' > $@

$(STAMPS)/build: $(NATIVE) pyproject.toml $(STAMPS)/build-tools $(STAMPS)/switches
	@cmp -s $(STAMPS)/switches $(STAMPS)/built || rm -rf build
	PYTHONWARNINGS=ignore $(PIP) install --no-build-isolation --editable .
	@cp $(STAMPS)/switches $(STAMPS)/built
	@touch $@

$(STAMPS)/build-tools: pyproject.toml $(STAMPS)/venv
	$(PIP) install --group build
	@touch $@

$(STAMPS)/test $(STAMPS)/lint $(STAMPS)/dist $(STAMPS)/demo $(STAMPS)/docs $(STAMPS)/ecosystem: $(STAMPS)/%: pyproject.toml $(STAMPS)/venv
	$(PIP) install --group $*
	@touch $@

# Each server has an environment of its own under .cache/servers: what it needs never mixes with what we need.
$(STAMPS)/servers: tests/servers/install.py $(wildcard tests/servers/*.txt tests/servers/*/package-lock.json) $(STAMPS)/venv
	$(BIN)/python -m tests.servers.install
	@touch $@
