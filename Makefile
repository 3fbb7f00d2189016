# One list of commands for people and for continuous integration. `make` alone prints it.
#
#   make venv PYTHON=python3.12             another Python (3.10 to 3.13)
#   make test TORCH_INDEX=                  PyTorch from PyPI, with CUDA: 3 GB more
#   make demo SOURCE=street.mp4 SECONDS=20  an own picture, video or bag, for 20 s
#   make demo ARGS="--help"                 any other option of the demo
#   make test ARGS="-k letterbox -x"        any option of pytest

# Paths are those below the checkout, which may lie anywhere: names of targets cannot hold blanks or quotes.
ifeq (,$(wildcard yolov7_trt_ros/whole_file.py))
$(error run make in the checkout of yolov7_trt_ros, or as: make -C CHECKOUT TARGET)
endif

PYTHON ?= python3
BIN := .venv/bin
# Only what carries this mark, written before anything else, is ever emptied or removed.
MARK := .venv/.made_by_yolov7_trt_ros
# ... or what was made before there was a mark
IS_OURS := { test -f $(MARK) || { test -f .venv/pyvenv.cfg && test -f .venv/.dependencies.stamp; }; }
# -qq keeps pip's notes about itself away; its errors are still shown
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check
ARGS ?=
SOURCE ?=
SECONDS ?=
PLAN ?=
PICTURES ?=
# PyTorch for the tests and checks of the model tools, without CUDA
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

INTERFACES := tools/build_interface_wheel.py tools/vision_msgs vision_msgs 4.1.1+kilted \
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
export AMENT_PREFIX_PATH := $(CURDIR)/.venv
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
.PHONY: help venv demo test check bench gpubench clean distclean
.DELETE_ON_ERROR:

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@sed -n 's/^#   make/  make/p' Makefile

venv: .venv/.package.stamp  ## create .venv with ROS 2 Kilted and everything else; done once

demo: venv  ## watch the detector at work, without any hardware (SOURCE=, SECONDS=, ARGS=)
	@$(BIN)/python -m yolov7_trt_ros demo $${MAKE_SOURCE:+--source="$$MAKE_SOURCE"} \
		$${MAKE_SECONDS:+--seconds="$$MAKE_SECONDS"} $(ARGS)

test: venv .venv/.torch.stamp  ## run all tests (ARGS= for pytest)
	@$(BIN)/python -m pytest $(ARGS)

check: venv .venv/.torch.stamp  ## lint, types and the rules between the folders
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m mypy --strict yolov7_trt_ros
	@$(BIN)/python -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-cache

bench: venv  ## measure the frame path and the transport of images (about 2 minutes)
	@$(BIN)/python benchmarks/frame_path.py
	@$(BIN)/python benchmarks/transport.py

gpubench: venv  ## check and measure the GPU path (PLAN= of batch 1 to 8 at 640, PICTURES= a folder; about 5 minutes)
	@test -n "$$MAKE_PLAN" && test -n "$$MAKE_PICTURES" \
		|| { echo 'usage: make gpubench PLAN=yolov7-tiny.plan PICTURES=val2017'; exit 2; } >&2
	@$(BIN)/python benchmarks/gpu_path.py --plan="$$MAKE_PLAN" --pictures="$$MAKE_PICTURES"
	@$(BIN)/python benchmarks/gpu_correct.py --plan="$$MAKE_PLAN" --pictures="$$MAKE_PICTURES"
	@$(BIN)/python benchmarks/node_latency.py --backend tensorrt --model="$$MAKE_PLAN" --seconds 20

# By the names that pip, setuptools, pytest and the linters give; what else lies in build/ or dist/ stays.
clean:  ## remove what was built and cached, but not .venv
	rm -rf build/lib build/lib.* build/temp.* build/bdist.* build/__editable__.* yolov7_trt_ros.egg-info
	rm -f dist/yolov7_trt_ros-* dist/yolov7-trt-ros-*
	rm -rf .cache/interface_wheels .cache/host_kernels .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@for folder in build dist .cache; do test ! -d $$folder || rmdir $$folder 2>/dev/null \
		|| echo "left: $$folder holds more than this makes"; done
	find benchmarks examples launch test tools yolov7_trt_ros -name __pycache__ -type d -exec rm -rf {} +

distclean: clean  ## remove .venv as well, if make venv has made it
	@if $(IS_OURS); then echo 'rm -rf .venv'; rm -rf .venv; \
	elif test -e .venv || test -L .venv; then \
		echo 'error: .venv was not made by make venv, so it stays; if you want it gone: rm -rf .venv' >&2; exit 1; fi

# ---- the environment, in four steps; each is done again only if something it is made from has changed

# A folder .venv that somebody else has made is neither filled nor emptied.
$(MARK):
	@$(IS_OURS) || test ! -e .venv || { test -d .venv && test -z "$$(ls -A .venv)"; } || { \
		echo 'error: there is a .venv here that make venv has not made, and it stays as it is.'; \
		echo '       Move it away (mv .venv .venv.mine), or work in another checkout.'; exit 1; } >&2
	@command -v "$$MAKE_PYTHON" >/dev/null || { echo "error: no $$MAKE_PYTHON on this machine. On Debian and Ubuntu:"; \
		echo; echo "    sudo apt-get install -y python3 python3-venv python3-dev build-essential"; exit 1; } >&2
	@"$$MAKE_PYTHON" tools/preflight.py
	@mkdir -p .venv
	@echo 'make distclean removes the folder that holds this file' > $@

$(BIN)/python: | $(MARK)
	@echo "creating .venv with $$("$$MAKE_PYTHON" --version) ..."
	@find .venv/ -mindepth 1 ! -path $(MARK) -delete
	@"$$MAKE_PYTHON" -m venv .venv || { rm -rf .venv; exit 1; }

.venv/.dependencies.stamp: requirements/ros-kilted.txt requirements/dev.txt | $(BIN)/python
	@echo "installing ROS 2 Kilted and the tools from PyPI (about two minutes, 1.4 GB on disk) ..."
	@$(PIP_INSTALL) -r requirements/ros-kilted.txt -r requirements/dev.txt
	@touch $@

.venv/.interfaces.stamp: .venv/.dependencies.stamp \
		$(wildcard tools/build_interface_wheel.py tools/interface_wheel/*.py tools/vision_msgs/msg/*.msg)
	@$(BIN)/python $(INTERFACES) --install
	@touch $@

# For the tests and checks alone. Where TORCH_INDEX cannot be reached, PyPI's, which on x86-64 brings CUDA along.
.venv/.torch.stamp: requirements/torch.txt .venv/.dependencies.stamp
	@echo "installing PyTorch for the tests of the model tools (0.8 GB on disk) ..."
	@test -z "$$MAKE_TORCH_INDEX" || $(PIP_INSTALL) --no-deps --retries 0 --timeout 10 \
		--index-url "$$MAKE_TORCH_INDEX" "$$(grep '^torch==' requirements/torch.txt)" 2>/dev/null || true
	@$(PIP_INSTALL) -r requirements/torch.txt
	@$(BIN)/python tools/relative_launchers.py
	@touch $@

# In place: the code that runs is this working tree. An editable install leaves out data_files, so the launch files,
# the configuration and the node scripts are copied into .venv; this step is done again when one of them changes.
.venv/.package.stamp: .venv/.interfaces.stamp setup.py setup.cfg package.xml \
		$(wildcard launch/* config/* scripts/* resource/* tools/relative_launchers.py)
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@rm -rf .venv/share/yolov7_trt_ros .venv/lib/yolov7_trt_ros
	@$(BIN)/python -W ignore setup.py --quiet install_data --install-dir .venv
	@$(BIN)/python tools/relative_launchers.py
	@touch $@
	@echo 'ready. For a shell of your own:  export PATH="$$PWD/.venv/bin:$$PATH" AMENT_PREFIX_PATH="$$PWD/.venv"'
