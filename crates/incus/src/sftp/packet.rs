//! The packets of SFTP version 3 (draft-ietf-secsh-filexfer-02) and their bytes.
//!
//! Decoding takes anything: it fails, and neither panics nor allocates more than the packet.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::attrs::Attrs;
use super::error::Error;

pub(super) const VERSION: u32 = 3;
/// The largest packet that is taken; servers cap theirs at 256 KiB.
pub(super) const MAX_PACKET: usize = 272 * 1024;
/// The most data in one read or write. Both servers take packets of 256 KiB, and Incus
/// answers reads of up to 128 KiB in one piece.
pub(super) const CHUNK: usize = 128 * 1024;
/// No path on Linux is longer than a sixteenth of this, and a server hangs up on huge packets.
const MAX_PATH: usize = 64 * 1024;
/// How much of a server's message is kept, in characters.
const MAX_MESSAGE: usize = 500;

/// Requests by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    Open = 3,
    Close = 4,
    Read = 5,
    Write = 6,
    Lstat = 7,
    Fstat = 8,
    Setstat = 9,
    Fsetstat = 10,
    Opendir = 11,
    Readdir = 12,
    Remove = 13,
    Mkdir = 14,
    Rmdir = 15,
    Realpath = 16,
    Stat = 17,
    Rename = 18,
    Readlink = 19,
    Symlink = 20,
    Extended = 200,
}

const INIT: u8 = 1;
const VERSION_REPLY: u8 = 2;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRS: u8 = 105;
const EXTENDED_REPLY: u8 = 201;

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const PERMISSIONS: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// A request without its number, and the data that follows its fields.
#[derive(Debug)]
pub(super) struct Request {
    /// Room for length, type and number, then the fields.
    head: BytesMut,
    data: Bytes,
    op: Op,
}

const HEADER: usize = 4 + 1 + 4;

impl Request {
    pub(super) fn new(op: Op) -> Request {
        let mut head = BytesMut::with_capacity(128);
        head.put_bytes(0, HEADER);
        Request { head, data: Bytes::new(), op }
    }

    pub(super) fn u32(mut self, value: u32) -> Request {
        self.head.put_u32(value);
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Request {
        self.head.put_u64(value);
        self
    }

    /// A handle or other string that came from us or was checked.
    pub(super) fn string(mut self, value: &[u8]) -> Request {
        put_string(&mut self.head, value);
        self
    }

    /// A path; one that no server can take is refused here.
    pub(super) fn path(self, path: &[u8]) -> Result<Request, Error> {
        if path.contains(&0) {
            return Err(Error::failure("path with a NUL byte"));
        }
        if path.len() > MAX_PATH {
            return Err(Error::failure("file name too long"));
        }
        Ok(self.string(path))
    }

    pub(super) fn attrs(mut self, attrs: &Attrs) -> Request {
        let flag = |is: bool, bit: u32| if is { bit } else { 0 };
        self.head.put_u32(
            flag(attrs.size.is_some(), SIZE)
                | flag(attrs.owner.is_some(), OWNER)
                | flag(attrs.mode.is_some(), PERMISSIONS)
                | flag(attrs.times.is_some(), TIMES),
        );
        if let Some(size) = attrs.size {
            self.head.put_u64(size);
        }
        if let Some((uid, gid)) = attrs.owner {
            self.head.put_u32(uid);
            self.head.put_u32(gid);
        }
        if let Some(mode) = attrs.mode {
            self.head.put_u32(mode);
        }
        if let Some((atime, mtime)) = attrs.times {
            self.head.put_u32(atime);
            self.head.put_u32(mtime);
        }
        self
    }

    /// The data of a write, at most [`CHUNK`]; it is not copied.
    pub(super) fn data(mut self, data: Bytes) -> Request {
        self.head.put_u32(u32::try_from(data.len()).unwrap_or(u32::MAX));
        self.data = data;
        self
    }

    /// The packet's two parts, ready to be written one after the other.
    pub(super) fn finish(mut self, id: u32) -> (Bytes, Bytes) {
        let length = self.head.len() - 4 + self.data.len();
        let mut header = &mut self.head[..HEADER];
        header.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        header.put_u8(self.op as u8);
        header.put_u32(id);
        (self.head.freeze(), self.data)
    }
}

fn put_string(out: &mut BytesMut, value: &[u8]) {
    out.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
    out.put_slice(value);
}

/// The first packet of a client.
pub(super) fn init() -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32(5);
    out.put_u8(INIT);
    out.put_u32(VERSION);
    out.freeze()
}

/// A server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Status { code: u32, message: String },
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<(Bytes, Attrs)>),
    Attrs(Attrs),
    Extended,
}

pub(super) const STATUS_OK: u32 = 0;
pub(super) const STATUS_EOF: u32 = 1;

impl Reply {
    /// The error that a status stands for; any other reply here is out of place.
    pub(super) fn into_error(self) -> Error {
        match self {
            Reply::Status { code: 2, .. } => Error::NotFound,
            Reply::Status { code: 3, .. } => Error::PermissionDenied,
            Reply::Status { code: 8, .. } => Error::Unsupported,
            Reply::Status { code: STATUS_OK, .. } => Error::protocol("success without a result"),
            Reply::Status { message, .. } => Error::Failure { message },
            _ => Error::protocol("answer of the wrong kind"),
        }
    }
}

/// Takes one whole packet, without its length, off the front of what was received.
pub(super) fn take_frame(received: &mut BytesMut) -> Result<Option<Bytes>, Error> {
    let Some(length) = frame_length(received)? else {
        return Ok(None);
    };
    if received.len() < 4 + length {
        return Ok(None);
    }
    received.advance(4);
    Ok(Some(received.split_to(length).freeze()))
}

/// The length that the front packet announces, once it is there.
pub(super) fn frame_length(received: &[u8]) -> Result<Option<usize>, Error> {
    let Some(prefix) = received.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length > MAX_PACKET {
        return Err(Error::protocol("packet too large"));
    }
    Ok(Some(length))
}

/// The names of the extensions in a server's first packet.
pub(super) fn decode_version(mut frame: Bytes) -> Result<Vec<Bytes>, Error> {
    let input = &mut frame;
    if get_u8(input)? != VERSION_REPLY {
        return Err(Error::protocol("no version"));
    }
    if get_u32(input)? != VERSION {
        return Err(Error::protocol("another version than 3"));
    }
    let mut names = Vec::new();
    while !input.is_empty() {
        names.push(get_string(input)?);
        get_string(input)?;
    }
    Ok(names)
}

/// A reply and the number of the request it answers.
pub(super) fn decode(mut frame: Bytes) -> Result<(u32, Reply), Error> {
    let input = &mut frame;
    let kind = get_u8(input)?;
    let id = get_u32(input)?;
    let reply = match kind {
        STATUS => {
            let code = get_u32(input)?;
            // Older servers leave the text out; a broken one is not worth the connection.
            let message = get_string(input).map(|m| clean(&m)).unwrap_or_default();
            Reply::Status { code, message }
        }
        HANDLE => {
            let handle = get_string(input)?;
            if handle.len() > 256 {
                return Err(Error::protocol("handle too long"));
            }
            Reply::Handle(handle)
        }
        DATA => Reply::Data(get_string(input)?),
        NAME => {
            let count = get_u32(input)? as usize;
            // Name, long name and flags take at least 12 bytes; more is not reserved than can come.
            let mut names = Vec::with_capacity(count.min(input.len() / 12));
            for _ in 0..count {
                let name = get_string(input)?;
                get_string(input)?;
                names.push((name, get_attrs(input)?));
            }
            Reply::Names(names)
        }
        ATTRS => Reply::Attrs(get_attrs(input)?),
        EXTENDED_REPLY => Reply::Extended,
        _ => return Err(Error::protocol("unknown packet")),
    };
    Ok((id, reply))
}

fn get_attrs(input: &mut Bytes) -> Result<Attrs, Error> {
    let flags = get_u32(input)?;
    let mut attrs = Attrs::default();
    if flags & SIZE != 0 {
        attrs.size = Some(get_u64(input)?);
    }
    if flags & OWNER != 0 {
        attrs.owner = Some((get_u32(input)?, get_u32(input)?));
    }
    if flags & PERMISSIONS != 0 {
        attrs.mode = Some(get_u32(input)?);
    }
    if flags & TIMES != 0 {
        attrs.times = Some((get_u32(input)?, get_u32(input)?));
    }
    if flags & EXTENDED != 0 {
        for _ in 0..get_u32(input)? {
            get_string(input)?;
            get_string(input)?;
        }
    }
    Ok(attrs)
}

fn short<E>(_: E) -> Error {
    Error::protocol("packet too short")
}

fn get_u8(input: &mut Bytes) -> Result<u8, Error> {
    input.try_get_u8().map_err(short)
}

fn get_u32(input: &mut Bytes) -> Result<u32, Error> {
    input.try_get_u32().map_err(short)
}

fn get_u64(input: &mut Bytes) -> Result<u64, Error> {
    input.try_get_u64().map_err(short)
}

fn get_string(input: &mut Bytes) -> Result<Bytes, Error> {
    let length = get_u32(input)? as usize;
    if length > input.len() {
        return Err(short(()));
    }
    Ok(input.split_to(length))
}

/// A server's message made safe to print.
fn clean(message: &[u8]) -> String {
    String::from_utf8_lossy(message).chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
}
