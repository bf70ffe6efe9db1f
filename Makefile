# One task runner. `make repro` and `make test` work on a fresh clone: each sets up .venv first.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
VIEWER := .dvc/plots/page.html
# Stage commands call plain `python`: the project's own environment must come first.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: help setup repro test lint fresh clean

help:   ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(STAMP) $(VIEWER)   ## create .venv, install the project with its pinned dependencies, write the viewer of plots

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(VIEWER): $(STAMP) $(wildcard src/segpipe/viewer.*)
	@$(BIN)/segpipe viewer

repro: setup   ## run every stage whose inputs changed, from raw data to submission and report
	dvc repro

test: setup   ## run the tests
	pytest -n 2 --dist loadfile

lint: setup   ## style
	ruff check .
	ruff format --check .

fresh: setup   ## warn when dvc.lock or metrics/ are older than the code they came from
	@said=$$(dvc repro --allow-missing --dry 2>&1); \
		stage=$$(echo "$$said" | sed -nE "s/.*(Running stage|failed to reproduce) '([^']+)'.*/\2/p" | head -1); \
		if [ -z "$$stage" ]; then echo "$$said" | tail -1; else \
		echo "WARNING: dvc.lock is stale from $$stage on: run \`dvc repro\`, then commit dvc.lock, metrics and plots."; fi

clean:   ## remove the environment and caches (never data)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
