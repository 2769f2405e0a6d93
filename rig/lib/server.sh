# shellcheck shell=bash
# The rig's one server: its configuration, its images, its test identities.

IMAGE_ALIAS=debian/12

preseed() {
    cat <<YAML
config:
  core.https_address: 127.0.0.1:$HTTPS_PORT
  images.auto_update_interval: 0
  images.auto_update_cached: false
storage_pools:
- name: default
  driver: btrfs
  config:
    size: ${PIXELS_RIG_POOL_SIZE:-12GiB}
- name: small
  driver: btrfs
  config:
    size: 1GiB
networks:
- name: $BRIDGE
  type: bridge
  config:
    ipv4.address: $SUBNET.1/24
    ipv4.nat: "true"
    ipv6.address: none
profiles:
- name: default
  devices:
    root: {type: disk, path: /, pool: default}
    eth0: {type: nic, name: eth0, network: $BRIDGE}
projects:
- name: restricted
  config:
    features.images: "false"
    features.profiles: "true"
    features.storage.volumes: "true"
    restricted: "true"
    restricted.snapshots: allow
    restricted.networks.access: $BRIDGE
YAML
}

# key_pair NAME: a client certificate made for tests; NAME.crt and NAME.key.
key_pair() {
    local base=$STATE/certs/$1
    mkdir -p "$STATE/certs"
    [ -e "$base.crt" ] || (
        umask 077
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -nodes -days 3650 \
            -subj "/CN=pixels-rig-$1" -addext 'extendedKeyUsage=clientAuth' \
            -keyout "$base.key" -out "$base.crt" 2>/dev/null
    )
}

# import_images DIR FILE...: the Debian image in the form named, and the other.
import_images() {
    local dir=$1
    shift
    incus_at "$dir" image import "$@" --alias "$IMAGE_ALIAS" >/dev/null
    incus_at "$dir" image import "$IMAGES/distroless.tar" --alias distroless >/dev/null
}

# Everything a fresh daemon needs, once; a half-made one is started over.
configure_server() {
    preseed | incus_at "$SERVER_DIR" admin init --preseed >/dev/null
    local devices=(profile device add default)
    incus_at "$SERVER_DIR" --project restricted "${devices[@]}" root disk path=/ pool=default >/dev/null
    incus_at "$SERVER_DIR" --project restricted "${devices[@]}" eth0 nic name=eth0 network="$BRIDGE" >/dev/null
    key_pair client
    key_pair restricted
    key_pair untrusted
    incus_at "$SERVER_DIR" config trust add-certificate "$STATE/certs/client.crt" --name pixels-rig >/dev/null
    incus_at "$SERVER_DIR" config trust add-certificate "$STATE/certs/restricted.crt" \
        --name pixels-rig-restricted --restricted --projects restricted >/dev/null
    import_images "$SERVER_DIR" "$IMAGES/debian.tar"
    # The first instance of an image unpacks it into the pool: done here, so
    # that no test's time depends on being the first.
    incus_at "$SERVER_DIR" create "$IMAGE_ALIAS" rig-unpack >/dev/null </dev/null
    incus_at "$SERVER_DIR" delete rig-unpack >/dev/null
    touch "$STATE/configured"
}

server_healthy() {
    [ -e "$STATE/configured" ] && daemon_pid "$SERVER_DIR" >/dev/null && answers "$SERVER_DIR"
}

server_env() {
    cat <<ENV
PIXELS_RIG_ID=$RIG_ID
PIXELS_RIG_DIR=$RIG_ROOT
PIXELS_RIG_UP=$RIG_HOME/up
PIXELS_RIG_INCUSD='$RIG_HOME/up restart'
PIXELS_RIG_DAEMON_PID=$(daemon_pid "$SERVER_DIR")
INCUS_DIR=$SERVER_DIR
PIXELS_RIG_SOCKET=$SERVER_DIR/unix.socket
PIXELS_RIG_HTTPS=https://127.0.0.1:$HTTPS_PORT
PIXELS_RIG_SERVER_CERT=$SERVER_DIR/server.crt
PIXELS_RIG_CLIENT_CERT=$STATE/certs/client.crt
PIXELS_RIG_CLIENT_KEY=$STATE/certs/client.key
PIXELS_RIG_RESTRICTED_PROJECT=restricted
PIXELS_RIG_RESTRICTED_CERT=$STATE/certs/restricted.crt
PIXELS_RIG_RESTRICTED_KEY=$STATE/certs/restricted.key
PIXELS_RIG_UNTRUSTED_CERT=$STATE/certs/untrusted.crt
PIXELS_RIG_UNTRUSTED_KEY=$STATE/certs/untrusted.key
PIXELS_RIG_NETWORK=$BRIDGE
PIXELS_RIG_SUBNET=$SUBNET.0/24
PIXELS_RIG_POOL=default
PIXELS_RIG_SMALL_POOL=small
PIXELS_RIG_IMAGE=$IMAGE_ALIAS
PIXELS_RIG_DISTROLESS_IMAGE=distroless
PIXELS_RIG_SIMPLESTREAMS=https://127.0.0.1:$STREAMS_PORT
PIXELS_RIG_SIMPLESTREAMS_CA=$STATE/streams/ca.crt
ENV
}

up_server() {
    if server_healthy && streams_healthy && [ -s "$STATE/env" ]; then
        return
    fi
    install_packages
    ensure_subids
    ensure_images
    reserve_slot
    if [ -d "$SERVER_DIR" ] && [ ! -e "$STATE/configured" ]; then
        # An interrupted first run: nothing in it is worth mending.
        say "starting over after an interrupted first run"
        clean_server
        rm -rf --one-file-system "$SERVER_DIR" "$SERVER_DIR".pid "$SERVER_DIR".log
    fi
    start_daemon "$SERVER_DIR"
    [ -e "$STATE/configured" ] || configure_server
    start_streams
    server_env | put "$STATE/env" 0600
}
