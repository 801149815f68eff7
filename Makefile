# make help lists the targets. Every target that needs the virtual environment sets it up first.
PYTHON ?= python3
PY := .venv/bin/python
TORCH_VERSION := 2.13.0

SCALE ?= toy
EXPERIMENT ?= core
SEEDS ?=
JOBS ?=
PYTEST_ARGS ?=
FORM ?= full

CHECKED := $(wildcard cwpo scripts tests .ci/lock.py)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup reproduce plan preflight report test test-soak test-slow test-gpu faults properties bad-input lint format lock clean clean-runs

help: ## show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  variables: SCALE=$(SCALE) EXPERIMENT=$(EXPERIMENT) SEEDS=$(SEEDS) JOBS=$(JOBS) PYTEST_ARGS=$(PYTEST_ARGS) PYTHON=$(PYTHON)"

setup: ## create .venv with the locked packages (about 2 minutes once, at once when nothing changed)
	@bash scripts/setup.sh "$(PYTHON)" "$(TORCH_VERSION)"

reproduce: setup ## run EXPERIMENT at SCALE for SEEDS (e.g. SEEDS=0,1,2) with JOBS processes (one a GPU), then report
	$(PY) scripts/reproduce.py scale=$(SCALE) "experiment='$(EXPERIMENT)'" $(if $(SEEDS),'seeds=[$(SEEDS)]') $(if $(JOBS),jobs=$(JOBS))

plan: setup ## show what EXPERIMENT at SCALE would run, what is cached and what it costs
	$(PY) scripts/plan.py "experiment='$(EXPERIMENT)'" scale=$(SCALE) $(if $(SEEDS),'seeds=[$(SEEDS)]') $(if $(JOBS),jobs=$(JOBS))

preflight: setup ## check assets, disk, GPU memory, credentials, tokenizers for EXPERIMENT at SCALE (CALIBRATE=1: and speed)
	$(PY) scripts/preflight.py "experiment='$(EXPERIMENT)'" scale=$(SCALE) $(if $(SEEDS),'seeds=[$(SEEDS)]') $(if $(CALIBRATE),calibrate=true)

report: setup ## make tables, figures and the page of SCALE from results/
	$(PY) scripts/report.py scale=$(SCALE)

test: setup ## run the tests (PYTEST_ARGS="-k store -x" to choose)
	@$(PY) -m pytest -q -n $(or $(JOBS),2) --dist loadfile $(PYTEST_ARGS)

test-soak: setup ## run the longer tests that CI runs after these (5 minutes)
	@$(PY) -m pytest -q -m "soak and not slow" -n $(or $(JOBS),2) --dist loadfile $(PYTEST_ARGS)

test-slow: setup ## run all tests but those that need a GPU or Slurm
	@$(PY) -m pytest -q -m "not gpu and not slurm" -n $(or $(JOBS),2) --dist loadfile $(PYTEST_ARGS)

test-gpu: setup ## run the tests that need a GPU, then measure its speed beside TRL (6 minutes; numbers in OUT=out)
	@PY=$(PY) bash scripts/gpu_check.sh

faults: setup ## kill, share, damage and fill up the store; several minutes (FORM=bounded: one)
	@CWPO_FAULTS=$(FORM) $(PY) -m pytest -q -m faults $(PYTEST_ARGS)

properties: setup ## try more than 10,000 generated inputs on loaders, splits, weights, batches, statistics, results
	@CWPO_PROPERTIES=full $(PY) -m pytest -q tests/data/test_properties_*.py tests/test_properties_numbers.py $(PYTEST_ARGS)

bad-input: setup ## write results/bad_input.md: an example of each kind of message about bad values
	@PYTHONPATH=. $(PY) tests/config_fuzz.py

lint: setup ## check style (ruff) and types (mypy)
	$(PY) -m ruff check $(CHECKED)
	$(PY) -m ruff format --check $(CHECKED)
	$(PY) -m mypy

format: setup ## fix style where ruff can
	$(PY) -m ruff check --fix $(CHECKED)
	$(PY) -m ruff format $(CHECKED)

lock: ## rewrite requirements.lock and environment.yml from pyproject.toml (UPGRADE=1: newest versions)
	@test -x .venv-lock/bin/pip-compile || { "$(PYTHON)" -m venv --clear .venv-lock && \
	  .venv-lock/bin/python -m pip install -qq pip-tools==7.6.2; }
	@.venv-lock/bin/python .ci/lock.py $(TORCH_VERSION) $(if $(UPGRADE),--upgrade)

clean: ## delete caches and build leftovers; keeps .venv, runs/ and results/
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .venv-lock build dist *.egg-info outputs multirun
	find cwpo scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

clean-runs: ## delete runs/: every finished stage has to be computed again
	rm -rf runs
