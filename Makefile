# Everything a fresh clone needs is Python >= 3.11 and make; each target sets up what it uses.
PYTHON ?= python3
BIN := .venv/bin
LINE_BUDGET := 43500

# PuLP 4 needs Python >= 3.12: the optimizer is tested on the newest Python found, where there is one.
NEWEST := $(shell for p in python3.14 python3.13 python3.12 \
	$$(ls -d $$HOME/.pyenv/versions/3.1[2-9].*/bin/python 2>/dev/null | sort -rV); \
	do $$p -c '' 2>/dev/null && echo $$p && break; done)

.PHONY: demo test test-newest lint bench docs clean

.venv/core: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "carbonfleet needs Python >= 3.11; set PYTHON=/path/to/one")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/dev: .venv/core
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,calibrate,cluster]'
	@touch $@

demo: .venv/core
	$(BIN)/carbonfleet demo

test: .venv/dev
	$(BIN)/python -m pytest -n 2

test-newest:
ifeq ($(NEWEST),)
	@echo "no Python from 3.12 on was found, so PuLP 4 is not tested"
else
	test -x .venv-newest/bin/python || $(NEWEST) -m venv .venv-newest
	.venv-newest/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	.venv-newest/bin/python -m pytest -n 2 tests/test_melange.py tests/test_optimizer_*.py
endif

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python benchmarks/lines.py $(LINE_BUDGET)

bench: .venv/dev
	$(BIN)/python -m benchmarks

docs: .venv/dev
	$(BIN)/python -m carbonfleet.docs docs/cli.md
	$(BIN)/python -m benchmarks.studies

clean:
	rm -rf .venv .venv-newest dist build
