# Bare `make` explains the targets. Everything a target needs is made by it: no other command comes first.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help
help: ## Explain the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 16

.PHONY: run
run: $(STAMP) ## Start everything: real servers, service, simulated gateways; prints the dashboard's address (Ctrl-C stops it)
	@exec $(BIN)/python -m deploy.local run

.PHONY: test
test: $(STAMP) ## Run all tests on real servers (TEST=path or -k words through ARGS=)
	@$(BIN)/python -m pytest $(TEST) $(ARGS)

.PHONY: test-unit
test-unit: $(STAMP) ## Run the tests that need no server (seconds)
	@$(BIN)/python -m pytest tests/unit $(ARGS)

.PHONY: check
check: $(STAMP) ## Lint, format check, strict types, import contracts, size guard; changes nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=. $(BIN)/lint-imports --no-logo
	@$(BIN)/python tests/size_guard.py

.PHONY: fmt
fmt: $(STAMP) ## Format and apply the safe fixes of the linter
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: bench
bench: $(STAMP) ## Measure, one JSON line each (ONLY=name picks one)
	@$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY),)

.PHONY: pins
pins: ## Renew deploy/requirements/*.txt from pyproject.toml (needs uv)
	@uv pip compile pyproject.toml --group dev --generate-hashes --universal --python-version 3.11 \
		--no-emit-index-url --no-header -q -o deploy/requirements/dev.txt
	@uv pip compile pyproject.toml --generate-hashes --universal --python-version 3.11 \
		--no-emit-index-url --no-header -q -c deploy/requirements/dev.txt -o deploy/requirements/run.txt

.PHONY: clean
clean: ## Remove the data and servers of `make run`, and the virtual environment
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m deploy.local clean; else rm -rf .local; fi
	@rm -rf $(VENV)

$(STAMP): deploy/requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nenghao needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=/path/to/python3.11")'
	@echo "· installing the pinned Python packages into $(VENV)"; SECONDS=0; \
	$(PYTHON) -m venv $(VENV) && \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r deploy/requirements/dev.txt && \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e . && \
	touch $@ && echo "✓ Python packages  $${SECONDS} s"
