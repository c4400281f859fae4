# `make benchmark`, and `make test` (or `make check`, its fast part). They make .venv where it is missing.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
ENGINE = $(READY:%.ready=%.engine)
NATIVE := $(wildcard tritbench/runtime/native/*)
CPP := $(NATIVE) $(wildcard tests/native/* include/* examples/*.c)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: benchmark check test isa build lib wheel lint format kernels sanitize soak clean

benchmark: $(ENGINE)
	@tritbench run

# One process more than processors: some tests wait for DVC's.
PYTEST = pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal

# What to run while working: under a minute on two cores.
check: lint
	@$(PYTEST) -m 'not slow'

test: lint
	@$(PYTEST)
	@$(MAKE) --no-print-directory -j2 --output-sync isa sanitize

# Where there is AVX-512, what depends on instructions runs as on a processor with AVX2 as well.
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 TRITBENCH_ISA=avx2
isa: $(ENGINE)
	@! grep -qs avx512 /proc/cpuinfo || $(AVX2) pytest -m isa tests

# The native engine, also where make believes it to be newer than its sources.
build:
	@python setup.py -q build_ext --inplace --force
	@python -m tritbench.runtime

# The engine for C programs (include/tritbench.h), static and shared.
LIB := build/c
LIB_OBJECTS := $(patsubst tritbench/runtime/native/%.cpp,$(LIB)/%.o,\
  $(filter-out %/module.cpp %/arrays.cpp,$(filter %.cpp,$(NATIVE))))
lib: $(LIB)/libtritbench.a $(LIB)/libtritbench.so
$(LIB)/libtritbench.a: $(LIB_OBJECTS)
	@rm -f $@
	@$(AR) rcs $@ $^
$(LIB)/libtritbench.so: $(LIB_OBJECTS)
	@$(CXX) -shared -pthread -o $@ $^
$(LIB)/%.o: tritbench/runtime/native/%.cpp $(NATIVE) include/tritbench.h
	@mkdir -p $(LIB)
	@$(CXX) -std=c++17 -O3 -fPIC -ffp-contract=off -fvisibility=hidden -pthread -Wno-psabi -c -o $@ $<

# For machines without a checkout or a compiler; without one here there is no such wheel to list.
wheel: $(READY)
	@rm -rf build/lib* build/bdist* dist
	@pip wheel -q --no-deps --no-build-isolation -w dist .
	@ls -l dist/*-abi3-*.whl

lint: $(ENGINE)
	@ruff check -q .
	@ruff format -q --check .
	@mypy
	@clang-format --dry-run --Werror $(CPP)

format: $(READY)
	@ruff check -q --fix .
	@ruff format -q .
	@clang-format -i $(CPP)

# The engine's tests against a build with AddressSanitizer and UndefinedBehaviorSanitizer.
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined
sanitize: $(READY)
	@CFLAGS="$(SANITIZE)" CXXFLAGS="$(SANITIZE)" LDFLAGS="$(SANITIZE)" \
	  python setup.py -q build --build-base build/sanitize
	@LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=16 PYTHONPATH="$$(echo build/sanitize/lib.*)" \
	  pytest tests/test_engine.py tests/test_engine_memory.py tests/test_graph_engine.py \
	  tests/test_programs.py

soak: $(ENGINE)
	@python scripts/soak.py

kernels: $(ENGINE)
	@python scripts/kernels.py

clean:
	rm -rf .venv

# The installation has built the engine already; here it is said, and built anew after an edit.
$(ENGINE): $(READY) setup.py tritbench/runtime/build_hash.py $(NATIVE)
	@python -m tritbench.runtime 2>/dev/null || $(MAKE) --no-print-directory build
	@touch $@

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tritbench needs Python 3.11 or newer; set PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
