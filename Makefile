# lth-runner: `make run` and `make test` need only Python 3.10-3.14, a C compiler and a package index.
PYTHON ?= python3
VENV ?= .venv
# torch and torchvision must come from one index: for another one (CPU builds, say) set TORCH_INDEX=<url>
TORCH_INDEX ?=
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run test test-slow test-slurm bench check lint types report results anew options docs wheel release clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 12

install: $(VENV)/.installed ## the virtual environment in .venv, with the project and its tools

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v < (3, 15) else "Python 3.10 to 3.14 is needed, this is %d.%d: make PYTHON=python3.12 ..." % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --index-url $(TORCH_INDEX) torch torchvision)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

run: install ## the main job: digits, an MLP, iterative magnitude pruning beside its controls
	$(BIN)/lth-run $(ARGS)

test: install ## the tests, three to seven minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: install ## the tests that take longer
	$(BIN)/python -m pytest -m slow $(ARGS)

test-slurm: install ## a real array on a real Slurm, started here where it can be
	-scripts/local_slurm.sh start
	$(BIN)/python -m pip install --quiet --editable '.[dev,cluster]'
	$(BIN)/python -m pytest -m slurm -rs tests/slurm $(ARGS)

lint: install ## format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install ## the type checker
	$(BIN)/mypy

bench: install ## ratios of speed, measured side by side
	$(BIN)/python scripts/bench.py $(ARGS)

check: lint types test ## lint, types and tests

report: install ## redraw and compare all finished runs
	$(BIN)/lth-report outputs

anew: install ## what trains everything behind docs/results.md anew and its hours; ARGS=--train: trains it
	$(BIN)/python scripts/anew.py $(ARGS)

results: install ## rewrite docs/results.md from outputs/ and docs/runs/; ARGS=--keep: keep finished runs there
	$(BIN)/python scripts/results.py $(ARGS)

options: install ## rewrite what pages have of conf/ and docstrings: options, keys, pruners, layers
	$(BIN)/python scripts/options.py

docs: install ## the documentation as a site, in site/: open site/index.html
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/mkdocs build $(ARGS)

wheel: install ## a wheel in dist/
	$(BIN)/python -m build --wheel

release: install ## what is released, in dist/: source and wheel, made from that source
	rm -rf dist
	$(BIN)/python -m build

clean: ## remove what builds and caches left; never outputs/ or data/
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
