# Everything a person runs. `make demo` and `make test` set up what they need in .venv by themselves.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
BIN := .venv/bin
# One test process more than cores: a test of real processes waits for them part of its time. More only get in each
# other's way.
TESTERS = $(shell expr $$(nproc) + 1)

.PHONY: help set-up demo test parts lint format docs deep bench live locks clean

help:  ## what there is to run
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

set-up:  ## prepare .venv; instant when nothing changed
	@tools/set-up

demo: set-up  ## the whole path on an emulated cloud, no account needed
	@$(BIN)/grafos demo

test: set-up  ## all checks: style, types, tests; the first time it also gets Rust ready
	@$(MAKE) -j 2 lint parts
	@$(BIN)/python tools/run_tests.py $(TESTERS)

parts: set-up
	@$(BIN)/python tools/parts.py

lint: set-up  ## style and types
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "Some files are not formatted: run 'make format'." >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary

format: set-up  ## let the formatter have its way
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format --quiet

docs: set-up  ## the documentation as a site, in build/docs
	@$(BIN)/python -m sphinx -q -W --keep-going -E -b html docs build/docs
	@echo "build/docs/index.html"

deep: set-up  ## the long sweeps over seeds, kills and crash points
	@$(BIN)/python tools/parts.py --deep
	@$(BIN)/python -m pytest -m deep -n $(TESTERS) --no-header --timeout 1800

bench: set-up  ## ours beside peers, in one table; `make bench only=placement` for one of them
	@$(BIN)/python benchmarks/run.py $(if $(only),--only $(only)) $(if $(quick),--quick)

live: set-up  ## claims and a cell on your own account: `make live CLOUD=gcp MAX_CENTS=50`
	@test -n "$(CLOUD)" || { echo "Which cloud? make live CLOUD=aws, CLOUD=azure or CLOUD=gcp" >&2; exit 2; }
	@$(BIN)/python tests/support/live_run.py $(CLOUD) --max-cents $(or $(MAX_CENTS),50) \
	  $(if $(REGION),--region $(REGION)) $(if $(ALLOW),--allow $(ALLOW)) $(if $(FOLDER),--folder $(FOLDER))

locks: set-up  ## resolve the locks anew; `make locks upgrade=1` also takes new versions
	@$(BIN)/python tools/lock.py $(if $(upgrade),--upgrade)

clean:  ## remove all that was made here
	@rm -rf .venv build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
