//! The request: what to run, as whom, where and for how long.

use std::fmt;

use crate::codec::{Reader, put_bytes};

/// Version of the request frame. The host pushes the binary it was built with,
/// so there is nothing to negotiate: another version is refused.
pub const PROTOCOL_VERSION: u32 = 1;

/// Length of the fixed header in bytes: magic, version, nonce, body length.
pub const HEADER_LEN: usize = 4 + 4 + 16 + 4;

/// The longest frame in bytes, header included.
pub const MAX_FRAME: usize = 8 * 1024 * 1024;

/// The most arguments, and the most variables, one request carries.
pub const MAX_ITEMS: usize = 256 * 1024;

const MAGIC: [u8; 4] = *b"PXex";

const FLAG_LOGIN: u32 = 1;
const FLAG_KILL_ON_EXIT: u32 = 2;
const FLAG_DRAIN_OUTPUT: u32 = 4;
const FLAGS_KNOWN: u32 = FLAG_LOGIN | FLAG_KILL_ON_EXIT | FLAG_DRAIN_OUTPUT;

/// Sixteen bytes from the host's random generator that mark the report of one
/// exec. The command never learns them, so it cannot forge a report.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce(
    /// The raw bytes.
    pub [u8; 16],
);

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

/// Whom the command runs as. Names are looked up in the guest's own
/// `/etc/passwd` and `/etc/group`, without its name service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSpec {
    /// The named user where the guest has it, else root.
    NameOrRoot(Vec<u8>),
    /// The named user; its absence is a report of kind `User`.
    Name(Vec<u8>),
    /// User id 0, group id 0.
    Root,
    /// These numbers, whether or not the guest has a name for them.
    Ids {
        /// The user id.
        uid: u32,
        /// The group id.
        gid: u32,
    },
}

/// One command to run. Byte strings arrive as given: nothing is decoded,
/// trimmed or quoted on the way.
#[derive(Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Marks the report; fresh random bytes for each request.
    pub nonce: Nonce,
    /// The argument vector; `argv[0]` is searched for in `PATH`. Empty asks for
    /// the user's login shell. No argument holds a NUL.
    pub argv: Vec<Vec<u8>>,
    /// Variables that win over everything the guest sets; of two with one name
    /// the last wins. Names are not empty and hold neither `=` nor NUL, values
    /// hold no NUL.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// The working directory; `None` is the user's home, or `/` without one.
    pub cwd: Option<Vec<u8>>,
    /// Whom to run as.
    pub user: UserSpec,
    /// Whether the user's login shell prepares the environment first.
    pub login: bool,
    /// Whether descendants that outlive the command are killed.
    pub kill_on_exit: bool,
    /// Whether the `exec` face ends only when stdout and stderr have been read:
    /// for backends that throw away what a slow reader has not taken by then.
    pub drain_output: bool,
    /// `TERM` for the shell and the command on a terminal; ignored without one.
    pub term: Option<Vec<u8>>,
    /// Milliseconds after which the whole tree is killed; 0 is never.
    pub timeout_ms: u64,
}

/// Shows the shape only: arguments and variables may hold secrets.
impl fmt::Debug for ExecRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecRequest")
            .field("argv", &format_args!("{} arguments", self.argv.len()))
            .field("env", &format_args!("{} variables", self.env.len()))
            .field("user", &self.user)
            .field("login", &self.login)
            .field("kill_on_exit", &self.kill_on_exit)
            .field("drain_output", &self.drain_output)
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The first bytes are not a request's.
    Magic,
    /// The frame has this other version.
    Version(u32),
    /// The frame is longer than [`MAX_FRAME`], or has more than [`MAX_ITEMS`].
    TooLarge,
    /// A length runs past the end, or bytes are left over.
    Malformed,
    /// A field holds what it must not; the text names the field and the rule.
    Invalid(&'static str),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("not an exec request"),
            Self::Version(v) => {
                write!(f, "request version {v} is not supported (this is {PROTOCOL_VERSION})")
            }
            Self::TooLarge => write!(
                f,
                "arguments and environment are too long (at most {MAX_FRAME} bytes and {MAX_ITEMS} items)"
            ),
            Self::Malformed => f.write_str("malformed exec request"),
            Self::Invalid(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for RequestError {}

/// The fixed-size head of a frame: says how many bytes follow, so that a reader
/// never takes one that belongs to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The request's nonce.
    pub nonce: Nonce,
    /// Length of the body in bytes.
    pub body_len: usize,
}

impl RequestHeader {
    /// Decodes the head of a frame.
    ///
    /// # Errors
    /// Wrong magic, another version, or a body beyond [`MAX_FRAME`].
    pub fn decode(head: &[u8; HEADER_LEN]) -> Result<Self, RequestError> {
        let mut r = Reader::new(head);
        if r.array() != Some(MAGIC) {
            return Err(RequestError::Magic);
        }
        let version = r.u32().ok_or(RequestError::Malformed)?;
        if version != PROTOCOL_VERSION {
            return Err(RequestError::Version(version));
        }
        let nonce = Nonce(r.array().ok_or(RequestError::Malformed)?);
        let body_len = usize::try_from(r.u32().ok_or(RequestError::Malformed)?)
            .map_err(|_| RequestError::TooLarge)?;
        if body_len > MAX_FRAME - HEADER_LEN {
            return Err(RequestError::TooLarge);
        }
        Ok(Self { nonce, body_len })
    }

    /// The nonce of a head whose magic is right, even where the rest is refused:
    /// it lets the refusal itself be reported.
    pub fn peek_nonce(head: &[u8; HEADER_LEN]) -> Option<Nonce> {
        let mut r = Reader::new(head);
        if r.array() != Some(MAGIC) {
            return None;
        }
        r.u32()?;
        r.array().map(Nonce)
    }
}

impl ExecRequest {
    /// A request with this nonce and argument vector, as the user's login shell
    /// would run it for root, without variables, directory or timeout.
    pub fn new(nonce: Nonce, argv: Vec<Vec<u8>>) -> Self {
        Self {
            nonce,
            argv,
            env: Vec::new(),
            cwd: None,
            user: UserSpec::Root,
            login: true,
            kill_on_exit: false,
            drain_output: false,
            term: None,
            timeout_ms: 0,
        }
    }

    /// Encodes the whole frame, header included.
    ///
    /// # Errors
    /// What [`ExecRequest::decode`] would refuse is refused here.
    pub fn encode(&self) -> Result<Vec<u8>, RequestError> {
        self.validate()?;
        let size = self.encoded_len();
        if size > MAX_FRAME {
            return Err(RequestError::TooLarge);
        }
        let mut out = Vec::with_capacity(size);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&PROTOCOL_VERSION.to_be_bytes());
        out.extend_from_slice(&self.nonce.0);
        let body_len = u32::try_from(size - HEADER_LEN).map_err(|_| RequestError::TooLarge)?;
        out.extend_from_slice(&body_len.to_be_bytes());

        let mut flags = 0;
        if self.login {
            flags |= FLAG_LOGIN;
        }
        if self.kill_on_exit {
            flags |= FLAG_KILL_ON_EXIT;
        }
        if self.drain_output {
            flags |= FLAG_DRAIN_OUTPUT;
        }
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(&self.timeout_ms.to_be_bytes());
        match &self.user {
            UserSpec::NameOrRoot(name) => {
                out.push(0);
                put_bytes(&mut out, name);
            }
            UserSpec::Name(name) => {
                out.push(1);
                put_bytes(&mut out, name);
            }
            UserSpec::Root => out.push(2),
            UserSpec::Ids { uid, gid } => {
                out.push(3);
                out.extend_from_slice(&uid.to_be_bytes());
                out.extend_from_slice(&gid.to_be_bytes());
            }
        }
        put_optional(&mut out, self.cwd.as_deref());
        put_optional(&mut out, self.term.as_deref());
        put_count(&mut out, self.argv.len());
        for arg in &self.argv {
            put_bytes(&mut out, arg);
        }
        put_count(&mut out, self.env.len());
        for (name, value) in &self.env {
            put_bytes(&mut out, name);
            put_bytes(&mut out, value);
        }
        debug_assert_eq!(out.len(), size);
        Ok(out)
    }

    /// Decodes one whole frame.
    ///
    /// # Errors
    /// Anything but exactly one well-formed frame of this version whose fields
    /// keep the rules written at [`ExecRequest`].
    pub fn decode(frame: &[u8]) -> Result<Self, RequestError> {
        let (head, body) =
            frame.split_first_chunk::<HEADER_LEN>().ok_or(RequestError::Malformed)?;
        let header = RequestHeader::decode(head)?;
        Self::decode_body(&header, body)
    }

    /// Decodes the body that follows `header`.
    ///
    /// # Errors
    /// As [`ExecRequest::decode`].
    pub fn decode_body(header: &RequestHeader, body: &[u8]) -> Result<Self, RequestError> {
        if body.len() != header.body_len {
            return Err(RequestError::Malformed);
        }
        let mut r = Reader::new(body);
        let request = Self::fields(header.nonce, &mut r)?;
        if !r.is_empty() {
            return Err(RequestError::Malformed);
        }
        request.validate()?;
        Ok(request)
    }

    fn fields(nonce: Nonce, r: &mut Reader<'_>) -> Result<Self, RequestError> {
        const BAD: RequestError = RequestError::Malformed;
        let flags = r.u32().ok_or(BAD)?;
        if flags & !FLAGS_KNOWN != 0 {
            return Err(BAD);
        }
        let timeout_ms = r.u64().ok_or(BAD)?;
        let user = match r.u8().ok_or(BAD)? {
            0 => UserSpec::NameOrRoot(r.bytes().ok_or(BAD)?.to_vec()),
            1 => UserSpec::Name(r.bytes().ok_or(BAD)?.to_vec()),
            2 => UserSpec::Root,
            3 => UserSpec::Ids { uid: r.u32().ok_or(BAD)?, gid: r.u32().ok_or(BAD)? },
            _ => return Err(BAD),
        };
        let cwd = optional(r)?;
        let term = optional(r)?;
        let mut argv = Vec::new();
        for _ in 0..count(r, 4)? {
            argv.push(r.bytes().ok_or(BAD)?.to_vec());
        }
        let mut env = Vec::new();
        for _ in 0..count(r, 8)? {
            let name = r.bytes().ok_or(BAD)?.to_vec();
            env.push((name, r.bytes().ok_or(BAD)?.to_vec()));
        }
        Ok(Self {
            nonce,
            argv,
            env,
            cwd,
            user,
            login: flags & FLAG_LOGIN != 0,
            kill_on_exit: flags & FLAG_KILL_ON_EXIT != 0,
            drain_output: flags & FLAG_DRAIN_OUTPUT != 0,
            term,
            timeout_ms,
        })
    }

    fn encoded_len(&self) -> usize {
        let user = match &self.user {
            UserSpec::NameOrRoot(n) | UserSpec::Name(n) => 4 + n.len(),
            UserSpec::Root => 0,
            UserSpec::Ids { .. } => 8,
        };
        let optional = |b: &Option<Vec<u8>>| 1 + b.as_ref().map_or(0, |b| 4 + b.len());
        HEADER_LEN
            + 4
            + 8
            + 1
            + user
            + optional(&self.cwd)
            + optional(&self.term)
            + 4
            + self.argv.iter().map(|a| 4 + a.len()).sum::<usize>()
            + 4
            + self.env.iter().map(|(n, v)| 8 + n.len() + v.len()).sum::<usize>()
    }

    /// The rules of the fields: what the kernel could not pass on.
    fn validate(&self) -> Result<(), RequestError> {
        if self.argv.len() > MAX_ITEMS || self.env.len() > MAX_ITEMS {
            return Err(RequestError::TooLarge);
        }
        if self.argv.iter().any(|a| a.contains(&0)) {
            return Err(RequestError::Invalid("an argument holds a NUL byte"));
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
                return Err(RequestError::Invalid(
                    "a variable's name is empty or holds `=` or a NUL byte",
                ));
            }
            if value.contains(&0) {
                return Err(RequestError::Invalid("a variable's value holds a NUL byte"));
            }
        }
        if self.cwd.as_ref().is_some_and(|c| c.contains(&0)) {
            return Err(RequestError::Invalid("the working directory holds a NUL byte"));
        }
        if self.term.as_ref().is_some_and(|t| t.contains(&0)) {
            return Err(RequestError::Invalid("TERM holds a NUL byte"));
        }
        if let UserSpec::Name(n) | UserSpec::NameOrRoot(n) = &self.user
            && (n.is_empty() || n.iter().any(|b| matches!(b, 0 | b':' | b'\n')))
        {
            return Err(RequestError::Invalid(
                "the user's name is empty or holds `:`, a newline or a NUL byte",
            ));
        }
        Ok(())
    }
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.push(0),
        Some(b) => {
            out.push(1);
            put_bytes(out, b);
        }
    }
}

fn optional(r: &mut Reader<'_>) -> Result<Option<Vec<u8>>, RequestError> {
    match r.u8() {
        Some(0) => Ok(None),
        Some(1) => Ok(Some(r.bytes().ok_or(RequestError::Malformed)?.to_vec())),
        _ => Err(RequestError::Malformed),
    }
}

fn put_count(out: &mut Vec<u8>, n: usize) {
    // Bounded by MAX_ITEMS in validate().
    let n = u32::try_from(n).unwrap_or(u32::MAX);
    out.extend_from_slice(&n.to_be_bytes());
}

/// A count of items that take at least `min_len` bytes each: a count that could
/// not fit is refused before anything is allocated for it.
fn count(r: &mut Reader<'_>, min_len: usize) -> Result<usize, RequestError> {
    let n = usize::try_from(r.u32().ok_or(RequestError::Malformed)?)
        .map_err(|_| RequestError::TooLarge)?;
    if n > MAX_ITEMS {
        return Err(RequestError::TooLarge);
    }
    if n * min_len > r.remaining() {
        return Err(RequestError::Malformed);
    }
    Ok(n)
}
