#!/bin/bash
# The main process of the container: starts a launch file, and ends only after its nodes have ended.
#
#   launch_and_wait.sh FILE.launch.py [NAME:=VALUE ...]
#
# When the main process of a container ends, all others are killed. `ros2 launch` waits for its nodes only on SIGINT, so
# SIGTERM (docker stop, Kubernetes, systemd) is forwarded to it as SIGINT.
set -m  # or bash would start what runs in the background with SIGINT ignored

signalled=
launch=
hand_on() {
    signalled=1
    test -z "$launch" || kill -INT "$launch" 2>/dev/null
}
trap hand_on TERM INT HUP  # before there is anything to stop: a signal at once would end this process alone
ros2 launch yolov7_trt_ros "$@" &
launch=$!
test -z "$signalled" || hand_on

status=127
while true; do
    signalled=
    wait "$launch"
    waited=$?
    test "$waited" -eq 127 || status=$waited  # 127 also: bash has told its status already
    test -n "$signalled" || exit "$status"  # else a signal may only have interrupted the waiting
done
