# One command per wish. `make demo` needs only Python 3.11 or newer, make, pip and a C compiler; it makes its own environment in .venv.

VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# 3.11 first: it is what CI tests.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: demo setup lint test test-slow test-all docs clean help

help:
	@echo "make demo      from text to a model that answers: environment, recipes/demo.yaml, one question per language"
	@echo "make setup     the environment for development ($(VENV))"
	@echo "make test      lint, types, import contracts, tests that are fast and need no GPU"
	@echo "make test-all  the same with every test"
	@echo "make docs      the documentation, into site/"
	@echo "make clean     removes the environment, caches and built files; runs/ stays"

demo: $(VENV)/ready
	@$(BIN)/vernacular run recipes/demo.yaml
	@$(BIN)/vernacular chat runs/demo/instruct --questions runs/demo/corpus/tasks/questions.jsonl
	@echo "The model card: runs/demo/card/README.md"

setup: $(VENV)/ready-dev
	@echo "ready: $(VENV)"

lint: $(VENV)/ready-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

test: lint
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "not slow and not gpu"

test-slow: $(VENV)/ready-dev
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "slow and not gpu"

test-all: lint
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

docs: $(VENV)/ready-dev
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The documentation: site/index.html"

clean:
	rm -rf $(VENV) site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# The stamps are newer than what they were made from, so a second call costs nothing. Bytecode is compiled on first
# import instead of at installation: most modules of most packages are never imported.
INSTALL = $(BIN)/pip install -qq --no-compile --constraint constraints.txt

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than Python 3.11" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --upgrade pip

$(VENV)/ready: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the pinned packages into $(VENV): a minute or two …"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/ready-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the pinned packages into $(VENV), development tools among them: a minute or two …"
	@$(INSTALL) --editable ".[dev]"
	@touch $(VENV)/ready $@
