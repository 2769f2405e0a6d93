//! The handshake: nothing is sent before the binary is there to take it.

/// What the `exec` face writes first: to stderr, or to its terminal once that is
/// in raw mode (so that the request is neither echoed nor edited). It holds no
/// byte that a line discipline changes on output.
pub const READY_MARKER: [u8; 16] = *b"\x1d\x1fpxg-ready-1\x1f\x1e\x17";

/// Finds [`READY_MARKER`] in what arrives before the request.
///
/// ```
/// use pixels_guest_api::{READY_MARKER, ReadyScanner};
/// let (mut scanner, mut rest) = (ReadyScanner::default(), Vec::new());
/// assert!(!scanner.push(&READY_MARKER[..5], &mut rest));
/// assert!(scanner.push(&READY_MARKER[5..], &mut rest));
/// scanner.push(b"later", &mut rest);
/// assert_eq!(rest, b"later");
/// ```
#[derive(Debug, Default)]
pub struct ReadyScanner {
    matched: usize,
    ready: bool,
}

impl ReadyScanner {
    /// Takes the next piece; says whether the marker has been seen. Bytes before
    /// the marker (no command runs yet) and the marker itself are dropped, those
    /// behind it are appended to `rest`.
    pub fn push(&mut self, input: &[u8], rest: &mut Vec<u8>) -> bool {
        for (i, byte) in input.iter().enumerate() {
            if self.ready {
                rest.extend_from_slice(&input[i..]);
                break;
            }
            // The marker's first byte occurs nowhere else in it, so a match can
            // only restart there.
            if *byte == READY_MARKER[self.matched] {
                self.matched += 1;
                self.ready = self.matched == READY_MARKER.len();
            } else {
                self.matched = usize::from(*byte == READY_MARKER[0]);
            }
        }
        self.ready
    }

    /// Whether the marker has been seen.
    pub fn is_ready(&self) -> bool {
        self.ready
    }
}
