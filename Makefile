# One list of commands for people and for continuous integration. `make` alone prints it.
#
#   make venv PYTHON=python3.12             another Python (3.10 to 3.13)
#   make test TORCH_INDEX=                  PyTorch from PyPI, with CUDA: 3 GB more
#   make demo SOURCE=street.mp4 SECONDS=20  an own picture, video or bag, for 20 s
#   make demo ARGS="--help"                 any other option of the demo
#   make test ARGS="-k letterbox -x"        any option of pytest

PYTHON ?= python3
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
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

# What runs from here sees this environment and no other ROS that the shell may have sourced.
export AMENT_PREFIX_PATH := $(VENV)
export PATH := $(BIN):$(PATH)
unexport PYTHONPATH PYTHONHOME _ROS_WHEELS_BOOTSTRAP_COMPLETE ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION
ifneq (,$(findstring /opt/ros/,$(LD_LIBRARY_PATH)))
export LD_LIBRARY_PATH := $(shell echo '$(LD_LIBRARY_PATH)' | tr ':' '\n' | grep -v '^/opt/ros/' | paste -sd:)
endif

.DEFAULT_GOAL := help
.PHONY: help venv demo test check bench gpubench clean distclean
.DELETE_ON_ERROR:

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@sed -n 's/^#   make/  make/p' $(firstword $(MAKEFILE_LIST))

venv: $(VENV)/.package.stamp  ## create .venv with ROS 2 Kilted and everything else; done once

demo: venv  ## watch the detector at work, without any hardware (SOURCE=, SECONDS=, ARGS=)
	@$(BIN)/python -m yolov7_trt_ros demo \
		$(if $(SOURCE),--source '$(SOURCE)') $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

test: venv $(VENV)/.torch.stamp  ## run all tests (ARGS= for pytest)
	@$(BIN)/python -m pytest $(ARGS)

check: venv $(VENV)/.torch.stamp  ## lint, types and the rules between the folders
	@$(BIN)/ruff check .
	@$(BIN)/mypy --strict yolov7_trt_ros
	@$(BIN)/lint-imports --no-cache

bench: venv  ## measure the frame path and the transport of images (about 2 minutes)
	@$(BIN)/python benchmarks/frame_path.py
	@$(BIN)/python benchmarks/transport.py

gpubench: venv  ## check and measure the GPU path (PLAN= of batch 1 to 8 at 640, PICTURES= a folder; about 5 minutes)
	@test -n '$(PLAN)' -a -n '$(PICTURES)' || { echo 'usage: make gpubench PLAN=yolov7-tiny.plan PICTURES=val2017'; exit 2; } >&2
	@$(BIN)/python benchmarks/gpu_path.py --plan '$(PLAN)' --pictures '$(PICTURES)'
	@$(BIN)/python benchmarks/gpu_correct.py --plan '$(PLAN)' --pictures '$(PICTURES)'
	@$(BIN)/python benchmarks/node_latency.py --backend tensorrt --model '$(PLAN)' --seconds 20

clean:  ## remove what was built and cached, but not .venv
	rm -rf build dist *.egg-info .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean  ## remove .venv as well
	rm -rf $(VENV)

# ---- the environment, in three steps; each is done again only if something it is made from has changed

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) on this machine. On Debian and Ubuntu:"; \
		echo; echo "    sudo apt-get install -y python3 python3-venv python3-dev build-essential"; exit 1; } >&2
	@$(PYTHON) tools/preflight.py
	@echo "creating .venv with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.dependencies.stamp: requirements/ros-kilted.txt requirements/dev.txt | $(BIN)/python
	@echo "installing ROS 2 Kilted and the tools from PyPI (about two minutes, 1.4 GB on disk) ..."
	@$(PIP_INSTALL) -r requirements/ros-kilted.txt -r requirements/dev.txt
	@touch $@

$(VENV)/.interfaces.stamp: $(VENV)/.dependencies.stamp \
		$(wildcard tools/build_interface_wheel.py tools/interface_wheel/*.py tools/vision_msgs/msg/*.msg)
	@$(BIN)/python $(INTERFACES) --install
	@touch $@

# For the tests and checks alone. Where TORCH_INDEX cannot be reached, PyPI's, which on x86-64 brings CUDA along.
$(VENV)/.torch.stamp: requirements/torch.txt $(VENV)/.dependencies.stamp
	@echo "installing PyTorch for the tests of the model tools (0.8 GB on disk) ..."
	@$(if $(TORCH_INDEX),$(PIP_INSTALL) --no-deps --retries 0 --timeout 10 --index-url '$(TORCH_INDEX)' \
		"$$(grep '^torch==' requirements/torch.txt)" 2>/dev/null || true)
	@$(PIP_INSTALL) -r requirements/torch.txt
	@touch $@

# In place: the code that runs is this working tree. An editable install leaves out data_files, so the launch files,
# the configuration and the node scripts are copied into .venv; this step is done again when one of them changes.
$(VENV)/.package.stamp: $(VENV)/.interfaces.stamp setup.py setup.cfg package.xml \
		$(wildcard launch/* config/* scripts/* resource/*)
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@rm -rf $(VENV)/share/yolov7_trt_ros $(VENV)/lib/yolov7_trt_ros
	@$(BIN)/python -W ignore setup.py --quiet install_data --install-dir $(VENV)
	@touch $@
	@echo "ready. For a shell of your own:  . .venv/bin/activate; export AMENT_PREFIX_PATH=$$PWD/.venv"
