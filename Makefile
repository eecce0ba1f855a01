# Every target does its own set-up; a machine needs only make and Python 3.11 or newer.
# `make demo` installs only what running needs, `make test` everything. The second run of either installs nothing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := $(BIN)/uv pip compile pyproject.toml --group build --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet

# The first Python on the path that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for python in python3 python python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

SEED ?= 1
PAGE ?= docs/chaos-run.md

export NO_MKDOCS_2_WARNING := 1

.PHONY: chaos docs help demo up servers ports down test quick check lint bench lock clean

help: ## say what there is
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

demo: $(VENV)/.demo-ready ## 500 orders and 60 trips through the reference flows; audits all books
	@$(BIN)/choreo demo

up: ports ## the whole on Kafka, Faust and Redis in containers; the REST view on http://localhost:8080 (CHOREO_REST_PORT)
	@docker compose up --build --detach --wait || { echo "Not all of it runs. Which: docker compose ps --all    why: docker compose logs NAME" >&2; exit 1; }
	@echo "REST view: http://$$(docker compose port rest 8080)/docs    stop it: make down"

servers: ports ## only Kafka and Redis in containers, for services that run from this checkout
	@docker compose up --detach --wait kafka redis
	@echo "export CHOREO_KAFKA=localhost:$$(docker compose port kafka 29092 | cut -d: -f2) CHOREO_REDIS=redis://$$(docker compose port redis 6379)/0"

# Said before anything is built. Ports that a stack of this project holds already are its own.
ports:
	@docker compose version >/dev/null 2>&1 || { echo "This needs Docker with Compose v2: \`docker compose version\` fails." >&2; exit 1; }
	@test -n "$$(docker compose ps --quiet)" || for port in $$(docker compose config | sed -nE 's/^ *published: "([0-9]+)"$$/\1/p'); do \
		if (: </dev/tcp/127.0.0.1/$$port) 2>/dev/null; then \
			echo "Port $$port of 127.0.0.1 is in use. Stop what listens there, or choose another:" \
				"CHOREO_REST_PORT (now $${CHOREO_REST_PORT:-8080}), CHOREO_BROKER_PORT ($${CHOREO_BROKER_PORT:-29092})," \
				"CHOREO_REDIS_PORT ($${CHOREO_REDIS_PORT:-26379}), as in \`make up CHOREO_REST_PORT=8090\`." >&2; exit 1; fi; done

down: ## stop the containers; what they keep stays (docker compose down --volumes takes it away)
	@docker compose down --remove-orphans

# Tests on a real broker, a real Redis and in containers: minutes, and servers of their own.
# The first of them begin first: the longest stand there.
ON_SERVERS := $(addprefix tests/,chaos containers kafka adapters/faust/test_lost_state.py adapters/faust/test_tracking.py cli/test_demo_on_kafka.py \
	bench/test_kafka.py docs/test_kafka_acls.py docs/test_kafka_page.py scenarios/test_a_foreign_page.py scenarios/test_docs_page.py \
	scenarios/test_planted_secrets.py surfaces/web adapters/kafka adapters/postgres adapters/redis)

# Tests run side by side, a file at a time, with one report. Those on servers wait for two thirds of their time: three
# workers keep two cores busy.
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest $(if $(filter-out 1,$(WORKERS)),--numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder)

test: check ## every check and every test; those on servers that this machine lacks are skipped, and say so
	@CHOREO_TESTS_ON_SERVERS="$(ON_SERVERS)" $(PYTEST) --durations 40 --durations-min 5

quick: check ## every check, and the tests that need no server
	@$(PYTEST) $(addprefix --ignore=,$(ON_SERVERS))

chaos: $(VENV)/.test-ready ## everybody is killed and servers go away on a real broker; SEED=2 plays another plan (docs/chaos.md)
	@CHOREO_REQUIRE_KAFKA=1 CHOREO_CHAOS_ORDERS=2000 CHOREO_CHAOS_KILLS=32 CHOREO_CHAOS_AWAY_S=20 CHOREO_CHAOS_SEED=$(SEED) CHOREO_CHAOS_PAGE=$(PAGE) $(BIN)/python -m pytest -s tests/chaos

check: $(VENV)/.test-ready ## lint, format, types, layers, tidiness
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_tidy.py

docs: $(VENV)/.test-ready ## the documentation as a site in site/; a warning is an error
	@$(BIN)/python -m mkdocs build --strict --quiet

bench: $(VENV)/.test-ready ## orders per second on the embedded log, the core's and a step's cost (on Kafka: docs/speed.md)
	@for bench in core step embedded; do $(BIN)/python -m bench.$$bench; done

lock: $(VENV)/.test-ready ## resolve both lock files anew; they name no index and hold a hash of every file
	$(COMPILE) --all-extras --output-file requirements.lock
	$(COMPILE) --extra web --constraint requirements.lock --output-file requirements-demo.lock
	$(subst --group build,,$(COMPILE)) --extra web --extra kafka --extra redis --extra postgres --extra registry --extra faust --extra oidc --extra otel \
		--constraint requirements.lock --output-file requirements-kafka.lock

clean: ## remove the environment and the caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "choreo needs Python 3.11 or newer; found none. Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

# --no-deps: the lock is the whole resolution, so pip need not repeat it.
$(VENV)/.demo-ready: requirements-demo.lock pyproject.toml | $(BIN)/python
	@echo "Installing what the demo needs"
	@$(PIP) install --no-deps --require-hashes -r requirements-demo.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# The full environment holds the demo's, in the same versions: it counts as both.
$(VENV)/.test-ready: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing everything"
	@$(PIP) install --no-deps --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.demo-ready $@
