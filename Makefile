# Each verb builds what it needs in .venv; PYTHON picks the interpreter.

PYTHON ?= python3
BIN := .venv/bin
BENCHMARK := -o python_files="bench_*.py" --benchmark-enable --benchmark-max-time=0.2 --benchmark-group-by=group \
	--benchmark-columns=median,ops --benchmark-sort=name

# Tasks that start eagerly (asyncio.eager_task_factory) run the handler inside the call that makes them.
EAGER := tests/test_server.py tests/test_server_life.py tests/test_client.py tests/test_uvicorn.py tests/test_vanishing.py

.PHONY: help build test lint types conformance conformance-full fuzz sanitize soak reliability dropin-suites wheels \
	wheels-cross interpreters pypy docs bench bench-peers bench-echo bench-curves bench-guard bench-broadcast clean

help:  ## list the verbs
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 18

.venv/installed: pyproject.toml setup.py wslowlevel/_codec.pyx wslowlevel/_codec.pxd wslowlevel/_kernels.h wslowlevel/aio/_stream.pyx
	$(PYTHON) -m venv .venv
	WSLOWLEVEL_BUILD=$${WSLOWLEVEL_BUILD:-require} $(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,dev]'
	touch $@

build: .venv/installed  ## the environment, with the codec compiled in place

# Most of the time is waiting, so that the two runs stand side by side; what the second says comes after the first.
test: build  ## the whole suite on each backend; the tests of the codec itself run both of them in the first run
	$(BIN)/python -m pytest -q --eager-tasks $(EAGER)
	@WSLOWLEVEL_BACKEND=python $(BIN)/python -m pytest --no-codec > .venv/test-python.log 2>&1 & pure=$$!; \
	WSLOWLEVEL_BACKEND=cython $(BIN)/python -m pytest; compiled=$$?; \
	wait $$pure; pure=$$?; cat .venv/test-python.log; exit $$((compiled | pure))

lint: build  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: build  ## mypy (strict), and stubtest of both backends against _codec.pyi
	$(BIN)/mypy
	$(BIN)/python tests/stubs.py

conformance: build  ## the Autobahn test suite against both roles and both backends: sections 1-7 and 10
	$(BIN)/python -m tests.autobahn.run

conformance-full: build  ## all of its sections: limits, performance and compression too
	$(BIN)/python -m tests.autobahn.run --full

.venv/fuzz: .venv/installed
	WSLOWLEVEL_BUILD=require $(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,dev,fuzz]'
	touch $@

fuzz: .venv/fuzz  ## bytes that break an invariant, sought for SECONDS (60 by default) from the kept corpus on
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

sanitize: build  ## the suite on a build with AddressSanitizer and UndefinedBehaviorSanitizer; half an hour
	$(BIN)/python -m tests.sanitize

soak: build  ## good and bad peers for half an hour: does a server grow?
	$(BIN)/python -m tests.hostile.soak

reliability: .venv/fuzz  ## conformance, hostile peers, fuzzing, sanitizers, soak: an hour, into docs/reliability.md
	$(BIN)/python -m tests.reliability

dropin-suites: build  ## other libraries' own tests, with ours in place and without; a few minutes
	$(BIN)/python -m tests.suites

.venv/wheels: .venv/installed
	WSLOWLEVEL_BUILD=require $(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,dev,wheels]'
	touch $@

wheels: .venv/wheels  ## wheels for every CPython found, tested as a user gets them: over an hour, into build/wheels
	$(BIN)/python -m tests.wheels

.venv/cross: .venv/wheels
	WSLOWLEVEL_BUILD=require $(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,dev,wheels,cross]'
	touch $@

wheels-cross: .venv/cross  ## wheels for aarch64 and musl by zig and musl-gcc, tried there: into build/wheels-cross
	$(BIN)/python -m tests.wheels.cross

interpreters: build  ## the suite on CPython 3.14, 3.15, 3.13 without its global lock, and PyPy; takes root, over an hour
	$(BIN)/python -m tests.interpreters

pypy: build  ## the suite on PyPy alone, a quarter of an hour
	$(BIN)/python -m tests.interpreters pypy3

.venv/docs: .venv/installed
	WSLOWLEVEL_BUILD=require $(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,dev,docs]'
	touch $@

docs: .venv/docs  ## the documentation, with warnings as errors, into build/docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

bench: build  ## the backends compared on this machine, in under two minutes
	$(BIN)/python -m pytest benchmarks $(BENCHMARK)
	WSLOWLEVEL_BACKEND=python $(BIN)/python -m pytest benchmarks/bench_iterate.py $(BENCHMARK)

.venv/bench: .venv/installed
	WSLOWLEVEL_BUILD=require $(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@

bench-peers: .venv/bench  ## everything beside the peers, into benchmarks/results and docs/charts
	$(BIN)/python -m benchmarks.suite

bench-echo: .venv/bench  ## echo servers beside their peers
	$(BIN)/python -m benchmarks.bench_echo

bench-curves: .venv/bench  ## whether the cost is linear in size, fragments, chunks and connections
	$(BIN)/python -m benchmarks.bench_curves
	$(BIN)/python -m benchmarks.bench_memory --servers wslowlevel wslowlevel-python

bench-guard: build  ## whether a fast path has been lost, by ratios inside one run
	$(BIN)/python -m benchmarks.guard

bench-broadcast: build  ## one message to 10,000 connections, beside websockets
	$(BIN)/python -m benchmarks.bench_broadcast

clean:  ## everything that was built
	rm -rf .venv build dist *.egg-info wslowlevel/_codec.c wslowlevel/aio/_stream.c wslowlevel/*.so wslowlevel/aio/*.so
