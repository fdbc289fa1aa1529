# make demo, make test, make test-arm64, make check, make survive, make bench. Everything needed is set up on the first run.
PYTHON ?= python3

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-arm64 check survive bench programs runtimes

BIN := .venv/bin
PIP_INSTALL := -m pip --disable-pip-version-check install -qq
# What goes into the wheel: the two gateway environments must never test an older state than the checkout's.
SOURCES := $(shell find edge train converters firmware_config -type f -not -path '*/__pycache__/*') README.md LICENSE

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1	/p' $(MAKEFILE_LIST)

demo: .venv/.ready-to-run ## the whole way on this machine: data, training, int8, broker, agent, alarms
	@$(BIN)/edge-vae demo

# Files are kept together: a model that is trained for a file is trained once. Their order is that of tests/conftest.py.
test: programs $(BIN)/promtool runtimes check ## everything that is checked, and all tests
	@$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

test-arm64: .arm64/.ready ## the same scores and alarms on an emulated Raspberry Pi as here
	@$(BIN)/pytest -m arm64 tests/arm64

check: .venv/.ready-to-develop ## format, lint, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/mypy firmware_config/subscribers
	@$(BIN)/lint-imports

survive: programs .venv/.ready-to-develop ## agent and broker killed, frozen, cut off, again and again, and what became of the alarms
	@PYTHONPATH=tests $(BIN)/python -m survival $(SURVIVE)

bench: .venv/.ready-to-develop ## every benchmark, one table each
	@found=; for file in benchmarks/*.py; do test -e "$$file" || continue; \
	  found=yes; echo "== $$file"; $(BIN)/python "$$file" || exit 1; done; \
	test -n "$$found" || echo "There is no benchmark in benchmarks/ yet."

# What tests run that pip cannot install. sbin is where Debian keeps the broker, and not on every user's PATH.
programs:
	@PATH="$$PATH:/usr/local/sbin:/usr/sbin"; missing=; \
	for pair in mosquitto:mosquitto mosquitto_sub:mosquitto-clients systemd-analyze:systemd gcc:gcc,libc6-dev; do \
	  command -v "$${pair%%:*}" >/dev/null || missing="$$missing $$(echo "$${pair#*:}" | tr , ' ')"; done; \
	test -n "$$missing" || exit 0; \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
	  echo "Installing$$missing"; export DEBIAN_FRONTEND=noninteractive; \
	  log=$$(apt-get -qq update 2>&1 && apt-get -qq install -y --no-install-recommends $$missing 2>&1) && exit 0; \
	  echo "$$log"; fi; \
	echo "Tests that need them will fail. Install them with: sudo apt-get install$$missing"

# promtool alone, out of Debian's package: the rest of it is a server that would start on this machine.
$(BIN)/promtool: | $(BIN)/python
	@command -v promtool >/dev/null && exit 0; echo "Unpacking promtool into .venv"; \
	folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	download() { (cd "$$folder" && apt-get -qq -o APT::Sandbox::User=root download prometheus); }; \
	{ download 2>/dev/null || { apt-get -qq update && download; }; } && \
	dpkg-deb --fsys-tarfile "$$folder"/prometheus_*.deb | tar -x -O ./usr/bin/promtool >"$$folder/promtool" && \
	chmod +x "$$folder/promtool" && mv "$$folder/promtool" $@ || \
	echo "Tests that need promtool will fail. Install it with: sudo apt-get install prometheus"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	  { echo "$(PYTHON) is not Python 3.10 or later: $$($(PYTHON) --version 2>&1). Name one with: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments. Install what is missing: sudo apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/.ready-to-run: pyproject.toml | $(BIN)/python
	@echo "Installing edge-vae with TensorFlow into .venv; takes minutes, once"
	@$(BIN)/python $(PIP_INSTALL) -e '.[all]'
	@touch $@

.venv/.ready-to-develop: pyproject.toml | $(BIN)/python
	@echo "Installing edge-vae with TensorFlow and the tools for development into .venv; takes minutes, once"
	@$(BIN)/python $(PIP_INSTALL) -e '.[dev]'
	@touch $@ .venv/.ready-to-run

# A gateway has one of two TFLite runtimes, and neither of them can be tested beside TensorFlow. The third runs the
# kernels of a microcontroller.
runtimes: .venv-device/.ready .venv-tflite/.ready .venv-tflm/.ready

.venv/wheel/.built: $(SOURCES) .venv/.ready-to-develop
	@rm -rf $(@D)
	@$(BIN)/python -m pip --disable-pip-version-check wheel -qq --no-deps --no-build-isolation --wheel-dir $(@D) .
	@touch $@

.venv-device/.ready: .venv/wheel/.built
	@echo "Installing what a gateway gets into .venv-device"
	@test -x .venv-device/bin/python || $(BIN)/python -m venv .venv-device
	@.venv-device/bin/python -m pip uninstall -qq --yes edge-vae
	@.venv-device/bin/python $(PIP_INSTALL) .venv/wheel/*.whl
	@touch $@

# The same with the older runtime in LiteRT's place; it has no wheels for Python 3.12 and later, where its tests say so.
.venv-tflite/.ready: .venv/wheel/.built
	@test -x .venv-tflite/bin/python || $(BIN)/python -m venv .venv-tflite
	@if .venv-tflite/bin/python -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then \
	  echo "Installing a gateway with tflite-runtime into .venv-tflite" && \
	  $(BIN)/python -c "from importlib.metadata import requires; print(*(line for line in requires('edge-vae') \
	    if 'extra ==' not in line and 'litert' not in line), sep='\n')" >.venv-tflite/requirements.txt && \
	  .venv-tflite/bin/python -m pip uninstall -qq --yes edge-vae && \
	  .venv-tflite/bin/python $(PIP_INSTALL) 'tflite-runtime==2.14.*' 'numpy<2' -r .venv-tflite/requirements.txt && \
	  .venv-tflite/bin/python $(PIP_INSTALL) --no-deps .venv/wheel/*.whl; fi
	@touch $@

# An arm64 Python with what a gateway installs, and an emulator for it.
.arm64/.ready: tests/arm64/make_root.sh pyproject.toml | .venv/.ready-to-develop
	@echo "Unpacking an arm64 Python and an emulator into .arm64; takes a minute, once"
	@sh tests/arm64/make_root.sh $(abspath $(BIN)/python) .arm64
	@touch $@

# The kernels that microcontrollers run, on this machine; wheels are for x86-64 and Python 3.10 to 3.13, and elsewhere the
# tests say so. The arena that is computed was measured with this version.
.venv-tflm/.ready: | $(BIN)/python
	@test -x .venv-tflm/bin/python || $(BIN)/python -m venv .venv-tflm
	@if .venv-tflm/bin/python -c 'import platform, sys; sys.exit(sys.version_info >= (3, 14) or platform.machine() != "x86_64")'; then \
	  echo "Installing TensorFlow Lite Micro into .venv-tflm" && \
	  .venv-tflm/bin/python $(PIP_INSTALL) 'tflite-micro==0.dev20261023182759'; fi
	@touch $@
