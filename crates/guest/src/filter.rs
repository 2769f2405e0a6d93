//! Finds the one report in a stream that otherwise belongs to the command.

use crate::report::{MAX_PAYLOAD, Report};
use crate::request::Nonce;

const NONCE_LEN: usize = 16;
const HEAD: usize = NONCE_LEN + 4;

/// Passes a stream through and takes the report frame out of it.
///
/// Only bytes that could be the start of the frame are held back, at most about
/// 2 KiB, until they are known to be or not to be one. What looks like a frame
/// and does not decode is passed through like everything else. After the first
/// report all bytes pass.
///
/// ```
/// use pixels_guest_api::{Nonce, Report, ReportFilter, ReportKind};
/// let nonce = Nonce(*b"0123456789abcdef");
/// let report = Report { kind: ReportKind::Cwd, errno: 2, exit_code: 125, message: "x".into() };
/// let mut stream = b"out".to_vec();
/// stream.extend(report.encode(&nonce));
/// let (mut filter, mut out) = (ReportFilter::new(nonce), Vec::new());
/// for byte in stream {
///     filter.push(&[byte], &mut out);
/// }
/// assert_eq!(filter.finish(&mut out), Some(report));
/// assert_eq!(out, b"out");
/// ```
#[derive(Debug)]
pub struct ReportFilter {
    nonce: Nonce,
    held: Vec<u8>,
    report: Option<Report>,
}

impl ReportFilter {
    /// A filter for the report marked with `nonce`.
    pub fn new(nonce: Nonce) -> Self {
        Self { nonce, held: Vec::new(), report: None }
    }

    /// Takes the next piece of the stream and appends to `out` what belongs to
    /// the command.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        if self.report.is_some() {
            out.extend_from_slice(input);
            return;
        }
        self.held.extend_from_slice(input);
        let mut at = 0;
        loop {
            let start = at + self.find(&self.held[at..]);
            out.extend_from_slice(&self.held[at..start]);
            at = start;
            let candidate = &self.held[at..];
            let Some((head, rest)) = candidate.split_first_chunk::<HEAD>() else {
                break;
            };
            let len = u32::from_be_bytes([head[16], head[17], head[18], head[19]]) as usize;
            if len <= MAX_PAYLOAD {
                let Some((payload, after)) = rest.split_at_checked(len) else {
                    break;
                };
                if let Ok(report) = Report::decode_payload(payload) {
                    out.extend_from_slice(after);
                    self.report = Some(report);
                    self.held = Vec::new();
                    return;
                }
            }
            // Not a frame: its first byte is the command's, look on behind it.
            out.push(head[0]);
            at += 1;
        }
        self.held.drain(..at);
    }

    /// The report, as soon as it has been seen.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// How many bytes are held back at the moment.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Ends the stream: what is still held back belongs to the command.
    pub fn finish(self, out: &mut Vec<u8>) -> Option<Report> {
        out.extend_from_slice(&self.held);
        self.report
    }

    /// Where the nonce starts in `bytes`, or where a beginning of it reaches the
    /// end, or the length.
    fn find(&self, bytes: &[u8]) -> usize {
        let nonce = &self.nonce.0;
        let mut at = 0;
        while let Some(next) = bytes[at..].iter().position(|b| *b == nonce[0]) {
            at += next;
            let n = NONCE_LEN.min(bytes.len() - at);
            if bytes[at..at + n] == nonce[..n] {
                return at;
            }
            at += 1;
        }
        bytes.len()
    }
}
