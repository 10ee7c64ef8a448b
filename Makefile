# `make help` lists what there is. Everything happens inside .venv; nothing else is touched.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: help run test test-slow test-versions smoke check format docs docs-serve wheel clean

help:
	@echo "make run        create the environment, install, and run the main job on embedded data"
	@echo "make test       install the test extras and run the tests (slow and GPU ones excepted)"
	@echo "make test-slow  run the slow tests: ten-seed figures, kills, documentation"
	@echo "make test-versions  run the quick tests on every Python installed, and with the lowest versions"
	@echo "make smoke      run the matrix behind every table and figure of the paper on made-up media"
	@echo "make check      lint, format and type checks"
	@echo "make format     reformat"
	@echo "make docs       build the documentation site into build/site; make docs-serve shows it while you write"
	@echo "make wheel      build the wheel and the source archive into dist/"
	@echo "make clean      remove the environment and everything built"

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing (PyTorch is large: about two minutes)"
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable ".[dev]"
	@touch $@

run: $(VENV)/installed
	$(BIN)/dus train DUS-Digits-v0 --out runs/quickstart/train --force
	$(BIN)/dus compare DUS-Digits-v0 --epochs 40 --seeds 3 --out runs/quickstart/compare --force
	@echo; echo "files of the run:"; ls runs/quickstart/train/* | sed 's/^/  /'
	@echo "files of the comparison:"; ls runs/quickstart/compare/*.json | sed 's/^/  /'
	@echo "  and one folder a run under runs/quickstart/compare/"

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest --quiet --numprocesses 2 -m "not slow and not gpu"

test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest --quiet --numprocesses 2 -m "slow and not gpu"

# VERSIONS="3.12 lowest" chooses among them, TESTS=tests/core among the tests.
test-versions:
	.ci/test-versions $(TESTS)

smoke: $(VENV)/installed-dev
	$(BIN)/dus reproduce all --smoke --seeds 1 --workers 2 --out runs/smoke --quiet
	@ls runs/smoke/*.md

# The sub-packages agents, envs and benchmarks lie beside dus_gym/; a type checker and the API pages need them in one tree.
check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf build/typecheck && mkdir -p build/typecheck/dus_gym
	@ln -s $(CURDIR)/dus_gym/* build/typecheck/dus_gym/
	@ln -s $(CURDIR)/agents $(CURDIR)/envs $(CURDIR)/benchmarks build/typecheck/dus_gym/
	cd build/typecheck && $(abspath $(BIN))/python -m mypy --config-file $(CURDIR)/pyproject.toml -p dus_gym

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed-docs: $(VENV)/installed
	$(PIP) --editable ".[docs]"
	@touch $@

.PHONY: build/api
build/api: $(VENV)/installed-docs
	@rm -rf $@ && mkdir -p $@ && cp -R dus_gym $@/ && cp -R agents envs benchmarks $@/dus_gym/

docs: build/api
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "the site lies in build/site; make docs-serve shows it, search included"

docs-serve: build/api
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

wheel: $(VENV)/installed-dev
	rm -rf build dist
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
