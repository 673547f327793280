# drawwell: the door. Each target does all its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

PYTHONS ?= python3.11 python3.12 python3.13
COVERING := $(addprefix tests/unit/,entropy wire crypto onerng broker) tests/property tests/induced \
            tests/vectors/test_ctr_drbg_vectors.py

# The demo's own environment: what the program imports, without the developers' tools.
DEMO := .demo
RELEASE := .release

.PHONY: demo venv test quick test-long test-all-pythons coverage check man lock packages deb wheel image release \
        bench clean

demo: $(DEMO)/.installed
	@PYTHONPATH=src PYTHONDONTWRITEBYTECODE= $(DEMO)/bin/python -m drawwell demo $(DEMO_OPTIONS)

venv: $(STAMP)
	@echo "drawwell is in $(CURDIR)/$(BIN)"

test: packages check
	$(PYTEST) --time-limit -o faulthandler_timeout=480 -m "not long"

quick: $(STAMP)
	$(PYTEST) --hypothesis-profile=quick -m "not long and not slow" tests/unit tests/property tests/induced tests/sim tests/house

test-long: packages check
	$(PYTEST)

# Runs under each of these that is installed: quick, in a .venv of its own.
test-all-pythons:
	@for python in $(PYTHONS); do \
	    $$python -c "" 2>/dev/null || { echo "== $$python is not installed"; continue; }; \
	    echo "== $$python"; \
	    $(MAKE) --no-print-directory quick PYTHON=$$python VENV=.venv-$$python || exit 1; \
	done

# Branch coverage of the pure rooms; pyproject.toml has the rooms and the limit.
coverage: $(STAMP)
	$(PYTEST) -m "not long" $(COVERING) --cov --cov-report=term:skip-covered --cov-report=json:.coverage.json
	@$(BIN)/python -c 'import json; totals = json.load(open(".coverage.json"))["totals"]; \
	    rate = totals["percent_branches_covered"]; \
	    print(f"branches alone: {rate:.1f} %"); exit(rate < 97)'

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/words.py

bench: packages $(STAMP)
	@for b in bench/*.py; do echo "== $$b"; $(BIN)/python $$b || exit 1; done

packages:
	@tools/packages

deb:
	@tools/packages deb
	@tools/deb

wheel: $(STAMP)
	$(BIN)/python -m hatchling build -t wheel -d dist

image: deb
	@tools/packages image
	@tools/image

# Package, wheel and source, built twice and compared; KEY, a key of yours, signs their sums.
release: $(RELEASE)/.installed
	@$(RELEASE)/bin/python tools/release.py "$(KEY)"

$(RELEASE)/.installed: requirements-release.txt
	@tools/packages release
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/pip install --quiet --require-hashes -r requirements-release.txt
	@touch $@

man: $(STAMP)
	$(BIN)/python tools/completion.py
	$(BIN)/python tools/manpage.py
	$(BIN)/python tools/dashboard.py

lock: $(STAMP)
	$(BIN)/python tools/lock.py

$(STAMP): requirements.txt pyproject.toml
	@PYTHON=$(PYTHON) tools/packages venv
	$(PYTHON) tools/python_version.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(DEMO)/.installed: requirements-run.txt
	@PYTHON=$(PYTHON) tools/packages venv
	@$(PYTHON) tools/python_version.py
	@echo "setting up $(DEMO) once: a Python environment with cryptography and h11"
	@rm -rf $(DEMO) && $(PYTHON) -m venv $(DEMO)
	@echo "downloading and checking what requirements-run.txt names"
	@$(DEMO)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-run.txt
	@$(DEMO)/bin/pip uninstall --quiet --yes pip
	@touch $@

clean:
	rm -rf $(VENV) $(RELEASE) $(DEMO) .state dist build
