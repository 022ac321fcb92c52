# bin/up and bin/test for those who like make, and the verbs that only developers need.
PYTHON := .venv/bin/python
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url

.DEFAULT_GOAL := up
.PHONY: up test check bench soak lock

up:
	@bin/up

test:
	@bin/test

# Everything that must hold before a commit.
check:
	@bin/install dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTHON) manage.py makemigrations --check --dry-run
	@bin/test

# How fast, beside yardsticks of the same run; needs redis-benchmark (Debian: redis-tools).
bench:
	@bin/install dev
	$(PYTHON) -m tests.benchmarks

# The production topology under mixed traffic for 15 minutes; needs PostgreSQL and redis-server.
soak:
	@bin/install dev
	$(PYTHON) -m tests.soak

# Locks with hashes for every platform, readable by plain pip. Needs uv on PATH.
lock:
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(LOCK) requirements.in --output-file requirements.txt
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(LOCK) requirements-dev.in --output-file requirements-dev.txt
