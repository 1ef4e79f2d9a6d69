# Needs Python 3.11 or newer and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# worker processes of the tests
JOBS ?= 2

.PHONY: help breakout test slow clean
.DELETE_ON_ERROR:

help:
	@echo "make breakout   install, then learn to play Breakout for three minutes"
	@echo "make test       install with the development tools, then ruff, mypy and the quick tests"
	@echo "make slow       the tests that learn for minutes"
	@echo "make clean      remove .venv and caches; runs/ stays"

breakout: $(VENV)/.installed
	$(BIN)/python -m agents.train breakout --minutes 3
	@echo
	@echo "Three minutes are a start. What to do next:"
	@echo "  $(BIN)/python -m agents.evaluate latest                   how well does it play? whole games, with an interval"
	@echo "  $(BIN)/python -m agents.watch latest                      see it play: a window, or a video where there is no display"
	@echo "  $(BIN)/python -m agents.train breakout --minutes 60       a new run that learns for an hour"
	@echo "  $(BIN)/python -m agents.train --list                      other games and agents"

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup

slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -m slow

clean:
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: $$($(PYTHON) --version) is too old: aprendiz needs 3.11; try make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -e ".[dev]"
	@touch $@ $(VENV)/.installed
