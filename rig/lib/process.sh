# shellcheck shell=bash
# Which processes are the rig's: told by executable and by what they were
# started with, never by a name alone. A test that merely has the rig's paths
# in its environment is not one of them.

# pids_of_exe PATH: processes that run this executable.
pids_of_exe() {
    # One find: a fork for each process of a busy machine takes seconds. It
    # complains of processes that end meanwhile.
    find /proc -mindepth 2 -maxdepth 2 -path '/proc/[0-9]*' -name exe \
        \( -lname "$1" -o -lname "$1 (deleted)" \) -printf '%h\n' 2>/dev/null | sed 's|^/proc/||' || true
}

# daemon_pid DIR: the pid in DIR.pid if that process is an incusd of DIR.
daemon_pid() {
    local pid
    [ -s "$1.pid" ] || return 1
    pid=$(<"$1.pid")
    [ -d "/proc/$pid" ] && is_incusd_of "$pid" "$1" && printf '%s\n' "$pid"
}

is_incusd_of() {
    local exe
    exe=$(readlink "/proc/$1/exe" 2>/dev/null) || return 1
    [ "${exe% (deleted)}" = "$INCUSD" ] &&
        tr '\0' '\n' 2>/dev/null <"/proc/$1/environ" | grep -qxF "INCUS_DIR=$2"
}

# owns PID TEXT: the process lives and has TEXT among its arguments.
owns() { tr '\0' '\n' 2>/dev/null <"/proc/$1/cmdline" | grep -qF -- "$2"; }

# incus_pids DIR: the daemon of DIR and its helpers (monitors, proxies,
# dnsmasq), without what runs inside of guests.
incus_pids() {
    local pid
    for pid in $(pids_of_exe "$INCUSD"); do
        if is_incusd_of "$pid" "$1" || owns "$pid" "$1/"; then printf '%s\n' "$pid"; fi
    done
    for pid in $(pids_of_exe "$(readlink -f /usr/sbin/dnsmasq)"); do
        if owns "$pid" "$1/networks/"; then printf '%s\n' "$pid"; fi
    done
}

# monitors DIR: of those, the ones that hold a running container.
monitors() {
    local pid
    for pid in $(pids_of_exe "$INCUSD"); do
        if owns "$pid" "[lxc monitor] $1/"; then printf '%s\n' "$pid"; fi
    done
}

# end_pids SECONDS PID...: asks with TERM, then KILLs what is left.
end_pids() {
    local seconds=$1 pid
    shift
    [ $# -gt 0 ] || return 0
    kill -TERM "$@" 2>/dev/null || true
    for pid in "$@"; do
        wait_gone "$pid" "$seconds" || { kill -KILL "$pid" 2>/dev/null && wait_gone "$pid" 10; } || true
    done
}
