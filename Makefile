# One list of commands for people and for continuous integration. `make` alone prints it.
#
#   make venv PYTHON=python3.12             another Python (3.10 to 3.13)
#   make test-jazzy PYTHON=python3.12       the tests on Jazzy, in a separate environment
#   make test TORCH_INDEX=                  PyTorch from PyPI, with CUDA: 3 GB more
#   sudo make test-aarch64 AARCH64_FOLDER=/data/arm  the emulated system in another folder
#   make demo SOURCE=street.mp4 SECONDS=20  your own picture, video or bag, for 20 s
#   make demo ARGS="--help"                 any other option of the demo
#   make test ARGS="-k letterbox -x"        any option of pytest
#   make test WORKERS=0                     one file after the other (for --pdb); else one for each core

# Paths are those below the checkout, which may lie anywhere: names of targets cannot hold blanks or quotes.
ifeq (,$(wildcard yolov7_trt_ros/atomic_file.py))
$(error run make in the checkout of yolov7_trt_ros, or as: make -C CHECKOUT TARGET)
endif

PYTHON ?= python3
# Each ROS 2 distribution has an environment of its own.
ifneq (,$(filter test-jazzy,$(MAKECMDGOALS)))
ifneq (test-jazzy,$(MAKECMDGOALS))
$(error test-jazzy runs alone, for its environment is another: make $(filter-out test-jazzy,$(MAKECMDGOALS)); make test-jazzy)
endif
override DISTRO := jazzy
override VENV := .venv-jazzy
else
override DISTRO := kilted
override VENV := .venv
endif
BIN := $(VENV)/bin
# Only what carries this mark, written before anything else, is ever emptied or removed.
MARK := .made_by_yolov7_trt_ros
# ... or what was made before there was a mark; folder=FOLDER before it
IS_OURS := { test -f $$folder/$(MARK) || { test -f $$folder/pyvenv.cfg && test -f $$folder/.dependencies.stamp; }; }
# -qq keeps pip's notes about itself away; its errors are still shown
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check
SHOW_PROGRESS := $(BIN)/python tools/show_progress.py
ARGS ?=
WORKERS ?= auto
SOURCE ?=
SECONDS ?=
PLAN ?=
PICTURES ?=
# PyTorch for the tests and checks of the model tools, without CUDA
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

INTERFACES := tools/build_interface_wheel.py tools/vision_msgs vision_msgs 4.1.1+$(DISTRO) \
	--depends builtin_interfaces service_msgs std_msgs geometry_msgs \
	--check-hashes test/data/vision_msgs_type_hashes.txt

# Taken as they were typed, blanks, quotes and dollars included; recipes find them in their environment.
export MAKE_PYTHON := $(value PYTHON)
export MAKE_SOURCE := $(value SOURCE)
export MAKE_SECONDS := $(value SECONDS)
export MAKE_PLAN := $(value PLAN)
export MAKE_PICTURES := $(value PICTURES)
export MAKE_TORCH_INDEX := $(value TORCH_INDEX)
unexport PYTHON SOURCE SECONDS PLAN PICTURES TORCH_INDEX

# What runs from here sees this environment and no other ROS that the shell may have sourced.
export AMENT_PREFIX_PATH := $(CURDIR)/$(VENV)
export PATH := $(CURDIR)/$(BIN):$(value PATH)
unexport PYTHONPATH PYTHONHOME _ROS_WHEELS_BOOTSTRAP_COMPLETE ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION
ifneq (,$(findstring /opt/ros/,$(value LD_LIBRARY_PATH)))
export LD_LIBRARY_PATH := $(shell printenv LD_LIBRARY_PATH | tr ':' '\n' | grep -v '^/opt/ros/' | paste -sd:)
endif

# Neither PATH nor a virtual environment can have such a folder, however it is quoted.
define NEWLINE


endef
ifneq (,$(findstring :,$(CURDIR))$(findstring $(NEWLINE),$(CURDIR)))
ifneq (,$(filter-out help clean distclean,$(MAKECMDGOALS)))
$(error this checkout lies in a folder with a colon or a line break in its name, which no PATH can hold: move it)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-jazzy test-aarch64 check bench gpubench clean distclean
.DELETE_ON_ERROR:

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@sed -n 's/^#   make/  make/p' Makefile

venv: $(VENV)/.package.stamp  ## create .venv with ROS 2 Kilted and everything else; done once

demo: venv  ## watch the detector at work, without any hardware (SOURCE=, SECONDS=, ARGS=)
	@$(BIN)/python -m yolov7_trt_ros demo $${MAKE_SOURCE:+--source="$$MAKE_SOURCE"} \
		$${MAKE_SECONDS:+--seconds="$$MAKE_SECONDS"} $(ARGS)

test: venv $(VENV)/.torch.stamp  ## run all tests (ARGS= for pytest, WORKERS=)
	@$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile $(ARGS)

test-jazzy: test  ## run all tests on ROS 2 Jazzy, in .venv-jazzy (PYTHON=, ARGS=)

# No .venv is needed: what runs there is installed there. AARCH64_FOLDER, MIRROR and ARGS reach it by its environment.
test-aarch64:  ## run the tests without ROS on an emulated aarch64 machine (root on Debian, 1 hour; ARGS=)
	@tools/test_aarch64.sh

check: venv $(VENV)/.torch.stamp  ## lint, types and the rules between the folders
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m mypy --strict yolov7_trt_ros
	@$(BIN)/python -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-cache

bench: venv  ## measure the frame path and the transport of images (about 2 minutes)
	@$(BIN)/python benchmarks/frame_path.py
	@$(BIN)/python benchmarks/transport.py

gpubench: venv  ## check and measure the GPU path (PLAN= of batch 1 to 8 at 640, PICTURES= a folder; about 5 minutes)
	@test -n "$$MAKE_PLAN" && test -n "$$MAKE_PICTURES" \
		|| { echo 'usage: make gpubench PLAN=yolov7-tiny.plan PICTURES=val2017'; exit 2; } >&2
	@$(BIN)/python benchmarks/gpu_path.py --plan="$$MAKE_PLAN" --pictures="$$MAKE_PICTURES" --tiles 2
	@$(BIN)/python benchmarks/gpu_correct.py --plan="$$MAKE_PLAN" --pictures="$$MAKE_PICTURES"
	@$(BIN)/python benchmarks/node_latency.py --backend tensorrt --model="$$MAKE_PLAN" --seconds 20

# By the names that pip, setuptools, pytest and the linters give; what else lies in build/ or dist/ stays.
clean:  ## remove what was built and cached, but no environment
	rm -rf build/lib build/lib.* build/temp.* build/bdist.* build/__editable__.* yolov7_trt_ros.egg-info
	rm -f dist/yolov7_trt_ros-* dist/yolov7-trt-ros-*
	rm -rf .cache/interface_wheels .cache/host_kernels .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@for folder in build dist .cache; do test ! -d $$folder || rmdir $$folder 2>/dev/null \
		|| echo "left: $$folder holds more than this makes"; done
	find benchmarks examples launch test tools yolov7_trt_ros -name __pycache__ -type d -exec rm -rf {} +

distclean: clean  ## remove .venv, .venv-jazzy, .venv-sourced, .aarch64 and .cyclonedds as well, if this has made them
	@status=0; for folder in .venv .venv-jazzy .venv-sourced .aarch64 .cyclonedds; do \
		if $(IS_OURS); then echo "rm -rf $$folder"; rm -rf $$folder; \
		elif test -e $$folder || test -L $$folder; then status=1; \
			echo "error: $$folder was not made by make venv or a script of tools/, so it stays; if you want it gone: rm -rf $$folder" >&2; \
		fi; done; exit $$status

# ---- the environment, in four steps; each is done again only if something it is made from has changed

# A folder of that name that somebody else has made is neither filled nor emptied.
$(VENV)/$(MARK):
	@folder=$(VENV); $(IS_OURS) || test ! -e $(VENV) || { test -d $(VENV) && test -z "$$(ls -A $(VENV))"; } || { \
		echo 'error: there is a $(VENV) here that make venv has not made, and it stays as it is.'; \
		echo '       Move it away (mv $(VENV) $(VENV).mine), or work in another checkout.'; exit 1; } >&2
	@command -v "$$MAKE_PYTHON" >/dev/null || { echo "error: no $$MAKE_PYTHON on this machine. On Debian and Ubuntu:"; \
		echo; echo "    sudo apt-get install -y python3 python3-venv python3-dev build-essential"; exit 1; } >&2
	@"$$MAKE_PYTHON" tools/preflight.py
	@mkdir -p $(VENV)
	@echo 'make distclean removes the folder that holds this file' > $@

$(BIN)/python: | $(VENV)/$(MARK)
	@echo "creating $(VENV) with $$("$$MAKE_PYTHON" --version) ..."
	@find $(VENV)/ -mindepth 1 ! -path $(VENV)/$(MARK) -delete
	@"$$MAKE_PYTHON" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.dependencies.stamp: requirements/ros-$(DISTRO).txt requirements/dev.txt | $(BIN)/python
	@echo "installing ROS 2 $(DISTRO) and the tools from PyPI (about two minutes, 1.4 GB on disk) ..."
	@$(SHOW_PROGRESS) $(PIP_INSTALL) -r requirements/ros-$(DISTRO).txt -r requirements/dev.txt
	@touch $@

$(VENV)/.interfaces.stamp: $(VENV)/.dependencies.stamp \
		$(wildcard tools/build_interface_wheel.py tools/interface_wheel/*.py tools/vision_msgs/msg/*.msg)
	@$(BIN)/python $(INTERFACES) --install
	@touch $@

# For the tests and checks alone. Where TORCH_INDEX cannot be reached, PyPI's, which on x86-64 brings CUDA along.
$(VENV)/.torch.stamp: requirements/torch.txt $(VENV)/.dependencies.stamp
	@echo "installing PyTorch for the tests of the model tools (0.8 GB on disk) ..."
	@test -z "$$MAKE_TORCH_INDEX" || $(PIP_INSTALL) --no-deps --retries 0 --timeout 10 \
		--index-url "$$MAKE_TORCH_INDEX" "$$(grep '^torch==' requirements/torch.txt)" 2>/dev/null || true
	@$(SHOW_PROGRESS) $(PIP_INSTALL) -r requirements/torch.txt
	@$(BIN)/python tools/relative_launchers.py
	@touch $@

# In place: the code that runs is this working tree. An editable install leaves out data_files, so the launch files,
# the configuration and the node scripts are copied into it; this step is done again when one of them changes.
$(VENV)/.package.stamp: $(VENV)/.interfaces.stamp setup.py setup.cfg package.xml \
		$(wildcard launch/* config/* scripts/* resource/* tools/relative_launchers.py)
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@rm -rf $(VENV)/share/yolov7_trt_ros $(VENV)/lib/yolov7_trt_ros
	@$(BIN)/python -W ignore setup.py --quiet install_data --install-dir $(VENV)
	@$(BIN)/python tools/relative_launchers.py
	@touch $@
	@echo 'ready. For a shell of your own:  export PATH="$$PWD/$(BIN):$$PATH" AMENT_PREFIX_PATH="$$PWD/$(VENV)"'
