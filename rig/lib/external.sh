# shellcheck shell=bash
# Somebody's own Incus in place of the rig's: nothing is made, only looked at.

# Each PIXELS_TEST_INCUS_<NAME> becomes the PIXELS_RIG_<NAME> the tests read.
EXTERNAL_NAMES=(SOCKET IMAGE HTTPS SERVER_CERT CLIENT_CERT CLIENT_KEY NETWORK POOL SMALL_POOL
    RESTRICTED_PROJECT SIMPLESTREAMS SIMPLESTREAMS_CA DISTROLESS_IMAGE)

external_env() {
    local name theirs value
    python3 - "$PIXELS_TEST_INCUS_SOCKET" <<'PYTHON' || die "no Incus answers at $PIXELS_TEST_INCUS_SOCKET" \
        "PIXELS_TEST_INCUS_SOCKET must be the unix socket of a running incusd that you may use"
import http.client, json, socket, sys
try:
    wire = socket.socket(socket.AF_UNIX)
    wire.settimeout(10)
    wire.connect(sys.argv[1])
    http_over = http.client.HTTPConnection("incus")
    http_over.sock = wire
    http_over.request("GET", "/1.0")
    answer = json.load(http_over.getresponse())
    sys.exit(answer["metadata"]["auth"] != "trusted")
except (OSError, ValueError, KeyError, http.client.HTTPException):
    sys.exit(1)
PYTHON
    printf 'PIXELS_RIG_EXTERNAL=1\n'
    for name in "${EXTERNAL_NAMES[@]}"; do
        theirs=PIXELS_TEST_INCUS_$name
        value=${!theirs:-}
        [ -n "$value" ] || [ "$name" != IMAGE ] || value=debian/12
        [ -z "$value" ] || printf "PIXELS_RIG_%s='%s'\n" "$name" "${value//\'/\'\\\'\'}"
    done
}
