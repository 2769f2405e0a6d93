# shellcheck shell=bash
# A real cluster of three members on this machine. Each member has a network
# namespace, a mount namespace and a host name of its own, and one leg on a
# private bridge of the host; the namespaces are kept by bind mounts, so that
# a member that was killed comes back to its mounts and its guests.

MEMBERS=(n1 n2 n3)

# member NAME: NAME if there is such a member.
member() {
    case $1 in
    n1 | n2 | n3) printf '%s\n' "$1" ;;
    *) die "no cluster member '$1'" "the members are ${MEMBERS[*]}" ;;
    esac
}

member_address() { printf '%s.1%s\n' "$CLUSTER_SUBNET" "${1#n}"; }
member_netns() { printf '%s%s\n' "$CLUSTER_LINK" "$1"; }

# enter MEMBER: sets ENTER to the command that runs another one as a process
# of that member.
enter() {
    ENTER=(nsenter "--net=/run/netns/$(member_netns "$1")" "--uts=$CLUSTER/$1/ns/uts"
        "--mount=$CLUSTER/$1/ns/mnt" --)
}

# The bridge that joins the members, and their way out through the host.
make_link() {
    if [ ! -e "/sys/class/net/$CLUSTER_LINK" ]; then
        ip link add "$CLUSTER_LINK" type bridge
        ip addr add "$CLUSTER_HOST_ADDRESS/24" dev "$CLUSTER_LINK"
        ip link set "$CLUSTER_LINK" up
    fi
    nft -f - <<NFT
table inet $NFT_TABLE
delete table inet $NFT_TABLE
table inet $NFT_TABLE {
    chain out {
        type nat hook postrouting priority srcnat;
        ip saddr $CLUSTER_SUBNET.0/24 ip daddr != $CLUSTER_SUBNET.0/24 masquerade
    }
}
NFT
}

# make_member MEMBER: its namespaces, unless they are there.
make_member() {
    local name=$1 home=$CLUSTER/$1 netns veth
    netns=$(member_netns "$name")
    veth=$CLUSTER_LINK$name
    mkdir -p "$home/ns" "$home/cgroup"
    if [ ! -e "/run/netns/$netns" ]; then
        [ -d /run/netns ] || touch "$RIG_RUN/made-netns"
        ip netns add "$netns"
        ip link add "$veth" type veth peer name eth0 netns "$netns"
        ip link set "$veth" master "$CLUSTER_LINK" up
        ip -n "$netns" link set lo up
        ip -n "$netns" addr add "$(member_address "$name")/24" dev eth0
        ip -n "$netns" link set eth0 up
        ip -n "$netns" route add default via "$CLUSTER_HOST_ADDRESS"
    fi
    mountpoint -q "$home/ns/mnt" 2>/dev/null || {
        # A namespace can only be kept by a mount that is not shared.
        mountpoint -q "$home/ns" || mount --bind "$home/ns" "$home/ns"
        mount --make-private "$home/ns"
        touch "$home/ns/mnt" "$home/ns/uts"
        # /sys shows the network devices of whoever mounts it, so that it is
        # mounted anew; the control groups below it are carried over.
        # shellcheck disable=SC2016 # the inner shell expands these
        nsenter "--net=/run/netns/$netns" unshare "--mount=$home/ns/mnt" "--uts=$home/ns/uts" \
            --propagation private sh -euc '
                hostname "$1"
                mount --rbind /sys/fs/cgroup "$2"
                mount -t sysfs sysfs /sys
                mount --rbind "$2" /sys/fs/cgroup
                umount -l "$2"
            ' sh "$name" "$home/cgroup"
    }
}

start_member() {
    enter "$1"
    start_daemon "$CLUSTER/$1/incus" "${ENTER[@]}"
}

# reachable MEMBER: waits until the members that run forward requests to it; a
# member that is ready for itself refuses them for some seconds more.
reachable() {
    local via deadline=$((SECONDS + 60))
    for via in "${MEMBERS[@]}"; do
        [ "$via" != "$1" ] && daemon_pid "$CLUSTER/$via/incus" >/dev/null || continue
        until incus_at "$CLUSTER/$via/incus" query "/1.0?target=$1" >/dev/null 2>&1; do
            [ "$SECONDS" -lt "$deadline" ] || die "$via does not reach $1" "see $CLUSTER/$1/incus/incusd.log"
            sleep 0.1
        done
    done
}

cluster_seed() {
    cat <<YAML
config:
  core.https_address: $(member_address n1):8443
  images.auto_update_interval: 0
  images.auto_update_cached: false
cluster:
  server_name: n1
  enabled: true
storage_pools:
- name: default
  driver: btrfs
  config:
    size: 4GiB
networks:
- name: $CLUSTER_BRIDGE
  type: bridge
  config:
    ipv4.address: $CLUSTER_GUESTS.1/24
    ipv4.nat: "true"
    ipv6.address: none
profiles:
- name: default
  devices:
    root: {type: disk, path: /, pool: default}
    eth0: {type: nic, name: eth0, network: $CLUSTER_BRIDGE}
YAML
}

cluster_join() {
    local name=$1 token
    token=$(incus_at "$CLUSTER/n1/incus" cluster add "$name" </dev/null | tail -n 1)
    enter "$name"
    incus_at "$CLUSTER/$name/incus" admin init --preseed <<YAML
cluster:
  enabled: true
  server_address: $(member_address "$name"):8443
  cluster_token: $token
  member_config:
  - {entity: storage-pool, name: default, key: source, value: ""}
  - {entity: storage-pool, name: default, key: size, value: 4GiB}
YAML
}

cluster_configure() {
    local name
    cluster_seed | incus_at "$CLUSTER/n1/incus" admin init --preseed >/dev/null
    for name in n2 n3; do cluster_join "$name" >/dev/null; done
    # The least the daemon allows: tests of a lost member wait that long.
    incus_at "$CLUSTER/n1/incus" config set cluster.offline_threshold=11
    key_pair client
    incus_at "$CLUSTER/n1/incus" config trust add-certificate "$STATE/certs/client.crt" --name pixels-rig >/dev/null
    # Every member gets a copy: the published form is a third of the size.
    local published
    published=$(dirname "$IMAGES"/streams-root/images/debian/*/*/*/*/incus.tar.xz)
    import_images "$CLUSTER/n1/incus" "$published/incus.tar.xz" "$published/rootfs.squashfs"
    touch "$CLUSTER/configured"
}

cluster_env() {
    local name
    cat <<ENV
PIXELS_RIG_ID=$RIG_ID
PIXELS_RIG_DIR=$RIG_ROOT
PIXELS_RIG_UP=$RIG_HOME/up
PIXELS_CLUSTER_MEMBERS='${MEMBERS[*]}'
ENV
    for name in "${MEMBERS[@]}"; do
        cat <<ENV
PIXELS_CLUSTER_HTTPS_${name#n}=https://$(member_address "$name"):8443
PIXELS_CLUSTER_SOCKET_${name#n}=$CLUSTER/$name/incus/unix.socket
PIXELS_CLUSTER_PID_${name#n}=$(daemon_pid "$CLUSTER/$name/incus" || true)
ENV
    done
    cat <<ENV
PIXELS_CLUSTER_SERVER_CERT=$CLUSTER/n1/incus/cluster.crt
PIXELS_CLUSTER_CLIENT_CERT=$STATE/certs/client.crt
PIXELS_CLUSTER_CLIENT_KEY=$STATE/certs/client.key
PIXELS_CLUSTER_NETWORK=$CLUSTER_BRIDGE
PIXELS_CLUSTER_POOL=default
PIXELS_CLUSTER_IMAGE=$IMAGE_ALIAS
PIXELS_CLUSTER_DISTROLESS_IMAGE=distroless
ENV
}

cluster_healthy() {
    local name
    [ -e "$CLUSTER/configured" ] || return 1
    for name in "${MEMBERS[@]}"; do
        daemon_pid "$CLUSTER/$name/incus" >/dev/null && answers "$CLUSTER/$name/incus" || return 1
    done
}

# start_members: all at once. A member that starts alone waits for a quorum of
# the database, so that one after another would never do.
start_members() {
    local name pids=() pid failed=0
    for name in "${MEMBERS[@]}"; do
        start_member "$name" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    [ "$failed" = 0 ] || die "the cluster did not come up" "logs are in $CLUSTER/n*/incus/incusd.log"
}

up_cluster() {
    if cluster_healthy && [ -s "$CLUSTER/env" ]; then
        cluster_env | put "$CLUSTER/env" 0600
        return
    fi
    install_packages
    ensure_subids
    ensure_images
    reserve_slot
    if [ -d "$CLUSTER" ] && [ ! -e "$CLUSTER/configured" ]; then
        say "starting over after an interrupted first run"
        clean_cluster
    fi
    mkdir -p "$CLUSTER"
    make_link
    local name
    for name in "${MEMBERS[@]}"; do make_member "$name"; done
    start_members
    [ -e "$CLUSTER/configured" ] || cluster_configure
    for name in "${MEMBERS[@]}"; do reachable "$name"; done
    cluster_env | put "$CLUSTER/env" 0600
}

clean_cluster() {
    local name netns pids=()
    for name in "${MEMBERS[@]}"; do stop_instances "$CLUSTER/$name/incus" & done
    wait
    for name in "${MEMBERS[@]}"; do
        # shellcheck disable=SC2207 # pids, one word each
        pids+=($(daemon_pid "$CLUSTER/$name/incus" || true))
    done
    # Nothing of them is kept, and without a quorum they would not end in time.
    [ ${#pids[@]} = 0 ] || kill -KILL "${pids[@]}" 2>/dev/null || true
    for name in "${MEMBERS[@]}"; do
        end_everything "$CLUSTER/$name/incus"
        # Bridges and filters of a member live in its namespaces and go with
        # them; unmounting inside first lets the loop devices go.
        enter "$name"
        [ ! -e "$CLUSTER/$name/ns/mnt" ] ||
            "${ENTER[@]}" umount -a -t btrfs 2>/dev/null || true
        netns=$(member_netns "$name")
        [ ! -e "/run/netns/$netns" ] || ip netns delete "$netns" || true
        ip link delete "$CLUSTER_LINK$name" 2>/dev/null || true
    done
    nft delete table inet "$NFT_TABLE" 2>/dev/null || true
    ip link delete "$CLUSTER_LINK" 2>/dev/null || true
    unmount_under "$CLUSTER"
    detach_loops "$CLUSTER"
    for name in "${MEMBERS[@]}"; do forget_lxc "$CLUSTER/$name/incus"; done
    rm -rf --one-file-system "$CLUSTER"
}
