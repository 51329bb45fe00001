# The commands to remember. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
ARCH ?= preflmr
BIN := .venv/bin
export PYTHONUNBUFFERED := 1
export TOKENIZERS_PARALLELISM := false
# Nothing here may reach for a model hub.
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint types parity dist bench docs constraints clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.venv/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt --editable '.[demo,dev]'
	@touch $@

demo: .venv/.ready  ## train, evaluate and report on real data: make demo [ARCH=preflmr|vlmo]
	$(BIN)/mmret run recipes/demo/$(ARCH).yaml

test: .venv/.ready  ## all tests
	$(BIN)/python -m pytest -n 2

lint: .venv/.ready  ## style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv/.ready  ## static types
	$(BIN)/pyright

parity: .venv/.ready  ## compare with the published implementations: make parity GOLDEN=folder
	@test -n "$(GOLDEN)" || { echo "make parity GOLDEN=folder: name the folder with the golden tensors"; exit 2; }
	MMRET_GOLDEN="$(abspath $(GOLDEN))" $(BIN)/python -m mmret.parity

dist: .venv/.ready  ## the tests that start several processes
	$(BIN)/python -m pytest -m dist

bench: .venv/.ready  ## speed of the hot paths, written to runs/bench/results.json
	$(BIN)/python -m tests.bench

docs: .venv/.ready  ## the documentation as pages: runs/docs/index.html
	$(BIN)/sphinx-build -q -W --keep-going docs runs/docs && echo runs/docs/index.html

constraints: .venv/.ready  ## write constraints.txt anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header --all-extras pyproject.toml -o constraints.txt
	sed -i '1i # The exact versions the tests run on. Made by: make constraints' constraints.txt

clean:  ## remove what the other commands made
	rm -rf .venv runs build dist .pytest_cache .ruff_cache .hypothesis .benchmarks
