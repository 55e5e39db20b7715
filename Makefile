# Everything a developer does, from a fresh Debian machine on: each target sets up what it needs
# (Debian packages through sudo where you are not root, a venv in .venv, images in the cache) and
# says nothing about what is already there.

PYTHON ?= python3
PYTEST_ARGS ?=
SECONDS_PER_TARGET ?= 60
SOAK_ARGS ?=

VENV := .venv/bin
PIP = $(VENV)/python -m pip install -qq --disable-pip-version-check
STAMPS := .cache/make
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

PACKAGES_PYTHON := python3-venv
PACKAGES_LINT := gcc libc6-dev linux-libc-dev
PACKAGES_IMAGE := erofs-utils gcc libc6-dev musl-tools
PACKAGES_TEST := acpica-tools cpio $(PACKAGES_IMAGE)
PACKAGES_BENCH := $(PACKAGES_IMAGE) wrk crun runc bubblewrap
PACKAGES_LAB := qemu-system-x86 e2fsprogs busybox-static util-linux socat iperf3 curl iproute2

.DEFAULT_GOAL := help
.PHONY: help run run-linux test test-unit test-kvm test-lab lint format bench conformance fuzz soak clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(STAMPS)/packages-image $(STAMPS)/venv ## programs in VMs of their own: C, CPython, a web server
	@$(VENV)/python -m pyrovm.cli.main demo programs

run-linux: $(STAMPS)/lab ## a Debian guest with its devices, in the lab where this machine's KVM is none for Linux
	@$(VENV)/python -m pyrovm.cli.main demo linux

test: $(STAMPS)/packages-test $(STAMPS)/lab ## all tests that this machine can run
	@$(VENV)/pytest -n auto --dist worksteal $(PYTEST_ARGS)

test-unit: $(STAMPS)/packages-test $(STAMPS)/venv ## tests that need nothing but Python
	@$(VENV)/pytest -n auto $(PYTEST_ARGS) tests/unit

test-kvm: $(STAMPS)/packages-test $(STAMPS)/venv ## tests that need a /dev/kvm of any kind
	@$(VENV)/pytest $(PYTEST_ARGS) tests/kvm

test-lab: $(STAMPS)/lab ## Linux guests on the software-emulated KVM host
	@$(VENV)/pytest -n auto --dist worksteal $(PYTEST_ARGS) tests/lab

lint: $(STAMPS)/venv $(STAMPS)/packages-lint ## format, linters, types, layers, freshness of ABI and docs
	@$(VENV)/ruff format --check --quiet .
	@$(VENV)/ruff check --quiet .
	@$(VENV)/mypy --no-error-summary
	@$(VENV)/lint-imports --no-logo
	@$(VENV)/python tools/genabi.py --check
	@$(VENV)/python tools/gendocs.py --check

format: $(STAMPS)/venv ## put the code into its form, and the code's tables into the docs
	@$(VENV)/ruff format --quiet .
	@$(VENV)/ruff check --quiet --fix .
	@$(VENV)/python tools/gendocs.py

bench: $(STAMPS)/lab $(STAMPS)/packages-lint $(STAMPS)/packages-bench ## figures, beside those of every peer that is installed
	@$(VENV)/python -m pyrovm.cli.main bench --json docs/assets/benchmarks.json --plots docs/assets
	@$(VENV)/python tools/gendocs.py

conformance: $(STAMPS)/packages-image $(STAMPS)/venv ## suites of others, natively and in VMs; half an hour
	@$(VENV)/python tools/conformance.py
	@$(VENV)/python tools/gendocs.py

fuzz: $(STAMPS)/venv ## every fuzz target for SECONDS_PER_TARGET
	@$(VENV)/python fuzz/run.py all --seconds $(SECONDS_PER_TARGET)

# A shell's own SECONDS, which counts, is not in the environment: this is only who gives it to make.
soak: SECONDS ?= 600
soak: $(STAMPS)/packages-image $(STAMPS)/venv ## clones come and go, processes are killed, for SECONDS (600); nothing may grow or be left
	@$(VENV)/python -m tests.soak --seconds $(SECONDS) $(SOAK_ARGS)

clean: ## remove what was made here; images and kernels stay (pyrovm lab clean, pyrovm kernel remove)
	@rm -rf .venv .cache build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------- set-up, remembered by stamps

# $(call install,PACKAGES): those that are not installed; nothing where there is no apt-get.
define install
	@command -v apt-get >/dev/null || { echo "no apt-get: please provide $(1)"; exit 0; }; \
	missing=$$(for package in $(1); do \
	    dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed \
	        || echo $$package; \
	done); \
	[ -z "$$missing" ] && exit 0; \
	echo "installing $$(echo $$missing)"; \
	$(SUDO) apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -qq --no-install-recommends $$missing \
	    >$(STAMPS)/apt.log 2>&1 || { cat $(STAMPS)/apt.log; exit 1; }
endef

$(STAMPS):
	@mkdir -p $@

$(STAMPS)/packages-python: Makefile | $(STAMPS)
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || $(MAKE) -s install-python
	@touch $@

.PHONY: install-python
install-python:
	$(call install,$(PACKAGES_PYTHON))

$(STAMPS)/packages-lint: Makefile | $(STAMPS)
	$(call install,$(PACKAGES_LINT))
	@touch $@

$(STAMPS)/packages-image: Makefile | $(STAMPS)
	$(call install,$(PACKAGES_IMAGE))
	@touch $@

$(STAMPS)/packages-test: Makefile | $(STAMPS)
	$(call install,$(PACKAGES_TEST))
	@touch $@

$(STAMPS)/packages-bench: Makefile | $(STAMPS)
	$(call install,$(PACKAGES_BENCH))
	@touch $@

.PHONY: install-lab
install-lab: | $(STAMPS)
	$(call install,$(PACKAGES_LAB))

$(STAMPS)/venv: pyproject.toml $(STAMPS)/packages-python
	@[ -x $(VENV)/python ] || $(PYTHON) -m venv .venv
	@$(PIP) --editable '.[dev]'
	@$(PIP) --no-deps --ignore-requires-python 'pyrecracker>=0.6.4' # see pyproject.toml
	@touch $@

# Every use of the lab looks at its images again: this only makes the first one quiet.  A machine
# that cannot run it still runs all other tests; those of the lab say why they were skipped.
$(STAMPS)/lab: $(STAMPS)/venv
	@if $(MAKE) -s install-lab && $(VENV)/python -m pyrovm.cli.main lab build; then \
	    touch $@; \
	else \
	    echo "the lab cannot run here"; \
	fi
