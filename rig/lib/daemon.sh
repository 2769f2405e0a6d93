# shellcheck shell=bash
# One incusd: started, found again, asked, ended. DIR is always its INCUS_DIR;
# beside it lie DIR.pid and DIR.log.

TIMED=()

# incus_at DIR ARGS...: the incus client on that daemon, with a configuration
# directory of its own so that nobody's home is touched.
incus_at() {
    local dir=$1
    shift
    env -u INCUS_REMOTE -u INCUS_PROJECT -u XDG_CACHE_HOME HOME="$STATE/client" INCUS_CONF="$STATE/client" \
        INCUS_DIR="$dir" INCUS_SOCKET="$dir/unix.socket" "${TIMED[@]}" incus "$@"
}

# timed SECONDS DIR ARGS...: the same, but never longer than that.
timed() {
    local TIMED=(timeout "$1")
    shift
    incus_at "$@"
}

answers() {
    [ -S "$1/unix.socket" ] && timed 10 "$1" query /1.0 >/dev/null 2>&1
}

# start_daemon DIR [WRAPPER...]: starts the daemon unless it runs, and returns
# once it is ready. WRAPPER enters the namespaces a cluster member lives in.
start_daemon() {
    local dir=$1 pid
    shift
    mkdir -p "$dir" "$STATE/client"
    chmod 0711 "$dir"
    if ! pid=$(daemon_pid "$dir"); then
        spawn "$dir.log" "$@" env INCUS_DIR="$dir" INCUS_SKIP_INSTANCE_TYPES=true \
            "$INCUSD" --group incus-admin --logfile "$dir/incusd.log"
        pid=$SPAWNED
        printf '%s\n' "$pid" | put "$dir.pid" 0600
    fi
    INCUS_DIR=$dir "$INCUSD" waitready --timeout=120 >/dev/null 2>&1 || {
        tail -n 15 "$dir.log" "$dir/incusd.log" >&2 || true
        die "incusd did not become ready" "its log is $dir/incusd.log"
    }
    daemon_pid "$dir" >/dev/null || die "incusd ended while starting" "its log is $dir/incusd.log"
}

# stop_daemon DIR: guests stay up, as at an upgrade of the package.
stop_daemon() {
    local pid
    pid=$(daemon_pid "$1") || return 0
    end_pids 60 "$pid"
}

# kill_daemon DIR: the fault; nothing gets to tidy up.
kill_daemon() {
    local pid
    pid=$(daemon_pid "$1") || die "no incusd of '$RIG_ID' is running"
    kill -KILL "$pid"
    wait_gone "$pid" 10 || die "incusd $pid survived a kill"
}
