#!/usr/bin/env bash
# Run the tests that need neither ROS nor a GPU on an emulated aarch64 machine: Debian 12 under QEMU's user mode.
#
#   make test-aarch64                              into .aarch64, which is kept for the next run
#   make test-aarch64 AARCH64_FOLDER=/data/arm     into another folder
#   make test-aarch64 ARGS='test/core -x'          other arguments for pytest; default: TESTS below
#
# For root on Debian or Ubuntu. MIRROR=URL names another Debian mirror. All mounts are in the script's own namespace,
# and its processes end with it, no matter how it ends.
set -euo pipefail

SUITE=bookworm
CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$CHECKOUT/tools/script_parts.sh"
FOLDER=${AARCH64_FOLDER:-$CHECKOUT/.aarch64}
MIRROR=${MIRROR:-http://deb.debian.org/debian}
BINFMT=${BINFMT:-/proc/sys/fs/binfmt_misc}
TEST_S=7200  # of one test: emulation takes 20 times as long, and more beside other work
# Where debootstrap sees the system: it resolves no package into a folder whose name has a blank.
PLACE=${PLACE:-/run/yolov7_trt_ros_aarch64}
COPIED=(
    config docs examples launch requirements resource scripts test tools yolov7_trt_ros
    CHANGELOG.rst LICENSE README.md package.xml pyproject.toml setup.cfg setup.py
)
# Left out: nodes (no wheels of ROS 2), PyTorch, and what needs hours of emulation: the power policy and its simulator.
TESTS=(
    test/core test/replay test/report
    test/engine/test_host_kernels.py test/engine/test_kernel_twins.py test/engine/test_trt_detector_emulated.py
    test/engine/test_plan.py test/engine/test_trt_api.py
    test/onnx_tools/test_tensorrt_form.py test/onnx_tools/test_chains.py
    test/power --ignore=test/power/test_policy.py --ignore=test/power/test_simulator.py
    test/cli/test_cli_detect.py test/cli/test_cli_doctor.py test/cli/test_cli_power.py
)

missing() {  # what this machine lacks, a line each
    test "$(id -u)" = 0 || echo "root's rights: sudo make test-aarch64"
    local program
    for program in debootstrap unshare setpriv; do
        command -v $program >/dev/null || echo "$program: apt-get install -y debootstrap util-linux"
    done
    test "$(uname -m)" = aarch64 || is_emulated || echo "programs of aarch64 do not start: $(how_to_emulate)"
}

is_emulated() {  # flag F: the emulator is opened once, so that it need not lie in the emulated system
    grep -qs '^enabled' "$BINFMT/qemu-aarch64" && grep -qs '^flags:.*F' "$BINFMT/qemu-aarch64"
}

how_to_emulate() {
    echo 'apt-get install -y qemu-user-static binfmt-support'
    echo '    and, where nothing mounts it at boot: mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc'
    echo '    and then: update-binfmts --enable qemu-aarch64'
}

make_system() {  # a Debian with Python and a compiler; done again from the start if it was interrupted
    test ! -e "$FOLDER/system.stamp" || return 0
    echo "making a Debian $SUITE for arm64 in $FOLDER (about 2 minutes, 1 GB on disk) ..."
    rm -rf --one-file-system "${FOLDER:?}/root" "$FOLDER/requirements.txt"
    mkdir -p "$FOLDER/root" "$PLACE"
    mount --bind "$FOLDER/root" "$PLACE"
    debootstrap --foreign --arch=arm64 --variant=minbase --include=python3-venv,python3-dev,g++,ca-certificates \
        "$SUITE" "$PLACE" "$MIRROR" > "$FOLDER/debootstrap.log" \
        || { tail -20 "$FOLDER/debootstrap.log"; exit 1; } >&2
    umount --recursive "$PLACE"
    unpack_packages
    touch "$FOLDER/system.stamp"
}

unpack_packages() {  # by this machine's own tar: to set them up takes 11 minutes of emulation, and no test needs it
    local package root=$FOLDER/root
    for package in "$root"/var/cache/apt/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -C "$root" --keep-directory-symlink -xpf -
        rm "$package"
    done
    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
}

mount_system() {  # not /sys: what ONNX Runtime reads there describes the host, and ends it
    mount -t proc proc "$FOLDER/root/proc"
    mkdir -p "$FOLDER/root/dev/shm"
    mount -t tmpfs tmpfs "$FOLDER/root/dev/shm"
}

copy_files() {  # the working tree, and how this machine reaches PyPI
    rm -rf --one-file-system "$FOLDER/root/src"
    mkdir -p "$FOLDER/root/src"
    tar -C "$CHECKOUT" --exclude=__pycache__ -cf - "${COPIED[@]}" | tar -C "$FOLDER/root/src" --no-same-owner -xf -
    cp -L /etc/resolv.conf "$FOLDER/root/etc/resolv.conf"
    local file
    for file in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf; do
        test ! -e $file || cp -L $file "$FOLDER/root$file"
    done
}

inside() {  # run a command in the emulated system, in a copy of the working tree
    local name kept=()
    for name in http_proxy https_proxy no_proxy PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST; do
        test -z "${!name:-}" || kept+=("$name=${!name}")
    done
    chroot "$FOLDER/root" /usr/bin/env -i -C /src HOME=/root LANG=C.UTF-8 QEMU_CPU=cortex-a76 \
        PATH=/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin ${kept[@]+"${kept[@]}"} "$@"
}

install_requirements() {
    cmp -s "$CHECKOUT/requirements/dev.txt" "$FOLDER/requirements.txt" && return 0
    echo 'installing requirements/dev.txt there from PyPI (about 5 minutes) ...'
    inside python3 -m venv /venv
    inside python -m pip install -qq --disable-pip-version-check --no-cache-dir --no-compile \
        -r requirements/dev.txt
    cp "$CHECKOUT/requirements/dev.txt" "$FOLDER/requirements.txt"
}

run_tests() {
    choose_tests
    inside python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
    inside python -c 'import cv2, onnxruntime, numpy, platform
print("aarch64:", platform.machine(), "Python", platform.python_version(), "NumPy", numpy.__version__,
      "OpenCV", cv2.__version__, "ONNX Runtime", onnxruntime.__version__)'
    inside python -m pytest -p no:cacheprovider -o timeout=$TEST_S "${WORDS[@]}"
}

if test "${1:-}" = --in-namespace; then
    make_system
    mount_system
    copy_files
    install_requirements
    run_tests
    exit
fi
refuse_if_missing machine "make test-aarch64"
claim_folder "$FOLDER" AARCH64_FOLDER
export AARCH64_FOLDER=$FOLDER MIRROR ARGS=${ARGS:-}
# unshare takes no notice of SIGTERM; it ends when this shell does, and with it the namespace
setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    "${BASH_SOURCE[0]}" --in-namespace
