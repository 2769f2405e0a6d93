# shellcheck shell=bash
# Turns a fresh debootstrap tree into what a good public image is: network by
# DHCP, names resolved, no identity of its own.

# The host's certificates that Debian does not ship: where a proxy looks into
# TLS, guests need its authority too.
guest_certificates() {
    local root=$1 dir=$1/usr/local/share/ca-certificates have=$1/etc/ssl/certs/ca-certificates.crt
    mkdir -p "$dir"
    awk -v dir="$dir" -v have="$have" '
        function each(file, known,    line, body, on) {
            while ((getline line < file) > 0) {
                if (line ~ /BEGIN CERTIFICATE/) { on = 1; body = "" }
                if (on) body = body line "\n"
                if (line ~ /END CERTIFICATE/) {
                    on = 0
                    if (known) seen[body] = 1
                    else if (!(body in seen)) {
                        seen[body] = 1
                        out = sprintf("%s/host-%03d.crt", dir, ++count)
                        printf "%s", body > out
                        close(out)
                    }
                }
            }
            close(file)
        }
        BEGIN { each(have, 1); each("/etc/ssl/certs/ca-certificates.crt", 0) }'
    chroot "$root" update-ca-certificates >/dev/null 2>&1
}

guest_apt() {
    local root=$1 key
    rm -f "$root/etc/apt/sources.list"
    {
        printf 'Types: deb\nURIs: %s\nSuites: bookworm bookworm-updates\nComponents: main\n' "$MIRROR"
        printf 'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n'
    } >"$root/etc/apt/sources.list.d/debian.sources"
    # A host that must not check dates (a frozen mirror, a wrong clock) says so
    # to its own apt; its guests face the same mirror.
    for key in Acquire::Check-Valid-Until Acquire::Check-Date; do
        apt-config dump "$key" | grep "^$key \"" || true
    done >"$root/etc/apt/apt.conf.d/90host"
}

guest_network() {
    local root=$1
    mkdir -p "$root/etc/systemd/network"
    cat >"$root/etc/systemd/network/eth0.network" <<'NETWORK'
[Match]
Name=eth0

[Network]
DHCP=yes
IPv6AcceptRA=no

[DHCPv4]
ClientIdentifier=mac
UseDomains=yes
NETWORK
    # In an unprivileged container /sys is writable in name only: networkd then
    # waits for an udev that never reports the device, unless it sees /sys as
    # read-only, its sign that no udev is there.
    mkdir -p "$root/etc/systemd/system/systemd-networkd.service.d"
    cat >"$root/etc/systemd/system/systemd-networkd.service.d/container.conf" <<'UNIT'
[Service]
ReadOnlyPaths=/sys
UNIT
    ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
    ln -sf /usr/share/zoneinfo/Etc/UTC "$root/etc/localtime"
    chroot "$root" systemctl -q enable systemd-networkd systemd-resolved
    # Nothing here needs to hold the boot until a network is up.
    chroot "$root" systemctl -q disable systemd-networkd-wait-online
}

# No identity: machine-id is made at first boot, host keys before the first
# ssh.service that finds none.
guest_identity() {
    local root=$1
    : >"$root/etc/machine-id"
    rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id" "$root/var/lib/systemd/random-seed"
    ln -s /etc/machine-id "$root/var/lib/dbus/machine-id"
    cat >"$root/etc/systemd/system/ssh-host-keys.service" <<'UNIT'
[Unit]
Description=Make the SSH host keys that are missing
Before=ssh.service
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
RequiredBy=ssh.service
UNIT
    chroot "$root" systemctl -q enable ssh-host-keys ssh
}

# Units that cannot work in a container and would only make it "degraded".
guest_units() {
    local root=$1 unit
    for unit in systemd-udev-trigger.service systemd-udevd.service systemd-udevd-control.socket \
        systemd-udevd-kernel.socket sys-kernel-debug.mount sys-kernel-config.mount \
        systemd-modules-load.service proc-sys-fs-binfmt_misc.automount; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    # `incus console` and the daemon's console log show a login on /dev/console.
    chroot "$root" systemctl -q set-default multi-user.target
    printf 'LANG=C.UTF-8\n' >"$root/etc/default/locale"
}

finish_guest() {
    local root=$1
    guest_certificates "$root"
    guest_apt "$root"
    guest_network "$root"
    guest_units "$root"
    guest_identity "$root"
    printf 'debian\n' >"$root/etc/hostname"
    chroot "$root" apt-get clean
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/log/{bootstrap.log,dpkg.log,alternatives.log} "$root"/tmp/*
}
