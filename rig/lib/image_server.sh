# shellcheck shell=bash
# The local image server: plain files over HTTPS, with an authority of its own.

streams_healthy() {
    [ -s "$STATE/streams.pid" ] && owns "$(<"$STATE/streams.pid")" "$STATE/streams/server.crt"
}

# A certificate authority made for this rig alone, and a server certificate
# for the name and addresses the server is reached by.
streams_certificates() {
    local dir=$STATE/streams
    [ ! -e "$dir/server.crt" ] || return 0
    mkdir -p "$dir"
    # Incus takes the first DNS name of the certificate it is told to trust as
    # the name to expect, so that the authority has one too.
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
        -subj '/CN=pixels rig image server CA' -addext 'subjectAltName=DNS:localhost' \
        -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign' \
        -keyout "$dir/ca.key" -out "$dir/ca.crt" 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=localhost' \
        -keyout "$dir/server.key" -out "$dir/server.csr" 2>/dev/null
    openssl x509 -req -in "$dir/server.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -days 3650 \
        -set_serial "0x$(openssl rand -hex 8)" -out "$dir/server.crt.new" -extfile <(
            printf 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:%s\n' "$CLUSTER_HOST_ADDRESS"
            printf 'basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n'
        ) 2>/dev/null
    rm -f "$dir/ca.key" "$dir/server.csr"
    mv "$dir/server.crt.new" "$dir/server.crt"
}

# start_streams: the server tells that it listens by writing its address to
# the pipe it is started on.
start_streams() {
    streams_healthy && return
    streams_certificates
    local ready=$STATE/streams/ready
    rm -f "$ready"
    mkfifo -m 0600 "$ready"
    spawn "$STATE/streams.log" /usr/bin/python3 -I "$RIG_LIB/streams_server.py" "$STREAMS_PORT" \
        "$STATE/images/streams-root" "$STATE/streams/server.crt" "$STATE/streams/server.key" "$ready"
    printf '%s\n' "$SPAWNED" | put "$STATE/streams.pid" 0600
    local answer
    answer=$(timeout 20 cat "$ready") || true
    rm -f "$ready"
    [ "$answer" = ready ] || die "the image server did not start" "see $STATE/streams.log"
}
