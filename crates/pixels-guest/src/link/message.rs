//! Messages to the kernel's routing socket, several in one call.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;

use crate::host::{self, Failed};
use crate::sys::{self, errno, fd, netlink};

/// A message's header.
const HEADER: usize = 16;
/// An attribute's header.
const ATTRIBUTE: usize = 4;
/// Larger than any answer: a link is about 2 KiB.
const BUFFER: usize = 32 * 1024;

/// What went wrong, and at what.
#[derive(Debug)]
pub(crate) struct LinkError {
    /// The step, as a clause: `making the interface`.
    pub(crate) step: &'static str,
    /// What the kernel said.
    pub(crate) error: io::Error,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, sys::describe(errno(&self.error)))
    }
}

impl<T> host::Step<T> for Result<T, LinkError> {
    fn step(self, step: &str) -> Result<T, Failed> {
        self.map_err(|e| host::failed(&format!("{step}: {}", e.step), e.error))
    }
}

/// An error at `step`, for `map_err`.
pub(super) fn at(step: &'static str) -> impl FnOnce(io::Error) -> LinkError {
    move |error| LinkError { step, error }
}

/// The attributes of one message, appended one after the other.
pub(super) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    /// One with this value.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = u16::try_from(ATTRIBUTE + value.len()).expect("values are short");
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        pad(self.0);
        self
    }

    /// A number.
    pub(super) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// A name, with the NUL at its end.
    pub(super) fn name(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.put(kind, &[value, &[0]].concat())
    }

    /// One that holds `head` and others.
    pub(super) fn nest(
        &mut self,
        kind: u16,
        head: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) -> &mut Self {
        let start = self.0.len();
        self.put(kind, head);
        fill(&mut Attributes(self.0));
        let len = u16::try_from(self.0.len() - start).expect("nests are short");
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Messages that go out in one call. The kernel takes them in order and goes on
/// after one that failed.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    steps: Vec<Step>,
    /// Where the last message begins.
    last: usize,
}

struct Step {
    name: &'static str,
    /// Not there at all is as good.
    optional: bool,
}

/// What came back.
#[derive(Default)]
pub(super) struct Answers {
    /// The first step that failed.
    pub(super) failed: Option<LinkError>,
    /// Whether the first message was carried out.
    pub(super) first: bool,
    /// The index of the link that was asked for.
    pub(super) index: Option<u32>,
}

impl Batch {
    /// One more message: its `kind`, its flags beside REQUEST, its fixed part, its attributes.
    pub(super) fn add(
        &mut self,
        step: &'static str,
        kind: u16,
        flags: libc::c_int,
        head: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.last = self.bytes.len();
        self.steps.push(Step { name: step, optional: false });
        let sequence = u32::try_from(self.steps.len()).expect("a few");
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(head);
        pad(&mut self.bytes);
        fill(&mut Attributes(&mut self.bytes));
        let len = u32::try_from(self.bytes.len() - self.last).expect("a few");
        self.bytes[self.last..self.last + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// The last message may fail where the kernel lacks the address family.
    pub(super) fn optional(&mut self) {
        if let Some(step) = self.steps.last_mut() {
            step.optional = true;
        }
    }

    /// Sends them all and gathers the answers. Only the last message asks to be
    /// confirmed: failures are told in any case, in order.
    ///
    /// # Errors
    /// The socket's own. What the kernel refused is in the answers.
    pub(super) fn send(mut self, socket: &std::os::fd::OwnedFd) -> Result<Answers, LinkError> {
        let flags = self.last + 6;
        self.bytes[flags] |= libc::NLM_F_ACK as u8;
        let sent = fd::write(socket.as_raw_fd(), &self.bytes).map_err(at("asking the kernel"))?;
        debug_assert_eq!(sent, self.bytes.len(), "a datagram goes as a whole");
        let mut answers = Answers { first: true, ..Answers::default() };
        let mut buf = vec![0; BUFFER];
        loop {
            let n = netlink::receive(socket, &mut buf).map_err(at("hearing the kernel"))?;
            let mut rest = &buf[..n];
            while let Some((kind, sequence, body)) = message(&mut rest) {
                if kind == libc::RTM_NEWLINK {
                    answers.index = body.get(4..8).and_then(number);
                }
                if i32::from(kind) != libc::NLMSG_ERROR {
                    continue;
                }
                let code = body.first_chunk().map_or(0, |b| i32::from_ne_bytes(*b));
                self.note(&mut answers, sequence, -code);
                if sequence as usize == self.steps.len() {
                    return Ok(answers);
                }
            }
        }
    }

    fn note(&self, answers: &mut Answers, sequence: u32, code: i32) {
        let at = (sequence as usize).wrapping_sub(1);
        let Some(step) = self.steps.get(at).filter(|_| code != 0) else { return };
        if at == 0 {
            answers.first = false;
        }
        let lacking = matches!(code, libc::EAFNOSUPPORT | libc::EOPNOTSUPP);
        if answers.failed.is_none() && !(step.optional && lacking) {
            let error = io::Error::from_raw_os_error(code);
            answers.failed = Some(LinkError { step: step.name, error });
        }
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

/// Takes one netlink message off the front: its type, sequence and body.
pub(crate) fn message<'a>(rest: &mut &'a [u8]) -> Option<(u16, u32, &'a [u8])> {
    let head = rest.first_chunk::<HEADER>()?;
    let len = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let kind = u16::from_ne_bytes([head[4], head[5]]);
    let sequence = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
    let body = rest.get(HEADER..len)?;
    *rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, sequence, body))
}
