# shellcheck shell=bash
# shellcheck disable=SC2034 # these names are for the other files
# What keeps two rigs on one machine apart: each holds a numbered slot, and
# every name and number that is the machine's follows from it.

# use_slot N: the names of slot N.
use_slot() {
    SLOT=$1
    BRIDGE=pxr$SLOT
    SUBNET=10.203.$((SLOT * 4))
    HTTPS_PORT=$((18440 + SLOT * 4))
    STREAMS_PORT=$((18441 + SLOT * 4))
    CLUSTER_LINK=pxc$SLOT
    CLUSTER_SUBNET=10.203.$((SLOT * 4 + 1))
    CLUSTER_HOST_ADDRESS=$CLUSTER_SUBNET.1
    CLUSTER_BRIDGE=pxn$SLOT
    CLUSTER_GUESTS=10.203.$((SLOT * 4 + 2))
    NFT_TABLE=pixels_rig_$SLOT
}

# True unless something that is not a rig's uses a name or number of slot $1.
slot_free() {
    use_slot "$1"
    local link
    for link in "$BRIDGE" "$CLUSTER_LINK"; do
        [ ! -e "/sys/class/net/$link" ] || return 1
    done
    ! ip -4 route show table all | grep -qE "(^|[ /])($SUBNET|$CLUSTER_SUBNET|$CLUSTER_GUESTS)\.[0-9]" || return 1
    [ -z "$(ss -Hltn "sport = :$HTTPS_PORT or sport = :$STREAMS_PORT")" ]
}

# Takes a slot for STATE, or finds the one it holds.
reserve_slot() {
    mkdir -p "$RIG_RUN/slots" "$STATE"
    chmod 0711 "$STATE"
    exec 8>"$RIG_RUN/lock.slots"
    flock 8
    local n owner mine=''
    [ ! -s "$STATE/slot" ] || mine=$(<"$STATE/slot")
    if [ -n "$mine" ]; then
        # The reservation itself may be gone: /run is emptied at boot.
        owner=$(cat "$RIG_RUN/slots/$mine" 2>/dev/null || true)
        [ -z "$owner" ] || [ "$owner" = "$STATE" ] ||
            die "slot $mine of '$RIG_ID' is now held by $owner" "run rig/down for this id, then rig/up"
        printf '%s\n' "$STATE" >"$RIG_RUN/slots/$mine"
    else
        for ((n = 0; n < 60; n++)); do
            owner=$(cat "$RIG_RUN/slots/$n" 2>/dev/null || true)
            if [ -n "$owner" ] && [ "$owner" != "$STATE" ] && [ -d "$owner" ]; then continue; fi
            slot_free "$n" || continue
            mine=$n
            printf '%s\n' "$STATE" >"$RIG_RUN/slots/$n"
            printf '%s\n' "$n" >"$STATE/slot"
            break
        done
        [ -n "$mine" ] || die "no free slot for another rig on this machine"
    fi
    use_slot "$mine"
    ln -sfn "$IMAGES" "$STATE/images"
    save_sysctls
    exec 8>&-
}

# Kernel settings many systemd guests (and routing) need. What they were is
# kept for the last rig/down of the machine.
SYSCTLS=(fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288
    kernel.keys.maxkeys=2000 net.ipv4.ip_forward=1)

save_sysctls() {
    local want key now
    for want in "${SYSCTLS[@]}"; do
        key=${want%=*}
        now=$(sysctl -n "$key" 2>/dev/null) || continue
        [ "$now" -lt "${want#*=}" ] || continue
        grep -qs "^$key=" "$RIG_RUN/sysctls" || printf '%s=%s\n' "$key" "$now" >>"$RIG_RUN/sysctls"
        sysctl -qw "$want" || true
    done
}

# Gives the slot back; the machine's last rig also gives back the kernel
# settings and, where no other Incus runs, what Incus shares between daemons.
release_slot() {
    exec 8>"$RIG_RUN/lock.slots"
    flock 8
    rm -f "$RIG_RUN/slots/$SLOT"
    if [ -z "$(ls -A "$RIG_RUN/slots")" ]; then
        local family line
        if [ -z "$(pids_of_exe "$INCUSD")" ]; then
            for family in inet bridge ip ip6; do
                nft delete table "$family" incus 2>/dev/null || true
            done
            # Where liblxc parks a monitor while its group goes away.
            rmdir /sys/fs/cgroup/*/lxc.pivot /sys/fs/cgroup/lxc.pivot 2>/dev/null || true
        fi
        # `ip netns` makes this directory, a mount on itself, and never ends it.
        if [ -e "$RIG_RUN/made-netns" ] && [ -z "$(ls -A /run/netns)" ]; then
            umount /run/netns 2>/dev/null || true
            rmdir /run/netns || true
        fi
        if [ -e "$RIG_RUN/sysctls" ]; then
            while read -r line; do sysctl -qw "$line" || true; done <"$RIG_RUN/sysctls"
        fi
        rm -rf "$RIG_RUN"
    fi
    exec 8>&-
}
