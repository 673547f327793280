# drawwell: the door. Each target does all its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/pytest -n 2 --dist loadfile

.PHONY: demo venv test quick test-long check man lock packages deb wheel bench clean

demo: $(STAMP)
	@$(BIN)/drawwell demo

venv: $(STAMP)
	@echo "drawwell is in $(CURDIR)/$(BIN)"

test: check packages
	$(PYTEST) -m "not long"

quick: $(STAMP)
	$(PYTEST) -m "not long and not slow" tests/unit tests/property tests/induced tests/sim tests/house

test-long: check packages
	$(PYTEST)

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
