# The commands of the project. `make run` and `make test` need git, make and Python 3.11 to 3.13.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
GENERATED := docs/metrics.md docs/cli.md

# An environment holds absolute paths. In a folder that was moved, it is made anew.
ifneq ($(shell test -L $(VENV) || grep '^command = ' $(VENV)/pyvenv.cfg 2>/dev/null | grep -vF ' $(CURDIR)/$(VENV)'),)
$(info The folder was moved: making $(VENV) anew.)
$(shell rm -rf $(VENV))
endif

.DEFAULT_GOAL := help
.PHONY: help run test test-slow lint bench format docs migration constraints clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

run: $(VENV)/installed ## install, and retrain once on 5,000 real MNIST digits
	@$(BIN)/digits retrain --dataset mnist-5k || [ $$? -eq 3 ] # a rejected model is a result

test: $(VENV)/installed-dev ## install what tests need, and run the fast ones; ARGS for pytest
	@$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(VENV)/installed-dev ## run the tests that take minutes; ARGS for pytest
	@$(BIN)/pytest -m slow -n 3 --dist load --maxschedchunk 1 --durations 10 $(ARGS)

lint: $(VENV)/installed-dev ## ruff, ruff format, mypy, import-linter, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cog --check --diff -P -I docs $(GENERATED)

bench: $(VENV)/installed-dev ## compare training with other libraries (hours); DATA=FOLDER with MNIST's files
	@$(BIN)/python -m benchmarks.training $(if $(DATA),--data "$(DATA)"); met=$$?; \
		$(BIN)/python -m benchmarks.time_to_accuracy $(if $(DATA),--data "$(DATA)") && exit $$met

format: $(VENV)/installed-dev ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/installed-dev ## write the generated tables of the documents
	$(BIN)/cog -r -P -I docs $(GENERATED)

migration: $(VENV)/installed-dev ## the next numbered migration, from changes in schema.py; NAME=what_is_new
	@test -n "$(NAME)" || { echo "expected NAME=what_is_new" >&2; exit 2; }
	@home=$$(mktemp -d) && trap 'rm -r "$$home"' EXIT \
		&& export DIGITS_DATABASE_URL="sqlite:///$$home/metrics.db" \
		&& $(BIN)/alembic --quiet upgrade head && $(BIN)/alembic revision --autogenerate -m "$(NAME)" \
		&& $(BIN)/ruff format --quiet storage/tables/migrations

constraints: $(VENV)/uv ## update constraints.txt to the newest versions
	@$(VENV)/uv pip compile pyproject.toml --group dev --universal --upgrade --quiet \
		--no-header --no-annotate --no-emit-index-url --output-file constraints.txt

clean: ## remove the environments; var/ stays
	rm -rf $(VENV) .bench

# The installed uv, if there is one, else one of its own in the environment.
$(VENV)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "expected Python 3.11 to 3.13, received $$($(PYTHON) --version 2>&1);" \
		     "name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@found=$$(command -v uv) || { \
		echo "Installing uv into $(VENV) ..."; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check uv && found=uv-of-venv; }; \
	if [ "$$found" = uv-of-venv ]; then ln -sf bin/uv $@; else ln -sf "$$found" $@; fi

# Bytecode is compiled once here; otherwise every process would pay for it again.
INSTALL = $(VENV)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --constraints constraints.txt

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/uv
	@echo "Installing into $(VENV) (about 1.5 GB, a few minutes on a new machine) ..."
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(INSTALL) --editable . --group dev
	@touch $@
