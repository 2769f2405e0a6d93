# shellcheck shell=bash
# shellcheck disable=SC2034 # these names are for the other files
# Names, paths and small helpers every part of the rig shares.
#
# Everything a rig owns is derived from its id and its slot: see slot.sh.

export LC_ALL=C.UTF-8
export DEBIAN_FRONTEND=noninteractive
export PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

RIG_ROOT=${PIXELS_RIG_DIR:-/var/lib/pixels-rig}
RIG_ID=${PIXELS_RIG_ID:-default}
# Reservations are for the whole machine, whatever RIG_ROOT a run chose:
# bridges, subnets and ports are.
RIG_RUN=/run/pixels-rig
INCUSD=/usr/libexec/incus/incusd

say() { printf 'rig: %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

# Sets every path that follows from the id; refuses ids that could not be
# part of a file name.
set_paths() {
    [[ $RIG_ID =~ ^[a-z0-9][a-z0-9-]{0,23}$ ]] ||
        die "invalid rig id '$RIG_ID'" "use 1 to 24 of a-z, 0-9 and '-'"
    [[ $RIG_ROOT =~ ^/[A-Za-z0-9._/-]+$ ]] ||
        die "invalid rig directory '$RIG_ROOT'" "PIXELS_RIG_DIR must be absolute, without spaces"
    RIG_CACHE=$RIG_ROOT/cache
    STATE=$RIG_ROOT/$RIG_ID
    [ "$RIG_ID" != cache ] || die "the rig id 'cache' is taken"
    SERVER_DIR=$STATE/incus
    CLUSTER=$STATE/cluster
    # sun_path holds 107 bytes; the cluster's sockets have the longest names.
    local longest=$CLUSTER/n1/incus/unix.socket
    [ ${#longest} -le 107 ] ||
        die "rig directory too long for a unix socket: $RIG_ROOT" "set PIXELS_RIG_DIR to a shorter path"
}

need_root() { [ "$(id -u)" = 0 ] || die "the rig needs root" "run it with sudo"; }

# Only one rig command at a time works on one id; the lock goes away with this
# process. Daemons never inherit it: spawn closes it.
lock_rig() {
    mkdir -p "$RIG_RUN"
    exec 9>"$RIG_RUN/lock.$RIG_ID"
    flock -w 900 9 || die "another rig command holds the lock of '$RIG_ID'"
}

# spawn LOG COMMAND...: starts a daemon in a session of its own, with none of
# the caller's file descriptors, a small clean environment and default signal
# dispositions (a background child of bash ignores SIGINT, and every process
# of every guest would inherit that). Its pid is left in SPAWNED.
spawn() {
    local log=$1
    shift
    (
        exec </dev/null >>"$log" 2>&1
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            [ "$fd" -le 2 ] || eval "exec $fd>&-"
        done
        cd /
        ulimit -n "$(ulimit -Hn)" || true
        exec env -i --default-signal=INT,QUIT,PIPE,HUP PATH="$PATH" HOME=/root LANG=C.UTF-8 \
            ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
            ${no_proxy:+no_proxy="$no_proxy"} setsid "$@"
    ) &
    SPAWNED=$!
    disown "$SPAWNED" 2>/dev/null || true
}

# gone PID: no such process, or one that only waits to be reaped: on a machine
# without a proper init that can take seconds, and means nothing.
gone() {
    local state
    state=$(sed -nE 's/^State:[[:space:]]+(.).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 0
    [[ $state != [!ZX] ]]
}

# wait_gone PID SECONDS: waits for that; false if it takes longer.
wait_gone() {
    local deadline=$((SECONDS + $2))
    until gone "$1"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.02
    done
}

# put FILE MODE: writes standard input to FILE in one step.
put() {
    local tmp=$1.tmp.$$
    (umask 077 && cat >"$tmp")
    chmod "$2" "$tmp"
    mv -f "$tmp" "$1"
}
