//! Archives made to do harm.

use std::io::{self, Write};

use pixels_guest_api::tree::Kind;

use super::archives::*;
use crate::image::sink::Limits;

fn refused(archive: Vec<u8>) -> String {
    of_tar(&archive, false).unwrap_err().to_string()
}

#[test]
fn paths_that_lead_out_are_refused_and_named() {
    for path in ["../x", "a/../../x", "..", "/../x", "./../x", "a/.."] {
        let message = refused(Tar::default().file(path, "x").end());
        assert!(message.contains(&format!("{path:?}")) && message.contains(".."), "{message}");
        refused(Tar::default().dir(path).end());
        refused(Tar::default().symlink(path, "x").end());
        refused(Tar::default().file("f", "1").hardlink("h", path).end());
        refused(Tar::default().pax(&[("path", path.as_bytes())]).file("ok", "x").end());
        refused(Tar::default().pax(&[("linkpath", path.as_bytes())]).hardlink("h", "ok").end());
    }
    refused(Tar::default().pax(&[("path", b"a\0b")]).file("ok", "x").end());
    refused(Tar::default().pax(&[("path", &[b'a'; 5000])]).file("ok", "x").end());
    refused(Tar::default().file("/", "x").end());
    refused(Tar::default().symlink("l", "").end());
}

#[test]
fn devices_and_owners_beyond_the_range() {
    let archive =
        Tar::default().raw(b'3', b"dev/mem", b"", 0, b"").raw(b'4', b"dev/sda", b"", 0, b"").end();
    let items = of_tar(&archive, false).unwrap();
    assert!(items.iter().all(|(e, _)| e.kind == Kind::Special));
    let message = refused(Tar::default().pax(&[("uid", b"65536")]).file("mine", "x").end());
    assert!(message.contains("mine") && message.contains("65535"), "{message}");
    refused(Tar::default().raw(b'Z', b"odd", b"", 0, b"").end());
}

#[test]
fn bombs_of_every_compression_stop_at_the_limits() {
    let limits = Limits { entries: 100, bytes: 1 << 20 };
    // One file of 64 MiB of zeros, a few kilobytes packed.
    let big = Tar::default().raw(b'0', b"zeros", b"", 64 << 20, &vec![0; 64 << 20]).end();
    // 10,000 names in as many headers.
    let many = (0..10_000).fold(Tar::default(), tar_entry).end();
    // Nothing but headers that announce no entry.
    let nothing = (0..2_000).fold(Tar::default(), |mut tar, _| {
        let pax = Tar::default().pax(&[("comment", b"x")]).0;
        tar.0.extend_from_slice(&pax);
        tar
    });
    let nothing = nothing.end();
    for archive in [&big, &many, &nothing] {
        for packed in [gzip(archive), xz(archive), zst(archive)] {
            let message = of_bytes(&packed, limits).unwrap_err().to_string();
            assert!(message.contains("more"), "{message}");
        }
    }
    // Names and attributes of gigabytes: announced, and refused before they are read.
    for kind in [b'x', b'g', b'L', b'K'] {
        let message = refused(Tar::default().raw(kind, b"big", b"", 8 << 30, b"").end());
        assert!(message.contains("longer than 1 MiB"), "{message}");
    }
    // A file that is one hole of an exabyte.
    let holes: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.size", b"1152921504606846976"),
        ("GNU.sparse.map", b"0,0"),
    ];
    refused(Tar::default().pax(holes).file("hole", "").end());
    refused(Tar::default().raw(b'0', b"huge", b"", u64::MAX, b"").end());
    refused(Tar::default().raw(b'0', b"huge", b"", u64::MAX - 511, b"").end());
}

fn tar_entry(mut tar: Tar, n: usize) -> Tar {
    tar.0.extend_from_slice(&Tar::default().dir(&format!("d{n}")).0);
    tar
}

#[test]
fn a_dictionary_that_asks_for_all_memory_is_refused() {
    let plain = Tar::default().file("a", "1").end();
    let mut options = liblzma::stream::LzmaOptions::new_preset(9).unwrap();
    options.dict_size(1 << 30);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream =
        liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc64);
    // The encoder wants a multiple of the dictionary: where this machine has not got that, nothing is shown.
    if let Ok(stream) = stream {
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(&plain).unwrap();
        assert!(of_bytes(&encoder.finish().unwrap(), SMALL).is_err());
    }
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.window_log(29).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(&plain).unwrap();
    encoder.flush().unwrap();
    assert!(of_bytes(&encoder.finish().unwrap(), SMALL).is_err());
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    let sparse = |map: &str, size: &str, stored: &str| {
        let records: &[(&str, &[u8])] =
            &[("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
        of_tar(&Tar::default().pax(records).file("s", stored).end(), false)
    };
    let (_, content) = sparse("1,2,5,1", "8", "abc").unwrap().remove(0);
    assert_eq!(content, b"\0ab\0\0c\0\0");
    for (map, size, stored) in [
        ("1,2,2,1", "8", "abc"),
        ("5,1,1,2", "8", "abc"),
        ("1,2,7,2", "8", "abcd"),
        ("1,2", "8", "abc"),
        ("1,2,5,1", "8", "ab"),
        ("1", "8", "a"),
        ("a,b", "8", "a"),
        ("18446744073709551615,2", "8", "ab"),
        ("1,2", "x", "ab"),
    ] {
        assert!(sparse(map, size, stored).is_err(), "{map} {size}");
    }
    // Version 1.0, whose map is in the content: a count beyond what there is.
    for body in ["99999999999\n", "1\n", "2\n0\n1\n", "x\n", "999999999999999999999999\n"] {
        let records: &[(&str, &[u8])] = &[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"9"),
        ];
        let padded = format!("{body:\0<512}");
        assert!(
            of_tar(&Tar::default().pax(records).file("s", &padded).end(), false).is_err(),
            "{body:?}"
        );
    }
}

#[test]
fn truncated_archives_are_never_whole() {
    let plain =
        Tar::default().dir("a").file("a/b", &"content ".repeat(100)).symlink("c", "a").end();
    // Cut anywhere before the end mark.
    for len in (0..plain.len() - 1024).step_by(61).chain([512, 1024, plain.len() - 1024]) {
        let e = of_bytes(&plain[..len], SMALL).unwrap_err();
        assert!(
            matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData),
            "{len}: {e}"
        );
    }
    for packed in [gzip(&plain), xz(&plain), zst(&plain)] {
        of_bytes(&packed, SMALL).unwrap();
        for len in 0..packed.len() {
            assert!(of_bytes(&packed[..len], SMALL).is_err(), "{len} of {}", packed.len());
        }
    }
}

#[test]
fn corrupt_archives_are_refused() {
    let plain = Tar::default().dir("a").file("a/b", &"content ".repeat(100)).end();
    // Any byte of a header breaks its checksum.
    for at in (0..512).step_by(7) {
        let mut broken = plain.clone();
        broken[at] ^= 0x15;
        assert!(of_tar(&broken, false).is_err(), "{at}");
    }
    // The checksums of gzip and xz cover the content.
    for mut packed in [gzip(&plain), xz(&plain)] {
        let middle = packed.len() / 2;
        packed[middle] ^= 1;
        assert!(of_bytes(&packed, SMALL).is_err());
    }
    for nothing in [&b""[..], b"PK\x03\x04", b"hello", &[0; 1024], b"\x1f\x8b", b"hsqs"] {
        assert!(of_bytes(nothing, SMALL).is_err(), "{nothing:?}");
    }
}
