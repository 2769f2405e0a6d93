# shellcheck shell=bash
# What the rig installs on a bare Debian 12, and from where.

# incus-base is the daemon without what only virtual machines need.
BACKPORTED=(incus-base incus-client btrfs-progs)
PLAIN=(nftables dnsmasq-base debootstrap netbase openssl ca-certificates busybox-static
    squashfs-tools xz-utils iproute2 procps python3 util-linux uidmap kmod)
BACKPORTS=bookworm-backports
BACKPORTS_FILE=/etc/apt/sources.list.d/pixels-rig-backports.sources

# The machine's own bookworm main source: sets MIRROR and MIRROR_KEY (the
# Signed-By value, empty when apt uses its trusted keys). apt itself is asked,
# so that both of its file forms are read as apt reads them.
debian_source() {
    local line uri release entry file number
    MIRROR='' MIRROR_KEY=''
    # shellcheck disable=SC2016 # apt expands these
    line=$(apt-get indextargets --format '$(REPO_URI)|$(RELEASE)|$(SOURCESENTRY)' \
        'Created-By: Packages' 'Component: main' | awk -F'|' '$2 == "bookworm"' | head -n 1)
    [ -n "$line" ] || die "no apt source for bookworm main on this machine" "the rig needs Debian 12"
    IFS='|' read -r uri release entry <<<"$line"
    : "$release"
    MIRROR=${uri%/}
    file=${entry%:*} number=${entry##*:}
    if [[ $file == *.sources ]]; then
        MIRROR_KEY=$(awk -v n="$number" '
            BEGIN { RS = ""; FS = "\n" }
            { real = 0; for (i = 1; i <= NF; i++) if ($i !~ /^#/) real = 1 }
            real && ++seen == n {
                for (i = 1; i <= NF; i++) {
                    if ($i ~ /^#/) continue
                    if (tolower($i) ~ /^signed-by:/) { sub(/^[^:]*:[ \t]*/, "", $i); print $i; in_key = 1 }
                    else if (in_key && $i ~ /^[ \t]/) print $i
                    else in_key = 0
                }
            }' "$file")
    else
        MIRROR_KEY=$(sed -n "${number}p" "$file" | sed -nE 's/^deb[^[]*\[[^]]*signed-by=([^] ]+).*/\1/p')
    fi
}

# Adds the backports suite unless some source of the machine has it already.
add_backports() {
    # shellcheck disable=SC2016 # apt expands this
    if apt-get indextargets --format '$(RELEASE)' 'Created-By: Packages' | grep -qx "$BACKPORTS"; then
        return
    fi
    {
        printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$MIRROR" "$BACKPORTS"
        [ -z "$MIRROR_KEY" ] || printf 'Signed-By: %s\n' "$MIRROR_KEY"
    } | put "$BACKPORTS_FILE" 0644
}

# Of the packages named, those that are not installed; one per line.
missing() {
    comm -13 <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null |
        awk '$1 == "ii" { print $2 }' | sort) <(printf '%s\n' "$@" | sort)
}

have_packages() { [ -z "$(missing "${BACKPORTED[@]}" "${PLAIN[@]}")" ]; }

# Maintainer scripts start services through invoke-rc.d, which asks
# policy-rc.d: for the length of the installation the answer is no.
without_services() {
    local policy=/usr/sbin/policy-rc.d rc=0
    if [ -e "$policy" ]; then
        "$@" || rc=$?
    else
        printf '#!/bin/sh\nexit 101\n' | put "$policy" 0755
        "$@" || rc=$?
        rm -f "$policy"
    fi
    return "$rc"
}

# Installs what is missing. One machine-wide lock: two first runs at once
# would otherwise trip over each other's dpkg.
install_packages() {
    have_packages && return
    mkdir -p "$RIG_RUN"
    (
        flock 8
        have_packages && exit 0
        [ -r /etc/debian_version ] || die "not a Debian machine"
        say "installing packages"
        debian_source
        add_backports
        local apt=(apt-get -q -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
        apt+=(--no-install-recommends --no-upgrade -o Dpkg::Options::=--force-confold)
        "${apt[@]}" update >&2
        # In two steps, so that nothing is taken from backports but what is
        # named and what that depends on, and nothing present is upgraded.
        local plain backported
        mapfile -t plain < <(missing "${PLAIN[@]}")
        mapfile -t backported < <(missing "${BACKPORTED[@]}")
        [ ${#plain[@]} = 0 ] ||
            without_services "${apt[@]}" install "${plain[@]}" </dev/null >&2
        [ ${#backported[@]} = 0 ] ||
            without_services "${apt[@]}" install -t "$BACKPORTS" "${backported[@]}" </dev/null >&2
    ) 8>"$RIG_RUN/lock.packages"
    have_packages || die "packages are still missing after the installation"
}

# Unprivileged guests need a range of ids for root. The incus package adds one;
# mend it if the machine's files lost it.
ensure_subids() {
    local file
    for file in /etc/subuid /etc/subgid; do
        grep -q '^root:' "$file" 2>/dev/null || printf 'root:1000000:1000000000\n' >>"$file"
    done
}
