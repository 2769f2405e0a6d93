# shellcheck shell=bash
# A simplestreams tree as Incus clients read it.

# build_streams WORK: WORK/streams-root from WORK/debian. The published form
# is split, as on the public server: incus.tar.xz + rootfs.squashfs.
build_streams() {
    local work=$1 serial path dir meta root
    serial=$(date -u +%Y%m%d_%H%M)
    path=images/debian/bookworm/$(guest_arch)/default/$serial
    dir=$work/streams-root/$path
    mkdir -p "$dir" "$work/streams-root/streams/v1"
    tar --numeric-owner -C "$work/debian" -cJf "$dir/incus.tar.xz" metadata.yaml templates
    mksquashfs "$work/debian/rootfs" "$dir/rootfs.squashfs" -quiet -no-progress \
        -comp zstd -Xcompression-level 1 -b 256K >/dev/null
    meta=$dir/incus.tar.xz root=$dir/rootfs.squashfs
    sum() { cat "$@" | sha256sum | cut -d' ' -f1; }
    cat >"$work/streams-root/streams/v1/index.json" <<JSON
{"format": "index:1.0",
 "index": {"images": {"datatype": "image-downloads", "path": "streams/v1/images.json",
                      "format": "products:1.0", "products": ["debian:bookworm:$(guest_arch):default"]}}}
JSON
    cat >"$work/streams-root/streams/v1/images.json" <<JSON
{"content_id": "images", "datatype": "image-downloads", "format": "products:1.0",
 "products": {"debian:bookworm:$(guest_arch):default": {
  "aliases": "debian/bookworm/default,debian/bookworm,debian/12/default,debian/12",
  "arch": "$(guest_arch)", "os": "Debian", "release": "bookworm", "release_title": "bookworm",
  "variant": "default", "requirements": {},
  "versions": {"$serial": {"items": {
   "incus.tar.xz": {"ftype": "incus.tar.xz", "path": "$path/incus.tar.xz",
    "sha256": "$(sum "$meta")", "size": $(stat -c %s "$meta"),
    "combined_sha256": "$(sum "$meta" "$root")",
    "combined_squashfs_sha256": "$(sum "$meta" "$root")"},
   "root.squashfs": {"ftype": "squashfs", "path": "$path/rootfs.squashfs",
    "sha256": "$(sum "$root")", "size": $(stat -c %s "$root")}}}}}}}
JSON
}
