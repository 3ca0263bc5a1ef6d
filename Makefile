# make android          a real model to verified Android libraries: build/android/maven, build/report.html
# make ios              the same model as a verified Core ML package: build/bundle/coreml, build/report.html
# make example-android  the example app with the default model as an installable APK, in build/example-android
# make test             the fast and the real tier, and the Kotlin tests
# make test-pythons     the fast tier on every other Python that is promised
# make check            formatting, lint, types, import rules, documents
# make verify           the long proofs
# make bench            speed, memory and fidelity beside LiteRT-LM and llama.cpp, of what `make android` built
# make conformance      the shared cases in every language: language x kind, passed and failed
# make docs             rewrite docs/cli.md, and the pages of the Kotlin API: build/docs/kotlin
# make venv             only the environment, with what building and validating need
# make clean            remove what was built here and nothing else (not the environment, not the cache)
#
# Each brings what it needs: Python packages into .venv, and programs that pip can't install (below, NEEDS_) by apt-get
# on Debian and Ubuntu, as root or with sudo that asks for no password. SATCHEL_NO_INSTALL=1 only names those, and so do
# all other machines.

MODEL ?= smollm2-135m-instruct
OUT ?= build
VENV := .venv
BENCH := .venv-bench
PY := $(VENV)/bin/python
SATCHEL := $(VENV)/bin/satchel

PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $(name))))
TORCH_PIN := $(shell sed -n 's/^torch==\([^ ]*\).*/\1/p' requirements/torch.txt)
MVN = JAVA_HOME="$$($(PY) scripts/java_home.py)" mvn --batch-mode --no-transfer-progress
# A run of Maven is short: the JVM's second compiler and parallel collector would cost it a third more.
export MAVEN_OPTS ?= -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
# Every lock is complete, so nothing is left to resolve. Byte code is written when a module is first imported.
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --no-build-isolation

# What pip can't install, by target: names of PROGRAMS in exporter/satchel/tools.py, which says where each comes from.
NEEDS_android := maven
NEEDS_example-android := maven aapt2 apksigner keytool
NEEDS_test-python := maven cxx jdk aapt2 apksigner keytool npm
NEEDS_test-kotlin := maven
NEEDS_test := $(NEEDS_test-python) $(NEEDS_test-kotlin)
NEEDS_test-pythons := maven
NEEDS_verify := maven cxx jdk aapt2 apksigner keytool npm
NEEDS_conformance := maven
NEEDS_check := maven
NEEDS_bench := cxx jdk npm node
NEEDS_docs := maven

.PHONY: android ios example-android test test-python test-kotlin test-pythons conformance bench docs verify venv clean
.PHONY: check check-style check-types check-imports check-documents check-kotlin
.DELETE_ON_ERROR:

android: | need $(VENV)/.product
	$(SATCHEL) build $(MODEL) --target android --out $(OUT)

ios: | $(VENV)/.product
	$(SATCHEL) build $(MODEL) --target ios --out $(OUT)

# Always with the default model, which is the one that the app's own build files name.
example-android: | need
	$(MAKE) android MODEL=smollm2-135m-instruct OUT=build
	$(PY) scripts/example_android.py

test: test-python test-kotlin

# Two processes, with one thread each for its arithmetic. tests/real/conftest.py says what may run at the same time.
test-python: | need $(VENV)/.dev
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 tests/fast tests/real

test-kotlin: | need $(VENV)/.product
	find sdk_templates -type d -path '*/target/classes' -prune -exec rm -rf {} +
	$(MVN) --quiet --file sdk_templates/pom.xml -Dkotlin.compiler.daemon=false verify
	$(PY) scripts/tested_classes.py

test-pythons: | need $(VENV)/.dev
	$(PY) scripts/pythons.py

verify: | need $(VENV)/.dev
	$(PY) -m pytest tests/verify

conformance: | need $(VENV)/.dev
	@JAVA_HOME="$$($(PY) scripts/java_home.py)" $(PY) scripts/conformance.py mvn --batch-mode --no-transfer-progress

# Each by itself, so that `make -j 2 check` can run two at a time.
check: check-types check-kotlin check-style check-imports check-documents

check-style: | $(VENV)/.dev
	$(PY) -m ruff check
	$(PY) -m ruff format --check

check-types: | $(VENV)/.dev
	$(PY) -m mypy

check-imports: | $(VENV)/.dev
	$(VENV)/bin/lint-imports

check-documents: | $(VENV)/.dev
	$(PY) scripts/cli_docs.py --check

check-kotlin: | need $(VENV)/.dev
	@echo "ktlint"; $(MVN) --file scripts/ktlint.xml validate > $(VENV)/ktlint.txt || { cat $(VENV)/ktlint.txt; exit 1; }

bench: | need $(VENV)/.product $(BENCH)/.llama $(BENCH)/.packages
	$(PY) bench/compare.py --model $(MODEL) --build $(OUT) --environment $(BENCH)

docs: | need $(VENV)/.dev
	$(PY) scripts/cli_docs.py
	$(PY) scripts/made.py claim build/docs
	$(MVN) --quiet --file scripts/dokka.xml dokka:dokka
	$(PY) scripts/made.py mark build/docs
	@echo "The Kotlin API: build/docs/kotlin/index.html"

venv: | $(VENV)/.product

clean:
	$(or $(PYTHON),python3) scripts/made.py remove $(OUT)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find sdk_templates -type d -name target -prune -exec rm -rf {} +

# --- programs that pip can't install: brought before anything slow, for all goals of this make in one go ---

.PHONY: need
need:
	@test -n "$(PYTHON)" || { echo "Satchel needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=/path/to/python3.12"; exit 5; }
	@$(or $(wildcard $(PY)),$(PYTHON)) scripts/need.py ensurepip $(sort $(foreach goal,$(or $(MAKECMDGOALS),android),$(NEEDS_$(goal))))

# --- the environment; each stamp is older than the lock it was installed from, or installed again ---

$(VENV)/.build: requirements/build.txt | need
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --require-hashes -r requirements/build.txt
	@touch $@

# An environment that already has torch at the pinned version, a CPU build say, keeps it.
$(VENV)/.torch: requirements/torch.txt $(VENV)/.build
	@$(PY) -m pip show torch 2>/dev/null | grep -Eqx 'Version: $(TORCH_PIN)(\+.*)?' || { \
		echo "$(INSTALL) --require-hashes -r requirements/torch.txt"; \
		$(INSTALL) --require-hashes -r requirements/torch.txt; }
	@touch $@

$(VENV)/.product: requirements/executorch.txt requirements/litert.txt requirements/coreml.txt pyproject.toml $(VENV)/.torch
	$(INSTALL) --require-hashes -r requirements/executorch.txt -r requirements/litert.txt -r requirements/coreml.txt
	$(INSTALL) --editable .
	@$(PY) scripts/java_home.py > /dev/null 2>&1 || $(INSTALL) --require-hashes -r requirements/jdk.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.product
	$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

# --- the environment of the comparison, which the product never sees ---

BENCH_INSTALL := $(subst $(PY),$(BENCH)/bin/python,$(INSTALL))
# llama.cpp for this very processor. GCC before 13 drops most of what is stored into an AMX tile configuration, which
# then faults (its _tile_loadconfig names 8 of the 64 bytes that it reads); without these two passes it stays.
# pip does not see the options in a wheel that it kept, so it keeps none.
LLAMA_CMAKE := -DGGML_NATIVE=ON -DLLAVA_BUILD=OFF "-DCMAKE_CXX_FLAGS=-fno-tree-dse -fno-dse"

$(BENCH)/.python: requirements/bench.txt | need
	$(PYTHON) -m venv $(BENCH)
	$(BENCH_INSTALL) --require-hashes -r requirements/bench.txt
	@touch $@

$(BENCH)/.llama: requirements/bench-llama.txt $(BENCH)/.python | need
	PATH="$(abspath $(BENCH))/bin:$$PATH" CMAKE_ARGS='$(LLAMA_CMAKE)' \
		$(BENCH_INSTALL) --no-cache-dir --require-hashes -r requirements/bench-llama.txt
	@touch $@

$(BENCH)/.packages: bench/node/package.json bench/node/package-lock.json $(BENCH)/.python | need
	cp bench/node/package.json bench/node/package-lock.json $(BENCH)
	npm install --prefix $(BENCH) --no-save --omit=optional --ignore-scripts --no-audit --no-fund
	@touch $@
