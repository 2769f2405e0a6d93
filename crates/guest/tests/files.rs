//! The frames of the face `files`: exact round trips, strict and total decoding.

use pixels_guest_api::files::{
    Attrs, END, Entry, Fault, HEAD_LEN, Head, Kind, Listing, MAX_BODY, MAX_NAME, MAX_PATH, Reply,
    Request, Stat, Which, is_name,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

fn path() -> impl Strategy<Value = Vec<u8>> {
    vec(1..=255u8, 0..60).prop_map(|rest| [b"/", &rest[..]].concat())
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec((1..=255u8).prop_filter("not /", |b| *b != b'/'), 1..60)
        .prop_filter("a name", |n| is_name(n))
}

fn mode() -> impl Strategy<Value = u32> {
    0..=0o7777u32
}

prop_compose! {
    fn attrs()(mode in of(mode()), owner in of(any::<(u32, u32)>()), mtime in of(any::<u64>())) -> Attrs {
        Attrs { mode, owner, mtime }
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::File), Just(Kind::Dir), Just(Kind::Symlink), Just(Kind::Special)]
}

prop_compose! {
    fn stat()(
        kind in kind(), size in any::<u64>(), mode in mode(), uid in any::<u32>(),
        gid in any::<u32>(), mtime in any::<u64>(),
    ) -> Stat {
        Stat { kind, size, mode, uid, gid, mtime }
    }
}

fn request() -> impl Strategy<Value = Request> {
    let owner = || of(any::<(u32, u32)>());
    let target = vec(1..=255u8, 1..60);
    let temp = name().prop_map(|n| [b".pixels-", &n[..]].concat());
    prop_oneof![
        (path(), any::<bool>()).prop_map(|(path, follow)| Request::Stat { path, follow }),
        path().prop_map(|path| Request::ReadDir { path }),
        path().prop_map(|path| Request::ReadLink { path }),
        path().prop_map(|path| Request::Read { path }),
        (path(), temp, attrs()).prop_map(|(path, temp, attrs)| Request::Write {
            path,
            temp,
            attrs
        }),
        (path(), mode(), owner()).prop_map(|(path, mode, owner)| Request::Mkdir {
            path,
            mode,
            owner
        }),
        (target, path(), owner()).prop_map(|(target, path, owner)| Request::Symlink {
            target,
            path,
            owner
        }),
        (path(), path()).prop_map(|(from, to)| Request::Rename { from, to }),
        path().prop_map(|path| Request::RemoveFile { path }),
        path().prop_map(|path| Request::RemoveDir { path }),
        (path(), attrs()).prop_map(|(path, attrs)| Request::SetAttrs { path, attrs }),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let entry = (name(), stat()).prop_map(|(name, stat)| Entry { name, stat });
    let which =
        prop_oneof![Just(Which::Path), Just(Which::Parent), Just(Which::To), Just(Which::ToParent)];
    prop_oneof![
        stat().prop_map(Reply::Stat),
        vec(entry, 1..20).prop_map(Reply::Entries),
        vec(1..=255u8, 1..60).prop_map(Reply::Link),
        Just(Reply::Done),
        (any::<i32>(), which).prop_map(|(errno, which)| Reply::Error(Fault { errno, which })),
    ]
}

/// A frame's head and body; the length is that of the body.
fn parts(frame: &[u8]) -> (Head, &[u8]) {
    let (head, body) = frame.split_first_chunk::<HEAD_LEN>().unwrap();
    let head = Head::decode(head).unwrap();
    assert_eq!(head.len, body.len());
    (head, body)
}

proptest! {
    #[test]
    fn requests_round_trip(request in request()) {
        let frame = request.encode().unwrap();
        let (head, body) = parts(&frame);
        prop_assert_eq!(Request::decode(head.tag, body).unwrap(), request);
    }

    #[test]
    fn replies_round_trip(reply in reply()) {
        let frame = reply.encode();
        let (head, body) = parts(&frame);
        prop_assert_eq!(Reply::decode(head.tag, body).unwrap(), reply);
    }

    #[test]
    fn lengths_are_exact(request in request(), reply in reply(), cut in any::<prop::sample::Index>()) {
        let frame = request.encode().unwrap();
        let (head, body) = parts(&frame);
        prop_assert!(Request::decode(head.tag, &body[..cut.index(body.len())]).is_err());
        prop_assert!(Request::decode(head.tag, &[body, &[0]].concat()).is_err());
        let frame = reply.encode();
        let (head, body) = parts(&frame);
        prop_assert!(Reply::decode(head.tag, &[body, &[0]].concat()).is_err());
        if let Reply::Entries(_) | Reply::Done = reply {
            // Fewer entries are a listing too.
        } else {
            prop_assert!(Reply::decode(head.tag, &body[..cut.index(body.len())]).is_err());
        }
    }

    #[test]
    fn anything_decodes_or_is_refused(tag in any::<u8>(), body in vec(any::<u8>(), 0..300)) {
        if let Ok(request) = Request::decode(tag, &body) {
            prop_assert!(request.encode().is_ok());
        }
        if let Ok(Reply::Entries(entries)) = Reply::decode(tag, &body) {
            prop_assert!(entries.iter().all(|e| is_name(&e.name) && e.stat.mode <= 0o7777));
            prop_assert!(entries.len() * 33 <= body.len());
        }
    }

    #[test]
    fn heads_are_bounded(head in any::<[u8; HEAD_LEN]>()) {
        if let Ok(head) = Head::decode(&head) {
            prop_assert!(head.len <= MAX_BODY);
        }
    }
}

#[test]
fn heads() {
    assert!(Head::decode(&[0, 0, 0, 0, 1]).is_err(), "a frame has a tag");
    assert!(Head::decode(&[255, 255, 255, 255, 1]).is_err());
    for len in [0, 1, MAX_BODY] {
        assert_eq!(Head::decode(&Head::encode(7, len)).unwrap(), Head { tag: 7, len });
    }
    let [a, b, c, d] = u32::try_from(MAX_BODY + 2).unwrap().to_be_bytes();
    assert!(Head::decode(&[a, b, c, d, 1]).is_err(), "one byte too many");
}

const STAT: Stat = Stat { kind: Kind::File, size: 1, mode: 0o644, uid: 0, gid: 0, mtime: 1 };

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let long = vec![b'a'; MAX_NAME + 1];
    for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"../x", b"a\0b", &long] {
        assert!(!is_name(bad));
        let frame = Reply::Entries(vec![Entry { name: bad.to_vec(), stat: STAT }]).encode();
        let (head, body) = parts(&frame);
        assert!(Reply::decode(head.tag, body).is_err(), "{bad:?}");
    }
    for good in [&b"..."[..], b"-rf", b"\n", b"\xff", b".pixels-"] {
        assert!(is_name(good));
    }
}

#[test]
fn values_that_no_kernel_has_are_refused() {
    for reply in [
        Reply::Stat(Stat { mode: 0o10000, ..STAT }),
        Reply::Link(Vec::new()),
        Reply::Link(b"a\0b".to_vec()),
        Reply::Link(vec![b'a'; MAX_PATH + 1]),
    ] {
        let frame = reply.encode();
        let (head, body) = parts(&frame);
        assert!(Reply::decode(head.tag, body).is_err(), "{reply:?}");
    }
}

#[test]
fn requests_keep_the_rules() {
    let long = [b"/", &vec![b'a'; MAX_PATH][..]].concat();
    for bad in [&b""[..], b"a", b"a/b", b"/a\0b", &long] {
        for request in [
            Request::Stat { path: bad.to_vec(), follow: true },
            Request::Rename { from: b"/a".to_vec(), to: bad.to_vec() },
            Request::Rename { from: bad.to_vec(), to: b"/a".to_vec() },
            Request::Symlink { target: b"x".to_vec(), path: bad.to_vec(), owner: None },
        ] {
            assert!(request.encode().is_err(), "{request:?}");
        }
    }
    let write = |temp: &[u8]| Request::Write {
        path: b"/a".to_vec(),
        temp: temp.to_vec(),
        attrs: Attrs::default(),
    };
    assert!(write(b".pixels-1").encode().is_ok());
    for bad in [&b""[..], b"x", b".pixels-/../x", b"../.pixels-", b"/.pixels-"] {
        assert!(write(bad).encode().is_err(), "{bad:?}");
    }
    let mkdir = Request::Mkdir { path: b"/a".to_vec(), mode: 0o10755, owner: None };
    assert!(mkdir.encode().is_err());
    let link = Request::Symlink { target: Vec::new(), path: b"/a".to_vec(), owner: None };
    assert!(link.encode().is_err());
}

#[test]
fn a_listing_comes_in_bounded_pieces() {
    let mut listing = Listing::new();
    let (mut frames, mut names) = (Vec::new(), 0);
    for n in 0..20_000 {
        frames.extend(listing.push(format!("{n:0200}").as_bytes(), &STAT));
    }
    assert!(listing.push(b"..", &STAT).is_none(), "what is no name is left out");
    let last = listing.finish();
    let end = last.len() - HEAD_LEN;
    assert_eq!(last[end..], Head::encode(END, 0));
    frames.push(last[..end].to_vec());
    assert!(frames.len() > 10);
    for frame in frames {
        let (head, body) = parts(&frame);
        let Reply::Entries(entries) = Reply::decode(head.tag, body).unwrap() else { panic!() };
        names += entries.len();
    }
    assert_eq!(names, 20_000);
    assert_eq!(Listing::new().finish(), Head::encode(END, 0));
}
