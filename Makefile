# Two commands: `make benchmark` and `make test`. Both make .venv first where it is missing.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
NATIVE := $(wildcard tritbench/runtime/native/*)
CPP := $(NATIVE) $(wildcard tests/native/*)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: benchmark test lint format kernels clean

benchmark: $(READY)
	@tritbench run

test: lint
	@pytest -n auto --dist loadgroup

lint: $(READY)
	@ruff check -q .
	@ruff format -q --check .
	@mypy
	@clang-format --dry-run --Werror $(CPP)

format: $(READY)
	@ruff check -q --fix .
	@ruff format -q .
	@clang-format -i $(CPP)

kernels: $(READY)
	@python scripts/kernels.py

clean:
	rm -rf .venv

$(READY): pyproject.toml constraints.txt $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tritbench needs Python 3.11 or newer; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
