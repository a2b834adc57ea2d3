# `make demo` and `make test` need Python 3.10 or newer with venv, and make; they fetch the rest into .venv.

VENV ?= .venv
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do \
	command -v $$python >/dev/null && $$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' \
	2>/dev/null && echo $$python && break; done)
BIN := $(VENV)/bin
DEMO ?=
TRIAL ?= -j2
WARNINGS ?=
WITH ?=
# The oldest Twisted and pyOpenSSL that are supported. They go together: Twisted 24.7 changes the context
# of a twisted.web site's TLS connections, which pyOpenSSL 26 refuses.
OLDEST := $(shell sed -nE 's/^ *(twisted\[tls\]|pyOpenSSL)>=/\1==/p' setup.cfg)
# All but what takes minutes.
QUICK := $(filter-out tests.slow tests.growth,\
	$(patsubst tests/%/__init__.py,tests.%,$(wildcard tests/*/__init__.py))) \
	$(patsubst tests/%.py,tests.%,$(wildcard tests/test_*.py))
# What is said about Twisted and Python: no foreign peers, and nothing about time.
ALONE := $(filter-out tests.interop,$(QUICK))
TESTS ?= $(QUICK)

.PHONY: help demo test test-slow test-warnings test-oldest lint types pyright docs wheel ci clean

help:
	@echo 'make demo    install, start a server and an application, and call it'
	@echo 'make test    install, and run the tests (TESTS=tests.sip for some of them)'
	@echo 'make test-slow    the tests that take minutes'
	@echo 'make test-warnings    the tests with warnings as errors'
	@echo 'make test-oldest      those without foreign peers on the oldest Twisted that is supported'
	@echo 'make lint    check format and style      make types   check the types'
	@echo 'make pyright    a second opinion on the types'
	@echo 'make docs    build the documentation     make wheel   build and try the distributions'
	@echo 'make ci      everything, as CI does it   make clean   remove what these made'

demo: $(VENV)/installed
	@$(BIN)/drachtwist demo $(DEMO)

# What the tests write goes to a directory that is removed, whatever happens.
test: $(VENV)/installed-test
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && trap 'exit 130' INT TERM && \
	PYTHONWARNINGS='$(WARNINGS)' HYPOTHESIS_STORAGE_DIRECTORY="$$scratch/hypothesis" PATH="$(abspath $(BIN)):$$PATH" \
	$(BIN)/trial --temp-directory="$$scratch/trial" $(TRIAL) $(TESTS)

# Thousands of calls, for memory and for networks that lose; whether time grows with length.
test-slow:
	$(MAKE) test TESTS='tests.slow tests.growth'

# Whatever is deprecated, in Python or in Twisted, is an error.
test-warnings:
	$(MAKE) test WARNINGS=error

test-oldest:
	$(MAKE) test VENV=.venv-oldest WITH='$(OLDEST)' TESTS='$(ALONE)'

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/installed-dev
	$(BIN)/mypy
	$(BIN)/pyright -p tests/typing --pythonpath $(BIN)/python

# A minute, and it fetches Node.js unless that is there: no part of CI.
pyright: $(VENV)/installed-dev
	$(BIN)/python .ci/pyright $(BIN)/pyright

docs: $(VENV)/installed-dev
	$(BIN)/sphinx-build --fail-on-warning --keep-going -q -b html docs docs/_build/html
	@echo 'open docs/_build/html/index.html'

wheel: $(VENV)/installed-dev
	.ci/wheel $(BIN)/python

ci:
	.ci/run

clean:
	rm -rf $(VENV) .venv-oldest build dist drachtwist.egg-info docs/_build .mypy_cache .ruff_cache .hypothesis
	rm -rf _trial_temp* twisted/plugins/dropin.cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Asking for --help once writes the cache of plugins, which makes every later start faster.
$(VENV)/installed: setup.cfg pyproject.toml | $(BIN)/python
	@echo 'Installing drachtwist into $(VENV) ...'
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q -e . && \
	$(BIN)/twistd --help >/dev/null && touch $@

$(VENV)/installed-test: $(VENV)/installed
	@echo 'Installing what the tests need into $(VENV) ...'
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q -e '.[test]' $(foreach one,$(WITH),'$(one)') && touch $@

$(VENV)/installed-dev: $(VENV)/installed-test
	@echo 'Installing the tools into $(VENV) ...'
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q -e '.[dev]' && touch $@

$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'This needs Python 3.10 or newer with the venv module' \
	'(or say which: make PYTHON=/path/to/python3).' >&2; exit 1; }
	@echo 'Making $(VENV) with '$$($(PYTHON) --version)' ...'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo 'Python could not make a virtual environment;' \
	'on Debian: apt-get install python3-venv' >&2; exit 1; }
