//! The tree stream: exact round trips, strict and total decoding.

use pixels_guest_api::tree::{
    Entry, Kind, MAX_ID, MAX_PATH, MAX_RECORD, MAX_XATTR_VALUE, Record, TreeError, check_header,
    check_path, header, record_len,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn component() -> impl Strategy<Value = Vec<u8>> {
    vec((1..=255u8).prop_filter("no slash", |b| *b != b'/'), 1..12)
        .prop_filter("no dots", |name| name != b"." && name != b"..")
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    vec(component(), 1..6).prop_map(|parts| parts.join(&b'/'))
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        any::<u64>().prop_map(|size| Kind::File { size }),
        Just(Kind::Dir),
        vec(1..=255u8, 1..40).prop_map(|target| Kind::Symlink { target }),
        path().prop_map(|target| Kind::Hardlink { target }),
        Just(Kind::Fifo),
        Just(Kind::Whiteout),
        Just(Kind::Opaque),
        Just(Kind::Special),
    ]
}

prop_compose! {
    fn entry()(
        path in path(),
        kind in kind(),
        mode in 0..=0o7777u32,
        uid in 0..=MAX_ID,
        gid in 0..=MAX_ID,
        mtime in any::<i64>(),
        nanos in 0..1_000_000_000u32,
        xattrs in vec((vec(1..=255u8, 1..20), vec(any::<u8>(), 0..40)), 0..4),
    ) -> Entry {
        Entry { path, kind, mode, uid, gid, mtime, nanos, xattrs }
    }
}

proptest! {
    #[test]
    fn entries_arrive_as_sent(entry in entry()) {
        let record = Record::Entry(entry);
        let bytes = record.encode().unwrap();
        let len = record_len(bytes[..4].try_into().unwrap()).unwrap();
        prop_assert_eq!(len, bytes.len() - 4);
        prop_assert_eq!(Record::decode(&bytes[4..]), Ok(record));
    }

    #[test]
    fn a_shorter_or_longer_record_is_malformed(entry in entry(), cut in any::<usize>()) {
        let bytes = Record::Entry(entry).encode().unwrap();
        let body = &bytes[4..];
        prop_assert!(Record::decode(&body[..cut % body.len()]).is_err());
        let longer = [body, b"x"].concat();
        prop_assert_eq!(Record::decode(&longer), Err(TreeError::Malformed));
    }

    #[test]
    fn whatever_is_decoded_keeps_the_rules(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert!(record.encode().is_ok());
        }
    }

    #[test]
    fn what_passes_the_check_stays_below_the_root(bytes in vec(any::<u8>(), 0..30)) {
        if check_path(&bytes).is_ok() {
            let odd = bytes.split(|b| *b == b'/').any(|c| c.is_empty() || c == b"." || c == b"..");
            prop_assert!(!odd && !bytes.contains(&0) && bytes[0] != b'/');
        }
    }
}

#[test]
fn the_end_is_a_record_of_its_own() {
    let end = Record::End { entries: 3, bytes: u64::MAX };
    let bytes = end.encode().unwrap();
    assert_eq!(Record::decode(&bytes[4..]), Ok(end));
}

#[test]
fn another_header_is_refused() {
    check_header(&header()).unwrap();
    let mut other = header();
    other[7] += 1;
    assert_eq!(check_header(&other), Err(TreeError::Header));
    for len in [0, MAX_RECORD as u32 + 1, u32::MAX] {
        assert_eq!(record_len(len.to_be_bytes()), Err(TreeError::Malformed));
    }
}

#[test]
fn entries_that_break_a_rule_are_named() {
    let long = [b"a/".repeat(MAX_PATH / 2), b"bc".to_vec()].concat();
    let name = vec![b'a'; 256];
    for path in [
        &b""[..],
        b"/",
        b"/etc",
        b"..",
        b"a/../b",
        b"a//b",
        b"a/",
        b"./a",
        b"a/.",
        b"a\0b",
        &long,
        &name,
    ] {
        let refused = Entry::new(path, Kind::File { size: 0 }).check();
        let TreeError::Entry { path: named, rule } = refused.unwrap_err() else { panic!() };
        assert_eq!(named, path);
        assert!(rule.contains("path"), "{rule}");
    }
    Entry::new("", Kind::Dir).check().unwrap();
    let ids = Entry { uid: MAX_ID + 1, ..Entry::new("a", Kind::Dir) };
    assert!(ids.check().unwrap_err().to_string().contains("65535"));
    let out = Kind::Hardlink { target: b"../x".to_vec() };
    Entry::new("a", out).check().unwrap_err();
    let empty = Kind::Symlink { target: vec![] };
    Entry::new("a", empty).check().unwrap_err();
    let big = vec![(b"user.a".to_vec(), vec![0; MAX_XATTR_VALUE + 1])];
    Entry { xattrs: big, ..Entry::new("a", Kind::Dir) }.check().unwrap_err();
    let mode = Entry { mode: 0o100_644, ..Entry::new("a", Kind::Dir) };
    Record::Entry(mode).encode().unwrap_err();
}
