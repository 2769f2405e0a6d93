//! What is left to do once a login shell has run its profile. It travels in a
//! sealed memfd, because a shell would drop odd variable names and has limits
//! and ideas of its own about arguments.

use std::os::fd::RawFd;

use super::environment::Pairs;

/// The largest encoded spec: a request's frame and a little more.
pub(crate) const MAX_SPEC: usize = pixels_guest_api::MAX_FRAME + 64 * 1024;

/// Descriptors that stay open, high up, while a login shell runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The real stdin and stdout, where the shell has stand-ins.
    pub(crate) streams: Option<(RawFd, RawFd)>,
    /// To be closed before the command runs.
    pub(crate) helpers: Vec<RawFd>,
}

/// The last step before the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// Empty for a login shell.
    pub(crate) argv: Vec<Vec<u8>>,
    pub(crate) env: Pairs,
    /// `None`: `home` if it can be entered, else `/`.
    pub(crate) cwd: Option<Vec<u8>>,
    pub(crate) home: Vec<u8>,
    /// What an empty `argv` runs.
    pub(crate) session_shell: Vec<u8>,
    /// The pipe that carries a report to B.
    pub(crate) report: RawFd,
    pub(crate) kept: Kept,
}

impl Spec {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_fd(&mut out, self.report);
        put_len(&mut out, self.kept.helpers.len());
        for fd in &self.kept.helpers {
            put_fd(&mut out, *fd);
        }
        let (stdin, stdout) = self.kept.streams.unwrap_or((-1, -1));
        put_fd(&mut out, stdin);
        put_fd(&mut out, stdout);
        put(&mut out, &self.home);
        put(&mut out, &self.session_shell);
        out.push(u8::from(self.cwd.is_some()));
        put(&mut out, self.cwd.as_deref().unwrap_or_default());
        put_len(&mut out, self.argv.len());
        for arg in &self.argv {
            put(&mut out, arg);
        }
        put_len(&mut out, self.env.len());
        for (name, value) in &self.env {
            put(&mut out, name);
            put(&mut out, value);
        }
        out
    }

    /// `None` for anything but an encoded spec.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let r = &mut bytes;
        let report = take_fd(r)?;
        let mut helpers = Vec::new();
        for _ in 0..take_len(r)? {
            helpers.push(take_fd(r)?);
        }
        let (stdin, stdout) = (take_fd(r)?, take_fd(r)?);
        let home = take(r)?;
        let session_shell = take(r)?;
        let has_cwd = take_array::<1>(r)? == [1];
        let cwd = Some(take(r)?).filter(|_| has_cwd);
        let mut argv = Vec::new();
        for _ in 0..take_len(r)? {
            argv.push(take(r)?);
        }
        let mut env = Vec::new();
        for _ in 0..take_len(r)? {
            env.push((take(r)?, take(r)?));
        }
        bytes.is_empty().then_some(Self {
            argv,
            env,
            cwd,
            home,
            session_shell,
            report,
            kept: Kept { streams: (stdin >= 0).then_some((stdin, stdout)), helpers },
        })
    }
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&(len as u64).to_be_bytes());
}

fn put_fd(out: &mut Vec<u8>, fd: RawFd) {
    out.extend_from_slice(&fd.to_be_bytes());
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn take_array<const N: usize>(r: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = r.split_first_chunk::<N>()?;
    *r = tail;
    Some(*head)
}

fn take_len(r: &mut &[u8]) -> Option<usize> {
    usize::try_from(u64::from_be_bytes(take_array(r)?)).ok()
}

fn take_fd(r: &mut &[u8]) -> Option<RawFd> {
    take_array(r).map(RawFd::from_be_bytes)
}

fn take(r: &mut &[u8]) -> Option<Vec<u8>> {
    let len = take_len(r)?;
    let (head, tail) = r.split_at_checked(len)?;
    *r = tail;
    Some(head.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_truncation() {
        let spec = Spec {
            argv: vec![b"a\xff\n".to_vec(), Vec::new()],
            env: vec![(b"a-b".to_vec(), Vec::new())],
            cwd: None,
            home: b"/h".to_vec(),
            session_shell: b"/bin/sh".to_vec(),
            report: 9,
            kept: Kept { streams: Some((700, 701)), helpers: vec![1, 2] },
        };
        let bytes = spec.encode();
        assert_eq!(Spec::decode(&bytes), Some(spec));
        for n in 0..bytes.len() {
            assert_eq!(Spec::decode(&bytes[..n]), None);
        }
    }
}
