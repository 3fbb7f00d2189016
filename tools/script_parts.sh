# Sourced by the scripts that run tests in a folder of their own; each has TESTS and a function `missing`.
MARK=.made_by_yolov7_trt_ros

refuse_if_missing() {  # refuse_if_missing WHERE WHAT: say what `missing` prints, a line each, and end
    local lacks
    lacks=$(missing)
    test -n "$lacks" || return 0
    printf 'error: this %s lacks for %s:\n%s\n' "$1" "$2" "$lacks" >&2
    exit 1
}

claim_folder() {  # claim_folder FOLDER VARIABLE: only a folder that is empty, absent or marked is ever filled
    if test -e "$1" && ! test -f "$1/$MARK" && test -n "$(ls -A "$1")"; then
        echo "error: $1 holds what this has not made; name another: $2=FOLDER" >&2
        exit 1
    fi
    mkdir -p "$1"
    echo 'make distclean removes the folder that holds this file' > "$1/$MARK"
}

choose_tests() {  # into WORDS; ARGS is split at blanks, as make does it everywhere else
    WORDS=("${TESTS[@]}")
    test -z "${ARGS:-}" || read -ra WORDS <<< "$ARGS"
}
