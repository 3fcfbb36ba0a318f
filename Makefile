# The two commands to begin with: `make demo` and `make test`. CONTRIBUTING.md explains the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the tests run beside edged itself. A test whose program is missing is skipped and says so.
PACKAGES := mosquitto ffmpeg gcc libc6-dev gir1.2-gst-rtsp-server-1.0 python3-gi \
	libportaudio2 libasound2-plugins pulseaudio pulseaudio-utils

.PHONY: help venv demo test test-long check format wheel wheels bench packages clean

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

venv: $(VENV)/.done ## the virtual environment that everything else uses

$(VENV)/.done: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "edged needs Python 3.10 to 3.13; name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "venv is missing: apt-get install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,bench]'
	@touch $@

demo: venv ## see what edged does: 20 seconds, no camera, microphone, broker or download needed
	$(BIN)/edged demo

test: venv packages ## the tests, in less than ten minutes
	$(BIN)/pytest -m "not long"

test-long: venv packages ## those that take longer
	$(BIN)/pytest -m long

check: venv ## ruff, mypy over code and tests, the import law
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_imports.py

format: venv ## let ruff put the code into form
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

wheel: venv ## build the wheel into dist/
	$(BIN)/python -m build --wheel --outdir dist .

wheels: wheel ## whether every dependency has wheels for all platforms (pip's dry run)
	$(BIN)/python -m tools.wheels dist

bench: venv packages ## every benchmark, one after the other
	@for name in dispatch throughput latency start capture motion idle sources io; do $(BIN)/python -m tools.bench $$name || exit 1; done

packages:
	@missing=$$(for one in $(PACKAGES); do dpkg-query -W -f '$${Status}' $$one 2>/dev/null \
		| grep -q 'ok installed' || echo $$one; done | xargs); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then as=env; elif sudo -n true 2>/dev/null; then as=sudo; \
	else echo "missing Debian packages: $$missing (their tests are skipped)"; exit 0; fi; \
	echo "installing $$missing"; $$as apt-get update -qq; \
	$$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null

clean: ## remove what was built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
