# shellcheck shell=bash
# The images the rig imports and serves, made here without the internet's
# image servers. Each lives in a cache directory named by a hash of its recipe.

GUEST_PACKAGES=systemd,systemd-sysv,systemd-resolved,libnss-resolve,dbus,udev,iproute2
GUEST_PACKAGES+=,nftables,sudo,ca-certificates,curl,git,openssh-server,procps,python3-minimal

guest_arch() { dpkg --print-architecture; }

# Incus's name of the architecture.
incus_arch() { uname -m; }

# IMAGES: where this machine's build of this recipe belongs. The host's CA
# bundle and mirror are part of the recipe: they are baked in.
images_dir() {
    debian_source
    local key
    key=$({
        cat "$RIG_LIB/image.sh" "$RIG_LIB/guest.sh" "$RIG_LIB/streams.sh"
        cat /etc/ssl/certs/ca-certificates.crt
        printf '%s\n' "$MIRROR" "$(guest_arch)"
    } | sha256sum | cut -c 1-16)
    IMAGES=$RIG_CACHE/$key
}

# metadata DIR NAME RELEASE: metadata.yaml and templates as public images have.
metadata() {
    local dir=$1 name=$2 release=$3 now
    now=$(date +%s)
    mkdir -p "$dir/templates"
    cat >"$dir/metadata.yaml" <<META
architecture: $(incus_arch)
creation_date: $now
properties:
  architecture: $(guest_arch)
  description: $name $release $(guest_arch)
  name: $name-$release-$(guest_arch)
  os: $name
  release: $release
  variant: default
META
}

debian_metadata() {
    metadata "$1" debian bookworm
    cat >>"$1/metadata.yaml" <<'META'
templates:
  /etc/hostname:
    when: [create, copy]
    template: hostname.tpl
  /etc/hosts:
    when: [create, copy]
    template: hosts.tpl
META
    printf '{{ container.name }}\n' >"$1/templates/hostname.tpl"
    cat >"$1/templates/hosts.tpl" <<'HOSTS'
127.0.0.1	localhost
127.0.1.1	{{ container.name }}
::1		localhost ip6-localhost ip6-loopback
ff02::1		ip6-allnodes
ff02::2		ip6-allrouters
HOSTS
}

build_debian() {
    local work=$1 root=$1/debian/rootfs keyring=''
    mkdir -p "$root"
    [[ $MIRROR_KEY != /* ]] || keyring=--keyring=${MIRROR_KEY%%$'\n'*}
    say "building the debian/12 image"
    env -u TMPDIR debootstrap --variant=minbase --include="$GUEST_PACKAGES" \
        ${keyring:+"$keyring"} bookworm "$root" "$MIRROR" >"$work/debootstrap.log" 2>&1 </dev/null || {
        tail -n 5 "$work/debootstrap.log" >&2
        die "debootstrap failed" "its log is above; is the mirror $MIRROR reachable?"
    }
    finish_guest "$root"
    debian_metadata "$work/debian"
    # A plain tar: what the daemon imports and unpacks fastest.
    tar --numeric-owner --xattrs --xattrs-include='*' -C "$work/debian" \
        -cf "$work/debian.tar" metadata.yaml templates rootfs
}

# Nothing but a static init: no shell, no users, no libc. It shows what a
# pixel can and cannot do where the guest helper has nothing to lean on.
build_distroless() {
    local dir=$1/distroless
    mkdir -p "$dir"/rootfs/{sbin,etc,dev,proc,sys,run,tmp}
    chmod 1777 "$dir/rootfs/tmp"
    install -m 0755 /bin/busybox "$dir/rootfs/sbin/init"
    # An inittab with no entry: without one this init would look for a shell.
    printf '# nothing to start\n' >"$dir/rootfs/etc/inittab"
    metadata "$dir" distroless 1
    tar --numeric-owner -C "$dir" -cf "$1/distroless.tar" metadata.yaml templates rootfs
}

# Builds what the cache lacks; one builder at a time on this cache. A rig keeps
# the images it began with.
ensure_images() {
    IMAGES=$(readlink -e "$STATE/images" || true)
    [ -z "$IMAGES" ] || [ ! -e "$IMAGES/complete" ] || return 0
    images_dir
    [ -e "$IMAGES/complete" ] && return
    mkdir -p "$RIG_CACHE"
    (
        flock 7
        [ -e "$IMAGES/complete" ] && exit 0
        # What an interrupted build left.
        local old
        for old in "$RIG_CACHE"/build.*; do
            [ ! -d "$old" ] || { unmount_under "$old" && rm -rf --one-file-system "$old"; }
        done
        local work
        work=$(mktemp -d "$RIG_CACHE/build.XXXXXX")
        chmod 0755 "$work"
        build_debian "$work"
        build_distroless "$work"
        build_streams "$work"
        rm -rf --one-file-system "$work/debian" "$work/distroless" "$work/debootstrap.log"
        touch "$work/complete"
        rm -rf "$IMAGES"
        mv "$work" "$IMAGES"
    ) 7>"$RIG_CACHE/lock"
    [ -e "$IMAGES/complete" ] || die "the images could not be built"
}
