# Everything needs only Python 3.11+, pip and make: `make demo` and `make test` work alone on a fresh clone.
#
#   make demo     four busy weeks of a real garage, from OCPI push to settled bill
#   make up       the whole family on this machine, until Ctrl-C
#   make test     every test, on the real broker and engine
#   make lint     ruff and mypy
#   make bench    measurements; make chaos: the long chaos run
#   make fuzz     100,000 bodies that no partner should send; FUZZ=... and FUZZ_SEED=... choose others
#   make lock     solve pyproject.toml into requirements.lock again (needs uv)

SHELL := /bin/sh
.DELETE_ON_ERROR:

VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
ARGS ?=

# Everything that is started here is many processes, which shall not each compile what they import.
unexport PYTHONDONTWRITEBYTECODE

# The first interpreter that answers and is new enough; PYTHON=... decides otherwise.
NEW_ENOUGH := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	if $$p -c '$(NEW_ENOUGH)' 2>/dev/null; then echo $$p; break; fi; done)

.PHONY: install demo up test lint format bench chaos fuzz compose-check lock clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "Voltfold needs Python 3.11 to 3.14, and none was found: python3 is $$(python3 --version 2>&1 || echo missing)." >&2; \
		echo "Install one, or name it: make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { \
		echo "Voltfold needs Python 3.11 to 3.14; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version) from requirements.lock (a minute or two the first time)"
	@$(PY) -c '$(NEW_ENOUGH)' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install --disable-pip-version-check --no-input -q --no-compile --require-hashes --only-binary :all: -r requirements.lock
	@$(PY) -m pip install --disable-pip-version-check --no-input -q --no-deps --no-build-isolation --no-index -e .
	@$(PY) -m voltfold broker --fetch-only
	@$(PY) -c 'import analytics.engine, analytics.sink, api.courier, api.server, streams.worker, voltfold.up'
	@touch $@

demo: install
	@$(PY) -m voltfold demo $(ARGS)

up: install
	@$(PY) -m voltfold up $(ARGS)

# Two processes side by side; JOBS=0: one, with a debugger if need be. ARGS="tests/unit -k ledger" chooses tests.
JOBS ?= 2
test: install
	@$(PY) -m pytest -n $(JOBS) --durations=15 $(ARGS)

lint: install
	@$(PY) -m ruff check .
	@$(PY) -m mypy

format: install
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

# All but the soak, which takes an hour.
bench: install
	@set -e; for script in $(filter-out benchmarks/soak.py,$(wildcard benchmarks/[a-z]*.py)); do echo "== $$script" >&2; $(PY) $$script $(ARGS); done

# Ten minutes of everything dying, ten seeds; CHAOS_SECONDS and CHAOS_SEEDS choose others.
CHAOS_SECONDS ?= 60
CHAOS_SEEDS ?= 1,2,3,4,5,6,7,8,9,10
chaos: install
	@CHAOS_SECONDS=$(CHAOS_SECONDS) CHAOS_SEEDS=$(CHAOS_SEEDS) $(PY) -m pytest -s tests/chaos $(ARGS)

# About ten minutes.
FUZZ ?= 100000
FUZZ_SEED ?= 1
fuzz: install
	@VOLTFOLD_FUZZ=$(FUZZ) VOLTFOLD_FUZZ_SEED=$(FUZZ_SEED) $(PY) -m pytest -q -s --timeout 7200 tests/integration/test_fuzz.py $(ARGS)

# Podman itself is not needed to check the file; echo answers for it.
compose-check: install
	@$(PY) -m podman_compose --podman-path /bin/echo -f docker-compose.yml config >/dev/null && echo "docker-compose.yml is sound"

# uv solves for every supported platform and Python at once; markers that hold everywhere are noise.
lock:
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate -q -o requirements.lock $(ARGS)
	sed -E -i.bak "s/ ; python_full_version < '3.15' and \(sys_platform == 'darwin' or sys_platform == 'linux'\) / /" requirements.lock
	rm -f requirements.lock.bak

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info build
