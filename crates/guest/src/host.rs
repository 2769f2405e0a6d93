//! What the library asks of the faces of the binary that run on the host:
//! `launch`, `enter` and `tree`.
//!
//! The face's standard input is one end of a unix stream socket. The first
//! message on it is one byte that carries descriptors: a memfd with the encoded
//! request, then what the face needs. Afterwards the socket belongs to the face:
//! its end of file says that whoever asked is gone.

use std::net::Ipv4Addr;

use crate::codec::{Reader, put_bytes};

/// The longest request in bytes.
pub const MAX_SPEC: usize = 16 * 1024 * 1024;
/// The most layers of one pixel.
pub const MAX_LAYERS: usize = 480;

/// What a face answers on its socket: one byte of this kind, a length (u32,
/// big-endian) and that many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `launch`: the pixel's first process exists and waits for [`GO`]. Its pid
    /// (u32) and its start time in clock ticks since boot (u64).
    Born = b'B' as isize,
    /// It is done, with a result in the face's own form.
    Done = b'D' as isize,
    /// It failed: an errno (i32, 0 where there is none) and the failing step in words.
    Failed = b'F' as isize,
    /// `enter`: the command did not run to its own end; the payload of a
    /// [`Report`](crate::Report).
    Report = b'R' as isize,
}

impl Answer {
    /// The kind that a byte stands for.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Born, Self::Done, Self::Failed, Self::Report].into_iter().find(|k| k.byte() == byte)
    }

    /// The byte that stands for this kind.
    pub fn byte(self) -> u8 {
        self as u8
    }
}

/// What the library writes to let a pixel begin.
pub const GO: u8 = b'G';

/// A part of a user namespace: `count` ids from `base` on in the surrounding one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first id.
    pub base: u32,
    /// How many.
    pub count: u32,
}

/// The user namespace of an ordinary user's store: 0 is the user, what follows
/// are the ranges of `/etc/subuid` and `/etc/subgid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreIds {
    /// The user's own id.
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
    /// The user's subordinate ids.
    pub subuid: Range,
    /// The user's subordinate group ids.
    pub subgid: Range,
}

/// A pixel's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    /// Loopback alone.
    None,
    /// Somebody else sets `eth0` up, while the pixel waits for [`GO`].
    External {
        /// Networks that nothing inside may send to, by their first address and
        /// their length: the host's own, where that somebody would pass it on.
        closed: Vec<(Ipv4Addr, u8)>,
    },
    /// A routed veth.
    Veth {
        /// The host end's name.
        host: Vec<u8>,
        /// The guest end's hardware address.
        mac: [u8; 6],
        /// The pixel's address.
        address: Ipv4Addr,
        /// The gateway, on the link.
        gateway: Ipv4Addr,
        /// Largest packet; `None` is the kernel's default.
        mtu: Option<u32>,
    },
}

/// What a process of a pixel may do, the same for its init and for every exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lockdown {
    /// The seccomp filter, a classic BPF program as the kernel takes it.
    pub filter: Vec<u8>,
    /// Capabilities that are kept, by number.
    pub capabilities: u64,
    /// Whether setuid programs gain nothing.
    pub no_new_privs: bool,
    /// Open files: soft and hard limit.
    pub files: (u64, u64),
}

/// What becomes of the first process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It becomes the pixel's init. Descriptor 1 is the pixel's lock, kept until it
    /// is up or gone, and descriptor 2 is held open for as long as the supervisor lives.
    Boot,
    /// It serves file operations: descriptor 1 is a socket over which connections
    /// come, each served until it was idle for so many milliseconds. Its end ends
    /// all. Descriptor 2 is held open as long.
    Files(u32),
}

/// Request of the face `launch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchSpec {
    /// Set for an ordinary user.
    pub store: Option<StoreIds>,
    /// The pixel's user ids, as the launcher sees them.
    pub uids: Range,
    /// The pixel's group ids, as the launcher sees them.
    pub gids: Range,
    /// Which id guest root has on disk, as the launcher sees it.
    pub disk_root: u32,
    /// Whether layers are mapped to the pixel's ids when they are mounted.
    pub idmap: bool,
    /// Whether layers are given to the overlay by descriptor.
    pub fd_layers: bool,
    /// Trees of the layers, the lowest first.
    pub layers: Vec<Vec<u8>>,
    /// Directory that holds `tree` and `work` of the writable layer; made if it is
    /// not there.
    pub upper: Vec<u8>,
    /// The most bytes in a writable layer that is made, where the file system can
    /// bound it.
    pub quota: Option<u64>,
    /// The most memory in bytes that the pixel may have, where that is bounded.
    pub memory: Option<u64>,
    /// Whether it is made a subvolume where the file system has them.
    pub subvolumes: bool,
    /// The host name.
    pub hostname: Vec<u8>,
    /// Content of `/etc/hosts`.
    pub hosts: Vec<u8>,
    /// Content of `/etc/resolv.conf`.
    pub resolv: Vec<u8>,
    /// The environment of init, `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// Control group directories that the pixel joins.
    pub cgroups: Vec<Vec<u8>>,
    /// What its processes may do.
    pub lockdown: Lockdown,
    /// Its interface.
    pub net: Net,
    /// What becomes of the first process.
    pub purpose: Purpose,
    /// Where to die, for tests; see [`crate::fail`].
    pub fail: Vec<u8>,
}

/// What `enter` runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// A command: the frame of an `ExecRequest`. Descriptors 1 to 3 are its
    /// streams, unless it gets a terminal: then the first message back carries
    /// the terminal's other end.
    Exec {
        /// The frame.
        request: Vec<u8>,
        /// Columns and rows of a terminal.
        terminal: Option<(u16, u16)>,
    },
    /// File operations on the socket of descriptor 1, ending after so many idle
    /// milliseconds.
    Files(u32),
    /// One connection to this port of the pixel's own 127.0.0.1, sent back over
    /// the socket.
    Dial(u16),
    /// Everything is stopped, which the answer says, until the socket ends.
    Pause,
}

/// Request of the face `enter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnterSpec {
    /// The pixel's init.
    pub pid: u32,
    /// When it started: another start time is another process.
    pub start_time: u64,
    /// Control group directories to join.
    pub cgroups: Vec<Vec<u8>>,
    /// What the process may do.
    pub lockdown: Lockdown,
    /// What to run.
    pub run: Run,
}

/// What `tree` does. Paths are the library's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeOp {
    /// Writes the stream of descriptor 1 below the directory. Answers entries and
    /// bytes (u64 each).
    Write {
        /// The directory; made if it is missing.
        dir: Vec<u8>,
        /// The most entries and the most bytes of content.
        limits: (u64, u64),
    },
    /// Copies the writable layer `from` (`tree` in it) to a new one. Answers bytes copied.
    Copy {
        /// The directory that holds `tree`.
        from: Vec<u8>,
        /// The directory to make.
        to: Vec<u8>,
        /// Added to every id on the way.
        shift: i64,
        /// Whether content may be shared with the source.
        reflink: bool,
        /// Freezer files to freeze while copying.
        freeze: Vec<Vec<u8>>,
    },
    /// Makes `to` of the layers, the lowest first, as the overlay shows them
    /// stacked on what is below the lowest. Answers entries.
    Merge {
        /// Their trees.
        from: Vec<Vec<u8>>,
        /// The directory to make.
        to: Vec<u8>,
    },
    /// Removes directories with all that is in them.
    Remove {
        /// The directories; what is missing is no error.
        dirs: Vec<Vec<u8>>,
    },
    /// Adds up what the files of a tree occupy. Answers bytes.
    Size {
        /// The tree.
        dir: Vec<u8>,
    },
    /// Makes the directory of an empty writable layer.
    Empty {
        /// The directory to make.
        dir: Vec<u8>,
        /// The most bytes in it, where the file system can bound it.
        quota: Option<u64>,
    },
}

/// Request of the face `tree`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeSpec {
    /// Set for an ordinary user.
    pub store: Option<StoreIds>,
    /// Added to guest ids on their way to the disk, as the face sees it.
    pub shift: u32,
    /// Whether layers are subvolumes where the file system has them.
    pub subvolumes: bool,
    /// What to do.
    pub op: TreeOp,
    /// Where to die, for tests; see [`crate::fail`].
    pub fail: Vec<u8>,
}

/// Request of the face `watch`: a new supervisor for a pixel whose own is gone.
/// Descriptor 1 is held open as long as the pixel lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchSpec {
    /// The pixel's first process.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
    /// Its control groups, which go when it has ended.
    pub cgroups: Vec<Vec<u8>>,
}

/// A request that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("malformed request")
    }
}

impl std::error::Error for Malformed {}

/// Writes fields one after the other.
#[derive(Default)]
struct Put(Vec<u8>);

impl Put {
    fn u8(&mut self, v: u8) -> &mut Self {
        self.0.push(v);
        self
    }
    fn flag(&mut self, v: bool) -> &mut Self {
        self.u8(v.into())
    }
    fn u32(&mut self, v: u32) -> &mut Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }
    fn u64(&mut self, v: u64) -> &mut Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }
    fn bytes(&mut self, v: &[u8]) -> &mut Self {
        put_bytes(&mut self.0, v);
        self
    }
    fn list(&mut self, v: &[Vec<u8>]) -> &mut Self {
        self.u32(u32::try_from(v.len()).unwrap_or(u32::MAX));
        for item in v {
            self.bytes(item);
        }
        self
    }
    fn range(&mut self, v: Range) -> &mut Self {
        self.u32(v.base).u32(v.count)
    }
    fn store(&mut self, v: Option<StoreIds>) -> &mut Self {
        self.flag(v.is_some());
        if let Some(ids) = v {
            self.u32(ids.uid).u32(ids.gid).range(ids.subuid).range(ids.subgid);
        }
        self
    }
    fn lockdown(&mut self, v: &Lockdown) -> &mut Self {
        self.bytes(&v.filter).u64(v.capabilities).flag(v.no_new_privs);
        self.u64(v.files.0).u64(v.files.1)
    }
}

/// Reads them back.
struct Get<'a>(Reader<'a>);

type Got<T> = Result<T, Malformed>;

impl<'a> Get<'a> {
    fn u8(&mut self) -> Got<u8> {
        self.0.u8().ok_or(Malformed)
    }
    fn flag(&mut self) -> Got<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
    fn u16(&mut self) -> Got<u16> {
        u16::try_from(self.u32()?).map_err(|_| Malformed)
    }
    fn u32(&mut self) -> Got<u32> {
        self.0.u32().ok_or(Malformed)
    }
    fn u64(&mut self) -> Got<u64> {
        self.0.u64().ok_or(Malformed)
    }
    fn bytes(&mut self) -> Got<Vec<u8>> {
        self.0.bytes().map(<[u8]>::to_vec).ok_or(Malformed)
    }
    fn list(&mut self) -> Got<Vec<Vec<u8>>> {
        let count = self.u32()? as usize;
        if count > self.0.remaining() / 4 {
            return Err(Malformed);
        }
        (0..count).map(|_| self.bytes()).collect()
    }
    fn range(&mut self) -> Got<Range> {
        Ok(Range { base: self.u32()?, count: self.u32()? })
    }
    fn store(&mut self) -> Got<Option<StoreIds>> {
        if !self.flag()? {
            return Ok(None);
        }
        let (uid, gid) = (self.u32()?, self.u32()?);
        Ok(Some(StoreIds { uid, gid, subuid: self.range()?, subgid: self.range()? }))
    }
    fn lockdown(&mut self) -> Got<Lockdown> {
        Ok(Lockdown {
            filter: self.bytes()?,
            capabilities: self.u64()?,
            no_new_privs: self.flag()?,
            files: (self.u64()?, self.u64()?),
        })
    }
    fn end<T>(self, value: T) -> Got<T> {
        if self.0.is_empty() { Ok(value) } else { Err(Malformed) }
    }
}

impl LaunchSpec {
    /// The request as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Put::default();
        out.store(self.store).range(self.uids).range(self.gids).u32(self.disk_root);
        out.flag(self.idmap).flag(self.fd_layers).list(&self.layers).bytes(&self.upper);
        out.u64(self.quota.unwrap_or(0)).u64(self.memory.unwrap_or(0)).flag(self.subvolumes);
        out.bytes(&self.hostname).bytes(&self.hosts).bytes(&self.resolv);
        out.list(&self.env).list(&self.cgroups).lockdown(&self.lockdown);
        match &self.net {
            Net::None => out.u8(0),
            Net::External { closed } => {
                out.u8(1).u32(u32::try_from(closed.len()).unwrap_or(u32::MAX));
                for (network, len) in closed {
                    out.u32((*network).into()).u8(*len);
                }
                &mut out
            }
            Net::Veth { host, mac, address, gateway, mtu } => {
                out.u8(2).bytes(host).bytes(mac).u32((*address).into()).u32((*gateway).into());
                out.u32(mtu.unwrap_or(0))
            }
        };
        match self.purpose {
            Purpose::Boot => out.u8(0),
            Purpose::Files(idle) => out.u8(1).u32(idle),
        };
        out.bytes(&self.fail);
        out.0
    }

    /// The request that `bytes` are.
    ///
    /// # Errors
    /// Anything but exactly one request.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Get(Reader::new(bytes));
        let spec = Self {
            store: r.store()?,
            uids: r.range()?,
            gids: r.range()?,
            disk_root: r.u32()?,
            idmap: r.flag()?,
            fd_layers: r.flag()?,
            layers: r.list()?,
            upper: r.bytes()?,
            quota: Some(r.u64()?).filter(|q| *q != 0),
            memory: Some(r.u64()?).filter(|m| *m != 0),
            subvolumes: r.flag()?,
            hostname: r.bytes()?,
            hosts: r.bytes()?,
            resolv: r.bytes()?,
            env: r.list()?,
            cgroups: r.list()?,
            lockdown: r.lockdown()?,
            net: match r.u8()? {
                0 => Net::None,
                1 => {
                    let count = r.u32()?;
                    let one = |r: &mut Get<'_>| Ok((r.u32()?.into(), r.u8()?));
                    Net::External { closed: (0..count).map(|_| one(&mut r)).collect::<Got<_>>()? }
                }
                2 => Net::Veth {
                    host: r.bytes()?,
                    mac: r.bytes()?.try_into().map_err(|_| Malformed)?,
                    address: r.u32()?.into(),
                    gateway: r.u32()?.into(),
                    mtu: Some(r.u32()?).filter(|mtu| *mtu != 0),
                },
                _ => return Err(Malformed),
            },
            purpose: match r.u8()? {
                0 => Purpose::Boot,
                1 => Purpose::Files(r.u32()?),
                _ => return Err(Malformed),
            },
            fail: r.bytes()?,
        };
        if spec.layers.len() > MAX_LAYERS {
            return Err(Malformed);
        }
        r.end(spec)
    }
}

impl EnterSpec {
    /// The request as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Put::default();
        out.u32(self.pid).u64(self.start_time).list(&self.cgroups).lockdown(&self.lockdown);
        match &self.run {
            Run::Exec { request, terminal } => {
                out.u8(0).bytes(request).flag(terminal.is_some());
                if let Some((cols, rows)) = terminal {
                    out.u32((*cols).into()).u32((*rows).into());
                }
                &mut out
            }
            Run::Files(idle) => out.u8(1).u32(*idle),
            Run::Dial(port) => out.u8(2).u32((*port).into()),
            Run::Pause => out.u8(3),
        };
        out.0
    }

    /// The request that `bytes` are.
    ///
    /// # Errors
    /// Anything but exactly one request.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Get(Reader::new(bytes));
        let spec = Self {
            pid: r.u32()?,
            start_time: r.u64()?,
            cgroups: r.list()?,
            lockdown: r.lockdown()?,
            run: match r.u8()? {
                0 => Run::Exec {
                    request: r.bytes()?,
                    terminal: if r.flag()? { Some((r.u16()?, r.u16()?)) } else { None },
                },
                1 => Run::Files(r.u32()?),
                2 => Run::Dial(r.u16()?),
                3 => Run::Pause,
                _ => return Err(Malformed),
            },
        };
        r.end(spec)
    }
}

impl WatchSpec {
    /// The request as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Put::default();
        out.u32(self.pid).u64(self.start_time).list(&self.cgroups);
        out.0
    }

    /// The request that `bytes` are.
    ///
    /// # Errors
    /// Anything but exactly one request.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Get(Reader::new(bytes));
        let spec = Self { pid: r.u32()?, start_time: r.u64()?, cgroups: r.list()? };
        r.end(spec)
    }
}

impl TreeSpec {
    /// The request as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Put::default();
        out.store(self.store).u32(self.shift).flag(self.subvolumes);
        match &self.op {
            TreeOp::Write { dir, limits } => out.u8(0).bytes(dir).u64(limits.0).u64(limits.1),
            TreeOp::Copy { from, to, shift, reflink, freeze } => {
                out.u8(1).bytes(from).bytes(to).u64(shift.cast_unsigned());
                out.flag(*reflink).list(freeze)
            }
            TreeOp::Merge { from, to } => out.u8(2).list(from).bytes(to),
            TreeOp::Remove { dirs } => out.u8(3).list(dirs),
            TreeOp::Size { dir } => out.u8(4).bytes(dir),
            TreeOp::Empty { dir, quota } => out.u8(5).bytes(dir).u64(quota.unwrap_or(0)),
        };
        out.bytes(&self.fail);
        out.0
    }

    /// The request that `bytes` are.
    ///
    /// # Errors
    /// Anything but exactly one request.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Get(Reader::new(bytes));
        let spec = Self {
            store: r.store()?,
            shift: r.u32()?,
            subvolumes: r.flag()?,
            op: match r.u8()? {
                0 => TreeOp::Write { dir: r.bytes()?, limits: (r.u64()?, r.u64()?) },
                1 => TreeOp::Copy {
                    from: r.bytes()?,
                    to: r.bytes()?,
                    shift: r.u64()?.cast_signed(),
                    reflink: r.flag()?,
                    freeze: r.list()?,
                },
                2 => TreeOp::Merge { from: r.list()?, to: r.bytes()? },
                3 => TreeOp::Remove { dirs: r.list()? },
                4 => TreeOp::Size { dir: r.bytes()? },
                5 => TreeOp::Empty { dir: r.bytes()?, quota: Some(r.u64()?).filter(|q| *q != 0) },
                _ => return Err(Malformed),
            },
            fail: r.bytes()?,
        };
        r.end(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lockdown() -> Lockdown {
        Lockdown {
            filter: vec![1; 8],
            capabilities: 0x8000_00a8_0425_fbff,
            no_new_privs: false,
            files: (1024, 1 << 20),
        }
    }

    #[test]
    fn requests_come_back_as_they_went() {
        let range = Range { base: 2_000_000_000, count: 65536 };
        let launch = LaunchSpec {
            store: Some(StoreIds { uid: 1, gid: 2, subuid: range, subgid: range }),
            uids: range,
            gids: range,
            disk_root: 7,
            idmap: true,
            fd_layers: false,
            layers: vec![b"/a".to_vec(), b"/\xff".to_vec()],
            upper: b"/u".to_vec(),
            quota: Some(9),
            memory: Some(10),
            subvolumes: true,
            hostname: b"h".to_vec(),
            hosts: vec![],
            resolv: b"nameserver 1.1.1.1\n".to_vec(),
            env: vec![b"A=b".to_vec()],
            cgroups: vec![b"/sys/fs/cgroup/x".to_vec()],
            lockdown: lockdown(),
            net: Net::Veth {
                host: b"pxl1".to_vec(),
                mac: [2, 0, 0, 0, 0, 1],
                address: Ipv4Addr::new(10, 209, 0, 2),
                gateway: Ipv4Addr::new(169, 254, 1, 1),
                mtu: Some(1400),
            },
            purpose: Purpose::Files(200),
            fail: b"x".to_vec(),
        };
        let bytes = launch.encode();
        assert_eq!(LaunchSpec::decode(&bytes), Ok(launch));
        for end in 0..bytes.len() {
            assert_eq!(LaunchSpec::decode(&bytes[..end]), Err(Malformed));
        }
        let launch = LaunchSpec::decode(&bytes).unwrap();
        let closed = vec![(Ipv4Addr::new(127, 0, 0, 0), 8), (Ipv4Addr::new(192, 0, 2, 2), 32)];
        for net in [Net::None, Net::External { closed }] {
            let launch = LaunchSpec { net, ..launch.clone() };
            assert_eq!(LaunchSpec::decode(&launch.encode()), Ok(launch));
        }
        for run in [
            Run::Exec { request: b"x".to_vec(), terminal: Some((80, 24)) },
            Run::Exec { request: vec![], terminal: None },
            Run::Files(9),
            Run::Dial(8080),
            Run::Pause,
        ] {
            let enter =
                EnterSpec { pid: 5, start_time: 6, cgroups: vec![], lockdown: lockdown(), run };
            assert_eq!(EnterSpec::decode(&enter.encode()), Ok(enter));
        }
        let watch = WatchSpec { pid: 5, start_time: 6, cgroups: vec![b"/c".to_vec()] };
        assert_eq!(WatchSpec::decode(&watch.encode()), Ok(watch));
        for op in [
            TreeOp::Write { dir: b"/d".to_vec(), limits: (1, 2) },
            TreeOp::Copy {
                from: b"/f".to_vec(),
                to: b"/t".to_vec(),
                shift: -5,
                reflink: true,
                freeze: vec![b"/z".to_vec()],
            },
            TreeOp::Merge { from: vec![b"/m".to_vec()], to: b"/n".to_vec() },
            TreeOp::Remove { dirs: vec![b"/r".to_vec()] },
            TreeOp::Size { dir: b"/s".to_vec() },
            TreeOp::Empty { dir: b"/e".to_vec(), quota: Some(5) },
        ] {
            let tree = TreeSpec { store: None, shift: 1, subvolumes: true, op, fail: vec![] };
            let bytes = tree.encode();
            assert_eq!(TreeSpec::decode(&bytes), Ok(tree));
            assert_eq!(TreeSpec::decode(&[&bytes[..], b"x"].concat()), Err(Malformed));
        }
    }
}
