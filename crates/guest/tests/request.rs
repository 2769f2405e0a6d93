//! The request frame: exact round trips, strict and total decoding.

use pixels_guest_api::{
    ExecRequest, HEADER_LEN, MAX_FRAME, MAX_ITEMS, Nonce, RequestError, RequestHeader, UserSpec,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = Vec<u8>> {
    vec(1..=255u8, 0..40)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec((1..=255u8).prop_filter("not =", |b| *b != b'='), 1..20)
}

fn user() -> impl Strategy<Value = UserSpec> {
    let login = "[a-z_][a-z0-9_-]{0,12}".prop_map(String::into_bytes);
    prop_oneof![
        login.clone().prop_map(UserSpec::NameOrRoot),
        login.prop_map(UserSpec::Name),
        Just(UserSpec::Root),
        any::<(u32, u32)>().prop_map(|(uid, gid)| UserSpec::Ids { uid, gid }),
    ]
}

prop_compose! {
    fn request()(
        nonce in any::<[u8; 16]>(),
        argv in vec(text(), 0..12),
        env in vec((name(), text()), 0..12),
        cwd in proptest::option::of(text()),
        term in proptest::option::of(text()),
        user in user(),
        flags in any::<(bool, bool)>(),
        timeout_ms in any::<u64>(),
    ) -> ExecRequest {
        ExecRequest {
            nonce: Nonce(nonce), argv, env, cwd, user, login: flags.0,
            kill_on_exit: flags.1, drain_output: flags.0 != flags.1, term, timeout_ms,
        }
    }
}

proptest! {
    #[test]
    fn round_trip(r in request()) {
        let frame = r.encode().unwrap();
        prop_assert_eq!(ExecRequest::decode(&frame).unwrap(), r.clone());
        let head = frame.first_chunk::<HEADER_LEN>().unwrap();
        prop_assert_eq!(RequestHeader::decode(head).unwrap().body_len, frame.len() - HEADER_LEN);
        prop_assert_eq!(RequestHeader::peek_nonce(head), Some(r.nonce));
    }

    #[test]
    fn every_truncation_and_extension_is_refused(r in request(), cut in any::<prop::sample::Index>()) {
        let mut frame = r.encode().unwrap();
        prop_assert!(ExecRequest::decode(&frame[..cut.index(frame.len())]).is_err());
        frame.push(0);
        prop_assert!(ExecRequest::decode(&frame).is_err());
    }

    #[test]
    fn hostile_bodies_never_panic(body in vec(any::<u8>(), 0..200)) {
        let header = RequestHeader { nonce: Nonce([0; 16]), body_len: body.len() };
        let _ = ExecRequest::decode_body(&header, &body);
    }

    #[test]
    fn one_changed_byte_never_panics_and_what_decodes_encodes(
        r in request(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut frame = r.encode().unwrap();
        let at = at.index(frame.len());
        frame[at] = byte;
        if let Ok(other) = ExecRequest::decode(&frame) {
            prop_assert_eq!(other.encode().unwrap(), frame);
        }
    }
}

fn plain() -> ExecRequest {
    ExecRequest::new(Nonce([7; 16]), vec![b"true".to_vec()])
}

#[test]
fn another_version_is_refused_and_its_nonce_is_known() {
    let mut frame = plain().encode().unwrap();
    frame[7] = 9;
    assert_eq!(ExecRequest::decode(&frame), Err(RequestError::Version(9)));
    let head = frame.first_chunk::<HEADER_LEN>().unwrap();
    assert_eq!(RequestHeader::peek_nonce(head), Some(Nonce([7; 16])));
    frame[0] = b'x';
    assert_eq!(ExecRequest::decode(&frame), Err(RequestError::Magic));
    let head = frame.first_chunk::<HEADER_LEN>().unwrap();
    assert_eq!(RequestHeader::peek_nonce(head), None);
}

#[test]
fn size_limits_hold_on_both_sides() {
    let mut r = plain();
    r.argv = vec![vec![b'a'; MAX_FRAME]];
    assert_eq!(r.encode(), Err(RequestError::TooLarge));
    let base = {
        let mut r = plain();
        r.argv = vec![Vec::new()];
        r.encode().unwrap().len()
    };
    r.argv = vec![vec![b'a'; MAX_FRAME - base]];
    let frame = r.encode().unwrap();
    assert_eq!(frame.len(), MAX_FRAME);
    assert_eq!(ExecRequest::decode(&frame).unwrap(), r);
    r.argv = vec![Vec::new(); MAX_ITEMS + 1];
    assert_eq!(r.encode(), Err(RequestError::TooLarge));

    let mut head = *plain().encode().unwrap().first_chunk::<HEADER_LEN>().unwrap();
    head[HEADER_LEN - 4..].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(RequestHeader::decode(&head), Err(RequestError::TooLarge));
}

#[test]
fn a_count_that_cannot_fit_allocates_nothing() {
    let frame = plain().encode().unwrap();
    // The count of arguments lies 4 (env count) + 4 + 4 ("true") from the end.
    let at = frame.len() - 16;
    for claim in [200_000u32, u32::MAX] {
        let mut frame = frame.clone();
        frame[at..at + 4].copy_from_slice(&claim.to_be_bytes());
        assert!(ExecRequest::decode(&frame).is_err());
    }
}

#[test]
fn rules_of_the_fields() {
    let refused = |change: fn(&mut ExecRequest)| {
        let mut r = plain();
        change(&mut r);
        assert!(matches!(r.encode(), Err(RequestError::Invalid(_))), "{:?}", r.encode());
    };
    refused(|r| r.argv.push(b"a\0b".to_vec()));
    refused(|r| r.env.push((b"".to_vec(), b"x".to_vec())));
    refused(|r| r.env.push((b"a=b".to_vec(), b"x".to_vec())));
    refused(|r| r.env.push((b"a".to_vec(), b"x\0".to_vec())));
    refused(|r| r.cwd = Some(b"/a\0".to_vec()));
    refused(|r| r.term = Some(b"x\0term".to_vec()));
    refused(|r| r.user = UserSpec::Name(Vec::new()));
    refused(|r| r.user = UserSpec::NameOrRoot(b"a:b".to_vec()));
}

#[test]
fn debug_shows_no_secret() {
    let mut r = plain();
    r.argv.push(b"--password=hunter2".to_vec());
    r.env.push((b"TOKEN".to_vec(), b"hunter2".to_vec()));
    let shown = format!("{r:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("104, 117"), "{shown}");
}
