# Every target needs `.venv` alone, and `.venv` is made here. `make demo` and `make test` are all that a fresh machine needs.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
WORKERS ?= 4
ROUNDS ?= 10
ACTS ?= 4

.PHONY: install demo test test-benchmarks unit lint types format bench chaos clean

install: $(STAMP)

# Modules are compiled when they are first imported: most of them never are.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[train,diffusion,wandb,storage,quant,dev,bench]'
	touch $(STAMP)

demo: install
	$(BIN)/python examples/demo

test: install lint types
	$(BIN)/python -m pytest -m "not gpu and not bench" -n $(WORKERS) --dist worksteal $(ARGS)

test-benchmarks: install
	$(BIN)/python -m pytest -m bench $(ARGS)

unit: install
	$(BIN)/python -m pytest -m "not gpu and not slow" tests/unit $(ARGS)

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: install
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: install
	$(BIN)/python -m benchmarks

chaos: install
	$(BIN)/python -m tests.chaos --rounds $(ROUNDS) --acts $(ACTS) $(if $(SEED),--seed $(SEED))

clean:
	rm -rf .venv demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
