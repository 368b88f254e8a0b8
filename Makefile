# Each verb builds what it needs in .venv; PYTHON picks the interpreter.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help build test lint types conformance conformance-full bench bench-broadcast clean

help:  ## list the verbs
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 18

.venv/installed: pyproject.toml setup.py wslowlevel/_codec.pyx wslowlevel/_codec.pxd wslowlevel/_kernels.h
	$(PYTHON) -m venv .venv
	WSLOWLEVEL_BUILD=$${WSLOWLEVEL_BUILD:-require} $(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,dev]'
	touch $@

build: .venv/installed  ## the environment, with the codec compiled in place

test: build  ## the whole suite on each backend; the tests of the codec itself run both of them in the first pass
	WSLOWLEVEL_BACKEND=cython $(BIN)/python -m pytest
	WSLOWLEVEL_BACKEND=python $(BIN)/python -m pytest --no-codec

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

bench: build  ## the backends compared on this machine
	$(BIN)/python -m pytest benchmarks -o python_files="bench_*.py" --benchmark-enable --benchmark-max-time=0.3 \
		--benchmark-columns=median,ops --benchmark-group-by=group --benchmark-sort=name

bench-broadcast: build  ## one message to 10,000 connections, beside websockets
	$(BIN)/python -m benchmarks.bench_broadcast

clean:  ## everything that was built
	rm -rf .venv build dist *.egg-info wslowlevel/_codec.c wslowlevel/*.so
