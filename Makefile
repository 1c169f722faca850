# Every command of the workbook. `make help` lists them; what each needs it installs itself.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
# The first interpreter that runs and is of a supported version; `make setup PYTHON=/path/to/python` overrides.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
  $$p -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && { echo $$p; break; }; done)
# JupyterLab refuses to run as root (a container, mostly) unless told.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] && echo --allow-root)
JOBS ?= 2
# Of each process of the tests; OMP_NUM_THREADS=4 make test tries them with four.
export OMP_NUM_THREADS ?= 1
FIRST := notebooks/00_start_here.ipynb
N ?=
ARGS ?=

.PHONY: help setup lab notebooks prose test test-fast check lint types static bench book

help:  ## this list
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | awk -F ':.*  ## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

setup: $(VENV)/.workbook  ## create .venv with what the notebooks need, and check it
	@$(BIN)/python -m ferkit.doctor.environment

lab: setup  ## open JupyterLab on notebook 00 (ARGS="--port 8889 --no-browser")
	@echo
	@echo "JupyterLab opens in your browser. If none opens, copy the line below that begins with http://localhost into one."
	@echo "Working on another machine? On yours: ssh -L 8888:localhost:8888 THAT-MACHINE, then open that line. Ctrl-C stops it."
	@echo
	@$(BIN)/jupyter lab $(AS_ROOT) --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/$(FIRST) $(ARGS)

notebooks: $(VENV)/.dev  ## run the sources in notebooks/py and write the notebooks (N=10: one; teach profile)
	$(BIN)/python notebooks/build.py $(N)

prose: $(VENV)/.dev  ## refresh text, links and the README table without running any code
	$(BIN)/python notebooks/build.py --prose $(N)

test: check  ## everything CI runs: check, then unit, parity, guards, notebooks, browser
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --durations 10 --ignore tests/static tests

test-fast: $(VENV)/.dev  ## for daily work: the unit tests that take less than a second or two each
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m "not slow and not real_data" tests/unit tests/parity

check: lint types static  ## ruff, codespell, mypy, and the tests that run no code

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/codespell

types: $(VENV)/.dev
	$(BIN)/mypy

static: $(VENV)/.dev
	$(BIN)/python -m pytest -q tests/static

bench: $(VENV)/.dev  ## the side-by-side speed scripts of benchmarks/
	@for script in benchmarks/*.py; do \
	  [ -e "$$script" ] || { echo "benchmarks/ has no script"; exit 1; }; \
	  echo "== $$script"; OMP_NUM_THREADS=1 $(BIN)/python "$$script"; done

book: $(VENV)/.dev  ## the notebooks as a searchable book in build/book/html; runs none of them
	$(BIN)/python book/build.py

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "No Python 3.11, 3.12 or 3.13 was found. Install one (python.org, your package manager," \
	  "or conda: see README) and run this again, or name it: make setup PYTHON=/path/to/python"; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot create environments. On Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }

# Stamps: reinstall only when pyproject.toml changes. The environment for tests includes the one for notebooks.
$(VENV)/.workbook: pyproject.toml | $(BIN)/python
	@echo "Installing the workbook; the first time this takes several minutes (PyTorch is large)"
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[workbook]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "Installing the workbook and the tools for its tests; the first time this takes several minutes"
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.workbook
