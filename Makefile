# drawwell: the door. Each target does all its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/pytest -n 3 --dist loadfile

PYTHONS ?= python3.11 python3.12 python3.13
COVERING := $(addprefix tests/unit/,entropy wire crypto onerng broker) tests/property tests/induced \
            tests/vectors/test_ctr_drbg_vectors.py

.PHONY: demo venv test quick test-long test-all-pythons coverage check man lock packages deb wheel bench clean

demo: $(STAMP)
	@$(BIN)/drawwell demo

venv: $(STAMP)
	@echo "drawwell is in $(CURDIR)/$(BIN)"

test: check packages
	$(PYTEST) --time-limit -m "not long"

quick: $(STAMP)
	$(PYTEST) -m "not long and not slow" tests/unit tests/property tests/induced tests/sim tests/house

test-long: check packages
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

bench: $(STAMP) packages
	@for b in bench/*.py; do echo "== $$b"; $(BIN)/python $$b || exit 1; done

packages:
	@tools/packages

deb:
	@tools/deb

wheel: $(STAMP)
	$(BIN)/python -m hatchling build -t wheel -d dist

man: $(STAMP)
	$(BIN)/python tools/completion.py
	$(BIN)/python tools/manpage.py

lock: $(STAMP)
	$(BIN)/python tools/lock.py

$(STAMP): requirements.txt pyproject.toml
	$(PYTHON) tools/python_version.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --no-index -e .
	@touch $@

clean:
	rm -rf $(VENV) .state dist build
