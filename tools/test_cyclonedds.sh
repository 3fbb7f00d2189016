#!/usr/bin/env bash
# Run the tests of the nodes with Cyclone DDS instead of Fast DDS, on the wheels of ROS 2 Kilted that `make venv` installs.
#
#   tools/test_cyclonedds.sh                             into .cyclonedds, which is kept for the next run
#   CYCLONEDDS_FOLDER=/data/cdds tools/test_cyclonedds.sh    into another folder
#   ARGS='test/nodes/test_updates.py -x' tools/test_cyclonedds.sh    other arguments for pytest; default: TESTS below
#   CYCLONEDDS=URL RMW_CYCLONEDDS=URL ...                clones of the two repositories, if not from GitHub
#
# There are no wheels of rmw_cyclonedds. It is built here (5 minutes), without security and shared memory, and preloaded:
# its functions then take the place of those of rmw_fastrtps, to which the wheels are linked.
set -euo pipefail

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$CHECKOUT/tools/script_parts.sh"
FOLDER=${CYCLONEDDS_FOLDER:-$CHECKOUT/.cyclonedds}
VENV=${VENV:-$CHECKOUT/.venv}
CYCLONEDDS=${CYCLONEDDS:-https://github.com/eclipse-cyclonedds/cyclonedds.git}
RMW_CYCLONEDDS=${RMW_CYCLONEDDS:-https://github.com/ros2/rmw_cyclonedds.git}
VERSION=releases/0.10.x
RMW_VERSION=3.2.0
RMW_API=(-DRMW_VERSION_MAJOR=7 -DRMW_VERSION_MINOR=8 -DRMW_VERSION_PATCH=2)
# Left out: taking images directly from rcl, which needs numbered messages; Cyclone DDS numbers none.
TESTS=(test/nodes --ignore test/nodes/test_direct_take.py --ignore test/nodes/test_pulled_images.py -k 'not direct')

missing() {  # what this machine lacks, a line each
    local program
    for program in cmake g++ git make; do
        command -v $program >/dev/null || echo "$program: apt-get install -y cmake g++ git make"
    done
    test -f "$VENV/.package.stamp" || echo "$VENV: make venv"
}

build() {
    test ! -e "$FOLDER/built.stamp" || return 0
    echo "building Cyclone DDS and rmw_cyclonedds in $FOLDER (about 5 minutes) ..."
    rm -rf "${FOLDER:?}/cyclonedds" "$FOLDER/rmw" "$FOLDER/objects" "$FOLDER/installed"
    git clone -q --branch "$VERSION" "$CYCLONEDDS" "$FOLDER/cyclonedds"
    git clone -q --branch "$RMW_VERSION" "$RMW_CYCLONEDDS" "$FOLDER/rmw" 2>/dev/null
    cmake -S "$FOLDER/cyclonedds" -B "$FOLDER/objects" -DCMAKE_BUILD_TYPE=Release -DBUILD_IDLC=OFF -DBUILD_DDSPERF=OFF \
        -DCMAKE_INSTALL_PREFIX="$FOLDER/installed" -DENABLE_SHM=OFF -DENABLE_SSL=OFF -DENABLE_SECURITY=OFF \
        > "$FOLDER/build.log"
    cmake --build "$FOLDER/objects" --parallel 2 --target install >> "$FOLDER/build.log"
    build_rmw
    touch "$FOLDER/built.stamp"
}

build_rmw() {  # by hand: the wheels have headers and libraries, but no ament
    local sources=$FOLDER/rmw/rmw_cyclonedds_cpp/src source include flags=()
    # Kilted has this function under another name, and it is not used without security
    sed -i 's#rmw_dds_common/security.hpp#rmw_security_common/security.hpp#' "$sources/rmw_node.cpp"
    sed -i 's#!rmw_dds_common::get_security_files(#RMW_RET_OK != get_security_files_support_pkcs(false,#' "$sources/rmw_node.cpp"
    for include in "$FOLDER/installed/include" "$VENV"/include/*; do
        flags+=("-I$include")
    done
    for source in "$sources"/*.cpp; do
        g++ -std=c++17 -O2 -fPIC -w "${RMW_API[@]}" "${flags[@]}" -c "$source" -o "$FOLDER/objects/$(basename "$source").o"
    done
    g++ -shared -o "$FOLDER/librmw_cyclonedds_cpp.so" "$FOLDER"/objects/*.cpp.o -L"$FOLDER/installed/lib" -L"$VENV/lib" \
        -lddsc -lrmw -lrcutils -lrcpputils -lrmw_dds_common -lrmw_dds_common__rosidl_typesupport_introspection_cpp \
        -lrmw_security_common -lrosidl_typesupport_introspection_cpp -lrosidl_typesupport_introspection_c \
        -lrosidl_runtime_c -ltracetools -Wl,--disable-new-dtags,-rpath,"$FOLDER/installed/lib"
}

run_tests() {
    local libraries
    choose_tests
    libraries=$(find "$VENV"/lib/python*/site-packages -maxdepth 1 -name 'ros_*.libs' | paste -sd:)
    cd "$CHECKOUT"
    export RMW_IMPLEMENTATION=rmw_cyclonedds_cpp AMENT_PREFIX_PATH=$VENV PATH=$VENV/bin:$PATH LD_LIBRARY_PATH=$libraries:$VENV/lib
    # for Python alone, and what it starts: other programs of this machine need no ROS 2
    exec env LD_PRELOAD="$FOLDER/librmw_cyclonedds_cpp.so" REQUIRE_TESTS=nodes python -c '
import sys
import pytest
from rclpy.utilities import get_rmw_implementation_identifier
print(get_rmw_implementation_identifier())
sys.exit(pytest.main(sys.argv[1:]))' -p no:cacheprovider "${WORDS[@]}"
}

refuse_if_missing machine "the tests with Cyclone DDS"
claim_folder "$FOLDER" CYCLONEDDS_FOLDER
build
run_tests
