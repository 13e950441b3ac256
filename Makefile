# Everything below sets itself up on a Debian 12 host (tests/setup.sh); docs/testing.md tells more.
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
SCRIPTS := $(shell git ls-files '*.sh' .ci/run tools/package/p*)
PROBES := $(wildcard probes/*.c probes/include/*.h)

CHAOS_SECONDS ?= 4
WORKERS ?= 4
# Nothing of it was chosen by ARGS: that is 5, and no failure.
all_of = { $(PYTEST) $(1) --junitxml=build/$(2).xml $(ARGS); [ $$? -eq 0 -o $$? -eq 5 ]; }
CATEGORIES := chaos-network chaos-service chaos-database chaos-pms chaos-resource

.PHONY: $(CATEGORIES) chaos-all chaos-resilience chaos-report chaos-monkey chaos-dry-run
.PHONY: help setup test test-vm test-container image demo lint check probes bench install uninstall deb clean
help:
	@echo "make demo      a guided tour: start the booking service, break it, watch it come back"
	@echo "make chaos-CATEGORY     its scenarios against the booking service, a row for each at the end:"
	@echo "                        network, service, database, pms, resource"
	@echo "make chaos-all          every scenario there is"
	@echo "make chaos-dry-run      what each of them would change; nothing is touched"
	@echo "make chaos-resilience   whether retries, circuit breaker, cache and restart do what they are for"
	@echo "make chaos-monkey       the monkey on the booking service, for a minute"
	@echo "make chaos-report       the report of the last of these runs, in every form, in build/chaos"
	@echo "make test      linters, types, unit tests, and host and crash tests on this kernel"
	@echo "make test-vm   host and crash tests on Debian's 6.1 and 6.12 kernels and one with override"
	@echo "make test-container  containers as targets, and chaosd in one, with a Docker Engine of its own"
	@echo "make check     formatting, linters, types, unit tests"
	@echo "make bench     figures: what an injection costs"
	@echo "make probes    compile the eBPF programs, and show their size and what verifying them takes"
	@echo "make install   put chaosd on this host, with its service; make uninstall takes it away"
	@echo "make deb       a Debian package, in build/deb/"
	@echo "make image     chaosd as a container's image, by the Docker Engine that is here"
	@echo "make clean     remove what was built; the cache outside of the tree stays"

setup:
	@tests/setup.sh test

test: setup lint
	@mkdir -p build
	@status=0; \
	$(call all_of,tests/unit tests/host -n $(WORKERS) --dist loadfile --no-loadscope-reorder,host) || status=1; \
	$(call all_of,tests/crash,crash) || status=1; \
	exit $$status

test-vm:
	@tests/setup.sh vm
	$(PYTHON) tests/vm/run.py $(ARGS)

test-container: setup
	@mkdir -p build
	$(PYTEST) tests/container --junitxml=build/container.xml $(ARGS)

demo:
	@tests/setup.sh demo
	@mkdir -p build
	tools/demo.sh

# Each fault lasts CHAOS_SECONDS; with baseline, recovery and pause a scenario takes about eleven seconds.
$(CATEGORIES): chaos-%:
	@tests/setup.sh demo
	$(PYTHON) tools/chaos.py $* --seconds $(CHAOS_SECONDS)

chaos-all:
	@tests/setup.sh demo
	$(PYTHON) tools/chaos.py all --seconds $(CHAOS_SECONDS)

chaos-dry-run:
	@tests/setup.sh demo
	$(PYTHON) tools/chaos.py all --dry-run

chaos-monkey:
	@tests/setup.sh demo
	$(PYTHON) tools/monkey.py

chaos-report:
	@tests/setup.sh demo
	$(PYTHON) tools/report.py

chaos-resilience:
	@tests/setup.sh demo
	$(PYTHON) tools/resilience.py

lint:
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	shellcheck $(SCRIPTS)
	clang-format --dry-run -Werror $(PROBES)

check: setup lint
	$(PYTEST) tests/unit -q

bench: setup
	for bench in tests/bench/bench_*.py; do PYTHONPATH=.:tests/host $(PYTHON) $$bench $(ARGS) || exit 1; done

# Which programs this kernel takes is tried as root, with the environment that make setup makes.
probes:
	$(MAKE) -C probes
	@ls -l chaosd/_probes | awk '/\.o$$/ { print $$9 ": " $$5 " bytes" }'
	@if [ -x $(PYTHON) ] && [ "$$(id -u)" = 0 ]; then $(PYTHON) tools/probe_table.py; fi

install:
	@tests/setup.sh demo
	tools/install.sh stage build/root
	tools/install.sh install build/root

uninstall:
	tools/install.sh uninstall

deb:
	@tests/setup.sh demo
	tools/install.sh deb build/deb

image:
	@tests/setup.sh demo
	tools/install.sh stage build/root
	docker build --tag chaosd .

clean:
	$(MAKE) -C probes clean
	rm -rf build dist .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find chaosd tests -name __pycache__ -prune -exec rm -rf {} +
