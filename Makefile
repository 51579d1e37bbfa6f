# `make quickstart` and `make test` do all of their own set-up. See README.md.

PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   = .venv
OUT    = out

BIN := $(VENV)/bin

.PHONY: quickstart test lint bench docs tour clean

quickstart: $(VENV)/installed  ## train on digits that the program draws, evaluate, write pictures
	$(BIN)/drawnet train --recipe digits --out $(OUT)/run --overwrite
	$(BIN)/drawnet evaluate $(OUT)/run
	$(BIN)/drawnet generate $(OUT)/run --out $(OUT)
	$(BIN)/drawnet reconstruct $(OUT)/run --out $(OUT)
	$(BIN)/drawnet generate mnist --out $(OUT)/mnist
	@echo "Pictures: $$(ls $(OUT)/*.png $(OUT)/*.gif $(OUT)/mnist/* | tr '\n' ' ')"

test: $(VENV)/installed-dev  ## all tests but the slow ones
	$(BIN)/python -m pytest -n auto $(PYTEST)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed  ## the table of docs/performance.md, on this machine
	$(BIN)/python benchmarks/speed.py

docs: $(VENV)/installed-dev
	$(BIN)/pip install -q -e .[docs]
	$(BIN)/sphinx-build -W docs docs/_build

tour: $(VENV)/installed-dev  ## run the notebook, and keep what it shows
	$(BIN)/jupyter execute --inplace examples/tour.ipynb
	rm -f examples/*.gif

clean:
	rm -rf $(VENV) $(OUT) docs/_build

# torch first and by its exact version: where a build for the CPU is at hand it is taken, and an
# open range would bring several gigabytes of CUDA.
$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "drawnet needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $(TORCH)
	$(BIN)/pip install -q -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml $(VENV)/installed
	$(BIN)/pip install -q -e .[dev]
	touch $@
