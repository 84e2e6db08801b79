# Everything a developer or a curious user types. Needs Python 3.11 to 3.14 and make, nothing else.
# `make setup PYTHON=/path/to/python3.13` chooses the interpreter; `make test ARGS="-k spool"` passes words to pytest.

# Some images forbid Python to keep bytecode; every program the demo and the tests start would compile all anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lock wheel-check clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

setup: ## make .venv with everything; nothing to do if it is up to date
	@PYTHON="$(PYTHON)" sh .ci/make-venv

demo: setup ## run the whole thing on a small scenario and stay up
	@.venv/bin/metering demo $(ARGS)

# A file's tests stay in one worker: they share a model server or a replay. Two workers are what two cores bear.
test: setup ## every test
	@.venv/bin/python -m pytest -n 2 --dist loadfile -q $(ARGS)

check: setup ## lint, types, import rules
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@.venv/bin/lint-imports

format: setup ## lay the code out and mend what ruff can mend
	@.venv/bin/ruff check --fix-only --quiet
	@.venv/bin/ruff format

lock: ## pin every dependency with its hashes (needs uv and the network)
	@sh .ci/lock

wheel-check: setup ## the wheel, alone in an empty environment elsewhere, runs the demo
	@sh .ci/wheel-check

clean: ## remove what the other targets made, except the ledger in the state folder
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
