//! Reports and the filter that finds them in a hostile stream.

use pixels_guest_api::{
    MAX_MESSAGE, Nonce, READY_MARKER, ReadyScanner, Report, ReportFilter, ReportKind,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn kind() -> impl Strategy<Value = ReportKind> {
    use ReportKind::*;
    prop::sample::select(vec![
        BadRequest,
        User,
        Cwd,
        NotFound,
        NotExecutable,
        TooLong,
        LoginShell,
        Timeout,
        System,
    ])
}

prop_compose! {
    fn report()(
        kind in kind(),
        errno in any::<i32>(),
        exit_code in any::<u8>(),
        message in "[ -~äß€]{0,60}",
    ) -> Report {
        Report { kind, errno, exit_code, message }
    }
}

/// Streams that like to look like the frame: few byte values, many partial
/// nonces.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    vec(0..3u8, 0..120)
}

fn nonce() -> impl Strategy<Value = Nonce> {
    vec(0..3u8, 16).prop_map(|v| Nonce(v.try_into().unwrap()))
}

fn feed(nonce: Nonce, stream: &[u8], chunks: &[usize]) -> (Vec<u8>, Option<Report>) {
    let (mut filter, mut out) = (ReportFilter::new(nonce), Vec::new());
    let (mut rest, mut sizes) = (stream, chunks.iter().cycle());
    while !rest.is_empty() {
        let n = (*sizes.next().unwrap()).min(rest.len());
        filter.push(&rest[..n], &mut out);
        rest = &rest[n..];
    }
    let report = filter.finish(&mut out);
    (out, report)
}

proptest! {
    #[test]
    fn payload_round_trip(r in report()) {
        prop_assert_eq!(Report::decode_payload(&r.encode_payload()).unwrap(), r);
    }

    #[test]
    fn hostile_payloads_never_panic(bytes in vec(any::<u8>(), 0..64)) {
        if let Ok(r) = Report::decode_payload(&bytes) {
            prop_assert!(!r.message.chars().any(char::is_control));
        }
    }

    #[test]
    fn without_a_frame_every_byte_passes(
        nonce in nonce(), stream in noise(), chunks in vec(1..9usize, 1..8)
    ) {
        prop_assert_eq!(feed(nonce, &stream, &chunks), (stream, None));
    }

    #[test]
    fn a_frame_is_taken_out_wherever_it_is_cut(
        nonce in any::<[u8; 16]>().prop_map(Nonce),
        before in noise(), after in noise(), r in report(), chunks in vec(1..9usize, 1..8)
    ) {
        let stream = [&before[..], &r.encode(&nonce), &after].concat();
        let expected = [before, after].concat();
        prop_assert_eq!(feed(nonce, &stream, &chunks), (expected, Some(r)));
    }

    #[test]
    fn frames_that_do_not_decode_pass_unchanged(
        nonce in any::<[u8; 16]>().prop_map(Nonce),
        len in any::<u32>(), body in vec(any::<u8>(), 0..40), chunks in vec(1..9usize, 1..8)
    ) {
        // Kind 0 does not exist.
        let stream = [&nonce.0[..], &len.to_be_bytes(), &[0], &body].concat();
        prop_assert_eq!(feed(nonce, &stream, &chunks), (stream, None));
    }

    #[test]
    fn the_scanner_finds_the_marker_behind_any_noise(
        before in vec(prop::sample::select(READY_MARKER.to_vec()), 0..60),
        after in vec(any::<u8>(), 0..20), n in 1..9usize
    ) {
        prop_assume!(!before.windows(16).any(|w| w == READY_MARKER));
        let stream = [&before[..], &READY_MARKER, &after].concat();
        let (mut scanner, mut rest) = (ReadyScanner::default(), Vec::new());
        for chunk in stream.chunks(n) {
            scanner.push(chunk, &mut rest);
        }
        prop_assert!(scanner.is_ready());
        prop_assert_eq!(rest, after);
    }
}

#[test]
fn an_endless_frame_holds_little() {
    let nonce = Nonce([9; 16]);
    let (mut filter, mut out) = (ReportFilter::new(nonce), Vec::new());
    filter.push(&nonce.0, &mut out);
    filter.push(&u32::MAX.to_be_bytes(), &mut out);
    for _ in 0..1000 {
        filter.push(&[9; 1000], &mut out);
        assert!(filter.held() < 4096, "{}", filter.held());
    }
}

#[test]
fn messages_are_one_harmless_bounded_line() {
    let r = Report {
        kind: ReportKind::System,
        errno: 5,
        exit_code: 125,
        message: format!("a\u{1b}[31m\nb\u{202e}{}", "€".repeat(2000)),
    };
    let back = Report::decode_payload(&r.encode_payload()).unwrap();
    assert!(back.message.len() <= MAX_MESSAGE);
    assert!(back.message.starts_with("a [31m b €"));
    assert!(r.encode(&Nonce([0; 16])).len() <= 4096);
    let mut hostile = vec![9, 0, 0, 0, 0, 1];
    hostile.extend(b"x\x1b]0;t\x07\xff");
    assert_eq!(Report::decode_payload(&hostile).unwrap().message, "x ]0;t \u{fffd}");
}

#[test]
fn only_the_first_report_counts() {
    let nonce = Nonce([1; 16]);
    let r = |errno| Report { kind: ReportKind::Cwd, errno, exit_code: 125, message: String::new() };
    let second = r(2).encode(&nonce);
    let stream = [r(1).encode(&nonce), second.clone()].concat();
    assert_eq!(feed(nonce, &stream, &[3]), (second, Some(r(1))));
}
