# `make speak` and `make check` need python3 (3.10 or newer, with venv) and nothing else; both share one .venv.
PYTHON ?= python3
VENV ?= .venv
TEXT ?= Hello. I am a small tortoise, and this is my voice.
OUTPUT ?= speech.wav
MINUTES ?= 5
# Processes that share the tests: each computes on one thread and takes half a GB.
JOBS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export TEXT OUTPUT  # they reach the shell as they are, quotes and all
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help venv speak check slow docs fuzz oldest clean

help:  ## say what there is to make
	@sed -n 's/^\([a-z]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST)

venv: $(READY)  ## make .venv with everything that speaking, training and testing need

$(READY): pyproject.toml constraints.txt
	@echo "making $(VENV): some minutes, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

$(READY)-corpus: $(READY)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,corpus]'
	@touch $@

speak: $(READY)  ## speak TEXT="..." into OUTPUT=speech.wav, which is replaced
	$(BIN)/chelys speak "$$TEXT" -o "$$OUTPUT" --force

check: $(READY)  ## lint, format, types, tests (JOBS=2 at a time): what CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -n $(JOBS) --dist worksteal

slow: $(READY)-corpus  ## every test, also those that take minutes and need the corpus extra
	$(BIN)/pytest -q -m ""

$(READY)-docs: $(READY)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,docs]'
	@touch $@

docs: $(READY)-docs  ## the documentation as a site, in build/site
	$(BIN)/python tools/make_cli_docs.py
	$(BIN)/mkdocs build

$(READY)-fuzz: $(READY)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,fuzz]'
	@touch $@

fuzz: $(READY)-fuzz  ## MINUTES=5 of fuzzing the readers of foreign bytes, and a hundredth of the attack
	$(BIN)/python tools/attack/fuzz.py --minutes $(MINUTES)
	$(BIN)/python tools/attack/attack.py --share 0.01
	$(BIN)/python tools/attack/faults.py --points 20

oldest: pyproject.toml  ## the quick tests with the oldest versions that pyproject.toml states, in .venv-oldest
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install -q uv
	$(VENV)-oldest/bin/uv pip install -q --python $(VENV)-oldest/bin/python --resolution lowest-direct -e '.[dev]'
	$(VENV)-oldest/bin/pytest -q -n $(JOBS) --dist worksteal

clean:  ## remove the environment, caches and builds; not runs/
	rm -rf $(VENV) $(VENV)-oldest .pytest_cache .mypy_cache .ruff_cache build dist src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
