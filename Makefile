# What people and CI run. `make` alone lists it. Needs Python 3.11 or newer with venv and pip, and nothing else.
#
#   make test                        the default interpreter, in .venv
#   make test PYTHON=python3.12      another one, in .venv-3.12
#   make test ARGS="-k retry -x"     arguments for pytest, the demo or the benchmarks
#   make test JOBS=0                 one process, for a debugger

SHELL := /bin/sh
# Recipes change one venv with pip: two at a time would break it.
.NOTPARALLEL:
# Neither may lead an import to the checkout, past the installed wheel.
unexport PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK := 1

JOBS ?= auto
ARGS ?=

new_enough := import sys; sys.exit(sys.version_info < (3, 11))
VENV := $(if $(PYTHON),.venv-$(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null),.venv)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --no-input

# Folders are listed too: they change when a file is removed.
SOURCES := $(shell find callpyback -name __pycache__ -prune -o \( -type d -o -name '*.py' -o -name py.typed \) -print)
WHEEL := build/wheel/.built
PACKAGE := $(VENV)/.package
# Tests and docs run in a folder with nothing to import, so `import callpyback` finds the installed wheel,
# in the processes they start too. conftest.py checks it when this variable is set.
# Paths are relative, so that a checkout may lie in a folder with a space in its name.
ELSEWHERE := build/elsewhere
ROOT := ../..
FROM_WHEEL := cd $(ELSEWHERE) && CALLPYBACK_FROM_WHEEL=1
PYTEST := pytest -c $(ROOT)/pyproject.toml --rootdir $(ROOT)

.PHONY: help demo test coverage lint format types docs bench wheel clean

help:
	@echo 'make demo       watch a census of the standard library'
	@echo 'make test       run the tests against the built wheel'
	@echo 'make coverage   the same, with branch coverage'
	@echo 'make lint       ruff and import-linter (make format repairs what can be repaired)'
	@echo 'make types      mypy and pyright, for the oldest and the newest Python'
	@echo 'make docs       run every code block of README.md and docs/'
	@echo 'make bench      measure the overhead beside other tools'
	@echo 'make wheel      build/wheel/*.whl'
	@echo 'make clean      remove venvs, builds and caches'

demo: $(PACKAGE) $(VENV)/.extra-demo
	@$(BIN)/python examples/census.py $(ARGS)

test: $(PACKAGE) $(VENV)/.extra-test | $(ELSEWHERE)
	@$(FROM_WHEEL) "$(CURDIR)"/$(BIN)/python -m $(PYTEST) -n $(JOBS) $(ROOT)/tests $(ARGS)

coverage: $(PACKAGE) $(VENV)/.extra-test | $(ELSEWHERE)
	@rm -f .coverage .coverage.*
	@$(FROM_WHEEL) COVERAGE_FILE="$(CURDIR)/.coverage" "$(CURDIR)"/$(BIN)/python -m coverage run --rcfile="$(CURDIR)/pyproject.toml" \
		-m $(PYTEST) -n $(JOBS) $(ROOT)/tests $(ARGS)
	@$(BIN)/python -m coverage combine -q
	@$(BIN)/python -m coverage report

lint: $(VENV)/.extra-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.extra-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What tests/typing sees is the installed package, as users see it. Both ends of the supported range are checked,
# whatever runs here: code behind `sys.version_info` is invisible to a checker of another version.
types: $(PACKAGE) $(VENV)/.extra-lint $(VENV)/.extra-test | $(ELSEWHERE)
	@set -e; for version in 3.11 3.13; do \
		echo "== mypy and pyright as Python $$version"; \
		$(BIN)/mypy --python-version $$version callpyback; \
		(cd $(ELSEWHERE) && "$(CURDIR)"/$(BIN)/mypy --config-file $(ROOT)/pyproject.toml --python-version $$version $(ROOT)/tests/typing); \
		$(BIN)/pyright --pythonpath $(BIN)/python --pythonversion $$version; \
	done

# One process: the blocks of a page share one namespace.
docs: $(PACKAGE) $(VENV)/.extra-docs | $(ELSEWHERE)
	@$(FROM_WHEEL) "$(CURDIR)"/$(BIN)/python -m $(PYTEST) -n 0 $(ROOT)/README.md $(ROOT)/docs $(ARGS)

bench: $(PACKAGE) $(VENV)/.extra-bench
	@$(BIN)/python -m benchmarks $(ARGS)

wheel: $(WHEEL)

clean:
	rm -rf .venv .venv-3.* build dist .coverage .coverage.* htmlcov .hypothesis
	rm -rf .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find callpyback tests benchmarks docs examples -name __pycache__ -prune -exec rm -rf {} +

# `--clear`: a venv whose interpreter is gone is made anew.
$(VENV)/bin/python:
	@for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11); do \
		"$$python" -c '$(new_enough)' 2>/dev/null || continue; \
		echo "making $(VENV) with $$("$$python" --version)"; \
		"$$python" -m venv --clear $(VENV) && exit 0; \
		rm -rf $(VENV); \
		echo "make: $$python cannot make a venv. On Debian and Ubuntu: apt install python3-venv." >&2; exit 1; \
	done; \
	echo "make: no Python 3.11 or newer found$(if $(PYTHON), as PYTHON=$(PYTHON)). Name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1

$(WHEEL): pyproject.toml README.md LICENSE $(SOURCES) | $(VENV)/bin/python
	@echo "building the wheel"
	@rm -rf $(@D) && mkdir -p $(@D)
	@$(PIP) wheel --no-deps --wheel-dir $(@D) .
	@touch $@

# pip takes a wheel of the same version for the same wheel, hence --force-reinstall; the second line adds what it needs.
$(PACKAGE): $(WHEEL) | $(VENV)/bin/python
	@echo "installing the wheel into $(VENV)"
	@$(PIP) install --force-reinstall --no-deps "$$(echo build/wheel/*.whl)"
	@$(PIP) install "$$(echo build/wheel/*.whl)"
	@touch $@

$(VENV)/.extra-%: pyproject.toml | $(PACKAGE)
	@echo "installing what '$*' needs into $(VENV)"
	@$(PIP) install "$$(echo build/wheel/*.whl)[$*]"
	@touch $@

$(ELSEWHERE):
	@mkdir -p $@
