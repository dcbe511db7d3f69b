# Lamella. `make demo` and `make test` set up .venv by themselves, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.PHONY: demo fuzz test test-all test-gpu chaos check format bench clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[demo,dev]"
	touch $@

demo: $(VENV)/installed
	$(BIN)/lamella demo

# Hundreds of processes import the same files: they compile them once, whatever the shell says.
test test-all: export PYTHONDONTWRITEBYTECODE :=

# Two processes: one runs all tests on Ray, the other the rest, a file at a time.
PROCESSES ?= 2
test: $(VENV)/installed
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile -m "not slow and not bench and not gpu"

# Everything but speed and cards: takes hours, and chaos and the fuzz targets are among it.
test-all: $(VENV)/installed
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile -m "not bench and not gpu"

test-gpu: $(VENV)/installed
	$(BIN)/python -m pytest -m gpu

chaos: $(VENV)/installed
	$(BIN)/python -m tests.chaos

# Minutes for each of the targets in tests/fuzz; FUZZ_SEED=1000 draws other values.
FUZZ_MINUTES ?= 5
fuzz: $(VENV)/installed
	FUZZ_MINUTES=$(FUZZ_MINUTES) $(BIN)/python -m pytest -s -m slow tests/fuzz

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p build/types/lamella
	ln -sfn -t build/types/lamella $(CURDIR)/cluster/api/* $(CURDIR)/pipeline $(CURDIR)/schemas $(CURDIR)/cluster
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed
	$(BIN)/python -m pytest -m bench -s tests/benchmarks

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache *.egg-info
