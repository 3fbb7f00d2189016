#!/bin/bash
# The main process of the container: starts a launch file, and ends only after its nodes have ended.
#
#   launch_and_wait.sh FILE.launch.py [NAME:=VALUE ...]
#
# With the main process everything in a container ends at once. `ros2 launch` waits for its nodes on SIGINT alone, so
# SIGTERM (docker stop, Kubernetes, systemd) is handed on to it as SIGINT.
set -m  # or bash would start what runs in the background with SIGINT ignored
ros2 launch yolov7_trt_ros "$@" &
launch=$!
trap 'kill -INT "$launch" 2>/dev/null' TERM INT HUP

while true; do
    wait "$launch"
    status=$?
    kill -0 "$launch" 2>/dev/null || exit "$status"  # else a signal has only interrupted the waiting
done
