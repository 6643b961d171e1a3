# `make demo` and `make test` are all one needs; each first makes .venv where it is missing.

.DEFAULT_GOAL := help
# half a .venv must not count as one
.DELETE_ON_ERROR:
.PHONY: help install demo look serve test test-e2e test-memory lint bench bench-kernels bench-reliability bench-scale mutants fuzz house formats check-wheel test-lowest lock clean

# Give PYTHON=/path/to/python to choose the interpreter; otherwise scripts/find-python looks.
PYTHON ?=

VENV := .venv/bin/python
# Stamps live inside .venv, so that they vanish with it.
RUN_STAMP := .venv/.installed-demo
TEST_STAMP := .venv/.installed-test
VIEWERS_STAMP := .venv/.installed-viewers
BENCH_STAMP := .venv/.installed-bench
MUTANTS_STAMP := .venv/.installed-mutants
LOWEST_STAMP := .venv-lowest/.installed
# Without its Python, removed or upgraded away, a .venv counts as not installed.
$(shell test -x $(VENV) || rm -f $(RUN_STAMP) $(TEST_STAMP) $(VIEWERS_STAMP) $(BENCH_STAMP) \
	$(MUTANTS_STAMP))

# Prefect's database stays inside this folder, and no telemetry leaves it.
demo look serve: export PREFECT_HOME := $(CURDIR)/.prefect
demo look serve test test-e2e test-memory: export PREFECT_SERVER_ANALYTICS_ENABLED := false
demo look serve test test-e2e test-memory: export DO_NOT_TRACK := 1
# Compiled kernels and bytecode are kept for the next run, whatever the caller's shell says.
unexport PYTHONDONTWRITEBYTECODE

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s  %s\n", $$1, $$2 }' Makefile

install: $(RUN_STAMP) ## make .venv with everything that the flows and the demo need

demo: $(RUN_STAMP) ## build a small pyramid, from image file to published OME-Zarr
	@$(VENV) -m ngff_flows.demo

look: $(RUN_STAMP) ## start the Prefect server and see the demo's runs in a browser
	@echo "The runs:  http://127.0.0.1:4200/runs  (Ctrl-C ends the server)"
	@$(VENV) -m prefect server start

serve: $(RUN_STAMP) ## run it all here: server, worker, deployments, automations (Ctrl-C ends it)
	@exec $(VENV) -m deployments.serve $(if $(PORT),--port $(PORT))

test: $(TEST_STAMP) ## run all tests, docstring and README examples included
	@$(VENV) -m pytest --numprocesses=auto --dist=loadgroup $(PYTEST_ARGS)

# Each group has a server of its own, and waits more than it works: hence three on two cores.
test-e2e: $(VIEWERS_STAMP) ## run servers, workers, buckets and browsers as in production (10 minutes)
	@$(VENV) -m pytest -m e2e --numprocesses=3 --dist=loadgroup -rs --durations=0 \
		--durations-min=1 $(wildcard tests/e2e tests/browser) $(PYTEST_ARGS)

test-memory: $(TEST_STAMP) ## build up to 16 GiB and measure the memory that takes (half an hour)
	@$(VENV) -m pytest -m large -s -v -p no:randomly tests/memory $(PYTEST_ARGS)

lint: $(TEST_STAMP) ## check style, format and types
	@status=0; \
	$(VENV) -m ruff check . || status=1; \
	$(VENV) -m ruff format --check . || status=1; \
	$(VENV) -m mypy || status=1; \
	exit $$status

check-wheel: $(TEST_STAMP) ## build the wheel; check types of, and run, a user's script with it
	@sh scripts/check-wheel

test-lowest: $(LOWEST_STAMP) ## run the core's tests with the lowest versions that pyproject.toml allows
	@sh scripts/test-lowest $(PYTEST_ARGS)

fuzz: $(TEST_STAMP) ## damage files of every format and read them (TOTAL=10000 FIRST=0: 3 minutes)
	@$(VENV) -m scripts.fuzz_sources $(if $(TOTAL),--total $(TOTAL)) $(if $(FIRST),--first $(FIRST)) \
		--table docs/bad_input.md $(FUZZ_ARGS)

house: $(TEST_STAMP) ## draw docs/house.md from the imports
	@$(VENV) -m scripts.draw_house

formats: $(TEST_STAMP) ## write the tables of docs/formats.md from files that are made and read
	@$(VENV) -m scripts.draw_formats

bench: $(BENCH_STAMP) ## measure pyramids beside plain copies and other tools (an hour)
	@$(VENV) -m benchmarks.bench $(BENCH_ARGS)

bench-kernels: $(TEST_STAMP) ## measure the kernels of all methods, in Mvoxel/s
	@$(VENV) benchmarks/kernels.py

bench-reliability: $(TEST_STAMP) ## build on buckets under faults and latency (15 minutes)
	@$(VENV) -m benchmarks.reliability $(BENCH_ARGS)

bench-scale: $(TEST_STAMP) ## plan a petabyte and build a million regions without pixels (10 minutes)
	@$(VENV) -m benchmarks.scale

# make mutants MODULES=ngff_core/records SAMPLE=100 SEED=1; without them all mutants of all three.
mutants: $(MUTANTS_STAMP) ## change the code in small ways and see whether its tests notice (SAMPLE=20: minutes)
	@$(VENV) -m scripts.mutants $(MODULES) $(if $(SAMPLE),--sample $(SAMPLE)) \
		$(if $(SEED),--seed $(SEED)) $(MUTANTS_ARGS)

# UPGRADE=1 moves every pin to the newest fit version; without it only what pyproject.toml
# no longer allows moves. The demo's pins bind the tests', so both run the same versions.
COMPILE := .venv/bin/uv pip compile pyproject.toml --quiet --python $(VENV) --universal \
	--python-version 3.12 --no-header --no-annotate --no-emit-package ngff-flows \
	$(if $(UPGRADE),--upgrade)
lock: $(VENV) ## pin all dependencies again in requirements/ (UPGRADE=1: to the newest)
	@test -x .venv/bin/uv || $(VENV) -m pip install --quiet uv
	@$(COMPILE) --extra demo --output-file requirements/demo.txt
	@$(COMPILE) --extra test --constraint requirements/demo.txt --output-file requirements/test.txt
	@$(COMPILE) --extra bench --constraint requirements/test.txt --output-file requirements/bench.txt
	@$(COMPILE) --extra mutants --constraint requirements/test.txt --output-file requirements/mutants.txt
	@$(COMPILE) --extra core-test --resolution lowest-direct --output-file requirements/lowest.txt

clean: ## remove everything that make made
	rm -rf .venv .venv-lowest .mutants .prefect demo dist build benchmarks/.data
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find ngff_flows flows tasks ngff_core deployments tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(VENV):
	$(eval FOUND := $(shell sh scripts/find-python '$(PYTHON)' 2>&1))
	@# a path, or else the line that says what to install: make then adds none of its own
	$(if $(filter /%,$(firstword $(FOUND))),,$(error $(FOUND)))
	@echo "Making .venv with $(FOUND)"
	@"$(FOUND)" -m venv --clear .venv

$(RUN_STAMP): $(VENV) pyproject.toml requirements/demo.txt scripts/install-into-venv
	@echo "Installing what the flows and the demo need (once)"
	@sh scripts/install-into-venv requirements/demo.txt
	@touch $@

# After the run stamp, never beside it: with -j both would write into one environment.
$(TEST_STAMP): $(RUN_STAMP) requirements/test.txt
	@echo "Installing what the tests need (once)"
	@sh scripts/install-into-venv requirements/test.txt
	@touch $@

# After the test stamp for the same reason. Where it cannot be had, its test is skipped.
$(VIEWERS_STAMP): $(TEST_STAMP) requirements/viewers.txt
	@$(VENV) -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
		--requirement requirements/viewers.txt || echo "No viewer: its test will be skipped"
	@touch $@

# After the test stamp for the same reason.
$(BENCH_STAMP): $(TEST_STAMP) requirements/bench.txt
	@echo "Installing what the benchmark measures (once)"
	@sh scripts/install-into-venv requirements/bench.txt
	@touch $@

# After the test stamp for the same reason.
$(MUTANTS_STAMP): $(TEST_STAMP) requirements/mutants.txt
	@echo "Installing what makes the mutants (once)"
	@sh scripts/install-into-venv requirements/mutants.txt
	@touch $@

# An environment of its own, beside .venv. Without a Python 3.12 it stays empty, and its tests are skipped.
$(LOWEST_STAMP): $(TEST_STAMP) requirements/lowest.txt pyproject.toml scripts/install-into-venv
	@sh scripts/test-lowest --install
	@touch $@
