# shellcheck shell=bash
# Taking everything away again, whatever state it is in.

# Every mount below a directory, deepest and latest first.
unmount_under() {
    local at
    awk -v d="$1/" 'index($5 "/", d) == 1 { print $5 }' /proc/self/mountinfo | tac |
        while read -r at; do
            at=$(printf '%b' "$at")
            umount "$at" 2>/dev/null || umount -l "$at" 2>/dev/null || true
        done
}

detach_loops() {
    losetup -ln -O NAME,BACK-FILE 2>/dev/null | awk -v d="$1/" 'index($2, d) == 1 { print $1 }' |
        while read -r loop; do losetup -d "$loop" 2>/dev/null || true; done
}

# Stops every instance of a daemon that answers: its own teardown also takes
# away veths, filters and control groups.
stop_instances() {
    local dir=$1 project
    answers "$dir" || return 0
    incus_at "$dir" project list -f csv -c n 2>/dev/null | sed 's/ (current)$//' | while read -r project; do
        timed 120 "$dir" stop --project "$project" --all --force </dev/null >/dev/null 2>&1 || true
    done
}

# Ends what still runs of DIR and removes the control groups it leaves.
end_everything() {
    local dir=$1 pid child children groups=()
    for pid in $(monitors "$dir"); do
        read -r -a children <"/proc/$pid/task/$pid/children" || true
        for child in "$pid" "${children[@]}"; do
            mapfile -t -O "${#groups[@]}" groups < <(group_dirs "$child")
        done
        # The container's init: with it goes all of its pid namespace, and the
        # monitor follows after its own teardown.
        [ ${#children[@]} = 0 ] || kill -KILL "${children[@]}" 2>/dev/null || true
        wait_gone "$pid" 10 || true
    done
    # shellcheck disable=SC2046 # pids, one word each
    end_pids 10 $(incus_pids "$dir")
    local group
    for group in "${groups[@]}"; do
        [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    done
}

# group_dirs PID: the lxc control groups a process is in, as directories.
group_dirs() {
    local controllers path name
    while IFS=: read -r _ controllers path; do
        path=$(grep -oE '^.*/lxc\.(payload|monitor)\.[^/]+' <<<"$path") || continue
        for name in "${controllers#name=}" unified ''; do
            if [ -d "/sys/fs/cgroup/$name$path" ]; then printf '%s\n' "/sys/fs/cgroup/$name$path"; fi
        done
    done <"/proc/$1/cgroup" 2>/dev/null
}

# nft_chains FAMILY: the chains of Incus's table of that family.
nft_chains() {
    { nft list table "$1" incus 2>/dev/null || true; } | awk '$1 == "chain" { print $2 }'
}

# Bridges of the daemon's managed networks, and their nftables chains.
remove_networks() {
    local dir=$1 name family chain port
    for name in "$dir"/networks/*/; do
        name=$(basename "$name")
        for family in inet bridge ip ip6; do
            for chain in $(nft_chains "$family"); do
                case $chain in *."$name") nft delete chain "$family" incus "$chain" 2>/dev/null || true ;; esac
            done
        done
        [ -d "/sys/class/net/$name/bridge" ] || continue
        # When no daemon was there to see a guest end, both ends of its device
        # are back on the host.
        for port in "/sys/class/net/$name/brif"/veth*; do
            [ ! -e "$port" ] || ip link delete "${port##*/}" 2>/dev/null || true
        done
        ip link delete "$name" 2>/dev/null || true
    done
}

# liblxc keeps a directory of locks per path of containers.
forget_lxc() {
    local locks=/run/lxc/lock$1/containers
    if [ -d "$locks" ]; then
        rm -rf "$locks"
        (cd /run && rmdir -p --ignore-fail-on-non-empty "lxc/lock$1")
    fi
}

clean_server() {
    stop_instances "$SERVER_DIR"
    stop_daemon "$SERVER_DIR"
    end_everything "$SERVER_DIR"
    remove_networks "$SERVER_DIR"
    if streams_healthy; then end_pids 5 "$(<"$STATE/streams.pid")"; fi
    unmount_under "$STATE"
    detach_loops "$STATE"
    forget_lxc "$SERVER_DIR"
}
