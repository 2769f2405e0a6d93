# shellcheck shell=bash
# Every part of the rig, for the commands that use it.

# shellcheck source=SCRIPTDIR/common.sh
. "$RIG_LIB/common.sh"
# shellcheck source=SCRIPTDIR/packages.sh
. "$RIG_LIB/packages.sh"
# shellcheck source=SCRIPTDIR/process.sh
. "$RIG_LIB/process.sh"
# shellcheck source=SCRIPTDIR/slot.sh
. "$RIG_LIB/slot.sh"
# shellcheck source=SCRIPTDIR/clean.sh
. "$RIG_LIB/clean.sh"
# shellcheck source=SCRIPTDIR/guest.sh
. "$RIG_LIB/guest.sh"
# shellcheck source=SCRIPTDIR/streams.sh
. "$RIG_LIB/streams.sh"
# shellcheck source=SCRIPTDIR/image.sh
. "$RIG_LIB/image.sh"
# shellcheck source=SCRIPTDIR/image_server.sh
. "$RIG_LIB/image_server.sh"
# shellcheck source=SCRIPTDIR/daemon.sh
. "$RIG_LIB/daemon.sh"
# shellcheck source=SCRIPTDIR/server.sh
. "$RIG_LIB/server.sh"
# shellcheck source=SCRIPTDIR/cluster.sh
. "$RIG_LIB/cluster.sh"
# shellcheck source=SCRIPTDIR/external.sh
. "$RIG_LIB/external.sh"
