# Everything that a person runs from a checkout. Needs Python >= 3.11 with venv and pip; `make PYTHON=python3.12 demo` picks one.
PYTHON ?= python3
VENV := .venv
VENV_ALL := .venv-all
BIN := $(VENV)/bin
PIP := python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PINS := pyproject.toml constraints.txt
PYTEST_ARGS ?=

.PHONY: help demo test test-all lint docs clean

help:
	@echo "make demo      SEFT, its controls and baselines on the tinyworld, and the leaderboard: minutes on 2 cores, no GPU, key or network"
	@echo "make test      the default tests"
	@echo "make test-all  all tests, also the slow ones and those against alpaca-eval, FastChat, TRL and Ray (installs them into $(VENV_ALL))"
	@echo "make lint      ruff and mypy"
	@echo "make docs      docs/cli.md and the README's leaderboard, from the code and the results"
	@echo "make clean     deletes $(VENV), $(VENV_ALL) and caches; runs/ and results/ stay"

demo: $(VENV)/.installed
	$(BIN)/seft-bench demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# -o addopts= takes back the default's choice of markers.
test-all: $(VENV_ALL)/.installed
	$(VENV_ALL)/bin/python -m pytest -o addopts= -q -ra --strict-markers $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/make_cli.py
	$(BIN)/python docs/make_readme.py

clean:
	rm -rf $(VENV) $(VENV_ALL) dist build .pytest_cache .mypy_cache .ruff_cache
	find seft_bench training tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make set-up run once, and again when a pin changes.
$(VENV)/.installed: $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(VENV)/bin/$(PIP) -e '.[dev]'
	@touch $@

$(VENV_ALL)/.installed: $(PINS)
	$(PYTHON) -m venv $(VENV_ALL)
	$(VENV_ALL)/bin/$(PIP) -e '.[dev,official,trl,ray]'
	@touch $@
