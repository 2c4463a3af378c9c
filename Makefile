# One command each; a bare `make` lists them. Every command makes .venv first if it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs fmt lock clean style types lint imports

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

$(READY): requirements.lock pyproject.toml scripts/bootstrap.sh
	@scripts/bootstrap.sh $(VENV)

demo: $(READY) ## turn the whole loop on real data (90 seconds); DEMO="--sabotage labels" passes options on
	@$(BIN)/tidewheel demo $(DEMO)

test: $(READY) ## run every test; what needs an absent service is skipped and says how to start it
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(TEST)

check: lint types imports style ## format, lint, types, floors and the limits of the house style

bench: $(READY) ## print the measures as ratios against named references
	@$(BIN)/python -m benchmarks $(BENCH)

docs: $(READY) ## build the documentation into site/ and check its links
	@$(BIN)/python scripts/write_reference.py
	@$(BIN)/python scripts/build_docs.py

fmt: $(READY) ## format the source and mend what ruff can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: ## renew requirements.lock (needs uv); it names no registry
	@uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		--all-extras --group dev --python-version 3.11 pyproject.toml -o requirements.lock

clean: ## remove what the commands made, .venv included
	@rm -rf $(VENV) site dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY)
	@$(BIN)/mypy

imports: $(READY)
	@$(BIN)/lint-imports --no-logo --no-cache

style: $(READY)
	@$(BIN)/python scripts/check_style.py
