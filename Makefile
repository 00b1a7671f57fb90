# Everything a fresh clone needs is Python >= 3.11 and make; each target sets up what it uses.
PYTHON ?= python3
BIN := .venv/bin
LINE_BUDGET := 27000

.PHONY: demo test lint bench docs clean

.venv/core: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "carbonfleet needs Python >= 3.11; set PYTHON=/path/to/one")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/dev: .venv/core
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,calibrate]'
	@touch $@

demo: .venv/core
	$(BIN)/carbonfleet demo

test: .venv/dev
	$(BIN)/python -m pytest -n 2

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

clean:
	rm -rf .venv dist build
