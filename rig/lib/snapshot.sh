# shellcheck shell=bash
# What a machine holds of the kinds a rig makes: for comparing before and after.

# machine_state: one line per thing, sorted, without what changes by itself.
machine_state() {
    {
        ip -o link show | awk -F': ' '{ sub(/@.*/, "", $2); print "link " $2 }'
        awk '{ print "mount " $5 }' /proc/self/mountinfo
        losetup -ln -O BACK-FILE | sed 's/^/loop /'
        ip netns list | awk '{ print "netns " $1 }'
        nft list tables 2>/dev/null | sed 's/^/nft /'
        find /sys/fs/cgroup -type d -name 'lxc*' -prune | sed 's/^/cgroup /'
        ss -Hltn | awk '{ print "listener " $4 }'
        daemon_lines
        find /run/lxc /run/pixels-rig "$RIG_ROOT" -mindepth 1 -maxdepth 1 2>/dev/null | sed 's/^/file /' || true
        sysctl fs.inotify kernel.keys.maxkeys net.ipv4.ip_forward 2>/dev/null | sed 's/^/sysctl /' || true
    } | grep -v -e "^file $RIG_RUN/lock" -e "^file $RIG_ROOT/cache" | sort
}

# Processes of the rig's kinds, whoever started them, by their arguments.
daemon_lines() {
    local pid
    for pid in $(pids_of_exe "$INCUSD") $(pids_of_exe "$(readlink -f /usr/sbin/dnsmasq)") \
        $(pids_of_exe "$(readlink -f /usr/bin/python3)"); do
        if owns "$pid" streams_server.py || ! owns "$pid" python; then
            printf 'process %s %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c 1-120)"
        fi
    done
}
