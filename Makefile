# Everything is installed into this folder: .venv/ (Python), .venv/emulator/ (the local cloud's own Python)
# and node_modules/ (the CDK CLI, and a policy simulator for the tests). Needed beforehand: Python 3.11 or later, git and make.

PYTHON ?= python3
BIN := .venv/bin
# Every package is installed by its hash. A failure is one sentence, also where nothing can be downloaded.
DOWNLOAD := $(PYTHON) -I stacks/downloads.py
LOCKED := -m pip install --require-hashes --no-deps
REQUIREMENTS := requirements.txt requirements-dev.txt requirements-emulator.txt requirements-lambda.txt
CDK := $(BIN)/python -I backhaul/toolchain.py cdk

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint check quick prove bench bench-limits bench-paid bench-estimate synth bootstrap \
	deploy down clean lock

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed .venv/emulator/.installed node_modules/.installed build/wheels/.installed ## Install everything into this folder

demo: setup ## Start the local cloud and process a real file
	@$(BIN)/python -m scripts.demo

# As many processes as are told; tests/conftest.py says which tests stay together.
PYTEST := $(BIN)/pytest --dist loadscope --numprocesses

# Four processes also on two processors: two of them have end-to-end tests, which mostly wait for their cloud.
test: setup ## Run all tests, end to end included, with coverage
	@$(PYTEST) 4 --cov --cov-report=term $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

check: lint ## Lint, format, types, architecture
	@$(BIN)/pytest --quiet tests/architecture

quick: lint ## Lint, format, types, and the tests of units, architecture and infrastructure, in under 3 minutes
	@$(PYTEST) 2 --quiet tests/unit tests/architecture tests/infra $(ARGS)

# SEEDS=200 PROCESS_SEEDS=5 UPLOADS=4384 for all of it, which takes hours; ARGS="--case F2" for one case.
SEEDS ?= 6
PROCESS_SEEDS ?= 1
UPLOADS ?= 500
prove: setup ## Run every fault case with SEEDS seeds each, and check what comes out (ARGS="--case F2")
ifdef ARGS
	@$(BIN)/python -m prove --seeds $(SEEDS) $(ARGS)
else
	@$(BIN)/python -m prove --layer deterministic --seeds $(SEEDS)
	@$(BIN)/python -m prove.crowd --uploads $(UPLOADS)
	@$(BIN)/python -m prove --layer process --seeds $(PROCESS_SEEDS)
endif

bench: setup ## Run the benchmarks
	@$(BIN)/python benchmarks/planning.py

# As a module: beside its own file, `limits` would be found instead of the library.
bench-limits: setup ## Measure the limit for providers beside other libraries (ARGS=--write for docs/benchmarks.md)
	@$(BIN)/python -m benchmarks.limits $(ARGS)

bench-paid: setup ## Run paid jobs at full size on the local cloud (ARGS="pace outage budget killed")
	@$(BIN)/python -m benchmarks.paid $(ARGS)

bench-estimate: setup ## Compare estimates with what jobs really took, on the local cloud
	@$(BIN)/python -m benchmarks.estimate

synth: setup ## Write the CloudFormation templates to cdk.out/ (ARGS="-c stage=...")
	@$(CDK) synth --quiet $(ARGS)

bootstrap: setup ## Prepare an AWS account and region for deployments, once (ARGS="aws://ACCOUNT/REGION")
	@$(CDK) bootstrap $(ARGS)

deploy: setup ## Deploy to the AWS account of your credentials (ARGS="-c stage=..."); asks before it drops settings
	@$(BIN)/python -m scripts.deploy $(ARGS)

down: ## Stop this folder's local cloud
	@if [ -x $(BIN)/backhaul ]; then $(BIN)/backhaul local down; fi

clean: down ## Stop the local cloud and remove everything that was generated
	@rm -rf .venv node_modules .backhaul cdk.out build *.egg-info htmlcov .coverage .coverage.* \
		.hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Resolves all requirements anew, in an environment of their own, and writes down what came out.
# First one version of every package; then what each environment needs, for all platforms, with every file's hash.
COMPILE := .venv/lock/bin/uv pip compile --quiet --no-config --universal --fork-strategy fewest --python-version 3.11 \
	--custom-compile-command "make lock"
HASHED := $(COMPILE) --generate-hashes --constraints constraints.txt --output-file
lock: .venv/.installed ## Renew constraints.txt, *.lock and package-lock.json after a change of requirements or package.json
	@echo "Resolving requirements*.txt"
	@rm -rf .venv/lock && $(PYTHON) -m venv .venv/lock
	@$(DOWNLOAD) "uv" .venv/lock/bin/python $(LOCKED) -r requirements-tools.lock
	@$(COMPILE) --upgrade --no-annotate --output-file constraints.txt $(REQUIREMENTS)
	@$(HASHED) requirements.lock requirements.txt requirements-dev.txt
	@$(HASHED) requirements-emulator.lock requirements-emulator.txt
	@$(HASHED) requirements-lambda.lock requirements-lambda.txt
	@$(HASHED) requirements-tools.lock requirements-tools.txt
	@$(BIN)/python -I backhaul/toolchain.py npm install --package-lock-only --omit-lockfile-registry-resolved
	@rm -rf .venv/lock

# A stamp is touched last, so an interrupted set-up is taken up again.

.venv/.installed: requirements.lock pyproject.toml
	@echo "Installing the Python packages into .venv/ (takes a minute or two)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Backhaul needs Python 3.11 or later; \
this is %s. Name another with make PYTHON=..." % sys.version.split()[0])'
	@$(PYTHON) -m venv .venv
	@$(DOWNLOAD) "the Python packages" $(BIN)/python $(LOCKED) -r requirements.lock
	@$(DOWNLOAD) "Backhaul itself" $(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/emulator/.installed: requirements-emulator.lock | .venv/.installed
	@echo "Installing the local cloud's own Python packages into .venv/emulator/"
	@$(PYTHON) -m venv --clear .venv/emulator
	@$(DOWNLOAD) "the local cloud's Python packages" .venv/emulator/bin/python $(LOCKED) -r requirements-emulator.lock
	@touch $@

build/wheels/.installed: requirements-lambda.lock constraints.txt | .venv/.installed
	@echo "Fetching the Lambda functions' packages into build/wheels/"
	@$(BIN)/python -m stacks.bundle
	@touch $@

node_modules/.installed: package.json package-lock.json | .venv/.installed
	@echo "Installing the CDK CLI and the policy simulator into node_modules/"
	@$(DOWNLOAD) "the CDK CLI and the policy simulator" $(BIN)/python -I backhaul/toolchain.py npm ci --no-audit --no-fund
	@touch $@
