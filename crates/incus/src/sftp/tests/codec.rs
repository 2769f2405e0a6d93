//! Decoding takes anything.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use crate::sftp::Attrs;
use crate::sftp::packet::{self, MAX_PACKET, Op, Reply, Request};

fn attrs() -> impl Strategy<Value = Attrs> {
    (
        any::<Option<u64>>(),
        any::<Option<(u32, u32)>>(),
        any::<Option<u32>>(),
        any::<Option<(u32, u32)>>(),
    )
        .prop_map(|(size, owner, mode, times)| Attrs { size, owner, mode, times })
}

/// A reply of a kind that exists, with arbitrary contents: deeper than arbitrary bytes get.
fn almost() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(vec![101u8, 102, 103, 104, 105, 201]);
    let word = prop_oneof![Just(0u32), Just(1), 2u32..20, Just(0x8000_000f), any::<u32>()];
    let words = prop::collection::vec(word, 0..20);
    (kind, words, prop::collection::vec(any::<u8>(), 0..50)).prop_map(|(kind, words, tail)| {
        let mut out = vec![kind];
        words.iter().for_each(|w| out.put_u32(*w));
        out.extend(tail);
        out
    })
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = packet::decode(Bytes::from(bytes.clone()));
        let _ = packet::decode_version(Bytes::from(bytes));
    }

    #[test]
    fn almost_replies_are_decoded_or_refused(bytes in almost()) {
        if let Ok((_, Reply::Status { message, .. })) = packet::decode(Bytes::from(bytes)) {
            prop_assert!(!message.chars().any(char::is_control));
        }
    }

    #[test]
    fn frames_come_out_as_they_went_in(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10),
        cut in 1usize..60,
    ) {
        let mut wire = BytesMut::new();
        for frame in &frames {
            wire.put_u32(frame.len() as u32);
            wire.put_slice(frame);
        }
        let (mut received, mut out) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(cut) {
            received.put_slice(piece);
            while let Some(frame) = packet::take_frame(&mut received).expect("small frames") {
                out.push(frame.to_vec());
            }
        }
        prop_assert_eq!(out, frames);
        prop_assert!(received.is_empty());
    }

    #[test]
    fn attributes_survive_the_wire(attrs in attrs(), id: u32) {
        let (head, _) = Request::new(Op::Setstat).attrs(&attrs).finish(id);
        // The same fields as an ATTRS reply has behind its number.
        let mut frame = BytesMut::from(&head[4..]);
        frame[0] = 105;
        prop_assert_eq!(packet::decode(frame.freeze()), Ok((id, Reply::Attrs(attrs))));
    }

    #[test]
    fn requests_have_their_length(path in prop::collection::vec(1u8.., 0..300), data in prop::collection::vec(any::<u8>(), 0..300)) {
        let request = Request::new(Op::Write).path(&path).expect("path").u64(7).data(data.clone().into());
        let (mut head, tail) = request.finish(9);
        prop_assert_eq!(head.get_u32() as usize, head.len() + tail.len());
        prop_assert_eq!((head.get_u8(), head.get_u32(), head.get_u32() as usize), (6, 9, path.len()));
        prop_assert_eq!(head.split_to(path.len()), path);
        prop_assert_eq!((head.get_u64(), head.get_u32() as usize), (7, data.len()));
        prop_assert!(head.is_empty() && tail == data);
    }
}

#[test]
fn a_frame_that_is_too_large_is_refused_before_it_is_read() {
    let mut received = BytesMut::new();
    received.put_u32(MAX_PACKET as u32 + 1);
    assert!(packet::take_frame(&mut received).is_err());
}

#[test]
fn a_count_does_not_reserve_memory() {
    let mut frame = BytesMut::new();
    frame.put_u8(104);
    frame.put_u32(1);
    frame.put_u32(u32::MAX);
    assert!(packet::decode(frame.freeze()).is_err());
}
