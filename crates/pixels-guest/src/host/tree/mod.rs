//! The face `tree`: what is done to the trees of the store, in its user namespace.

mod copy;
mod empty;
mod freeze;
mod merge;
mod remove;
mod size;
mod walk;
mod write;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use pixels_guest_api::host::{Answer, TreeOp, TreeSpec};

use super::{Call, Failed, Step, answer, malformed, receive, store};
use crate::sys::{fd, process};

pub(super) use empty::empty;
pub(super) use remove::remove;

/// Runs the face; answers 0 if it did what it was asked.
pub(crate) fn run() -> i32 {
    let call = match receive() {
        Ok(call) => call,
        Err(failed) => {
            fd::complain(&String::from_utf8_lossy(&failed.encode()[4..]));
            return 1;
        }
    };
    let Call { socket, spec, mut fds } = call;
    let done = TreeSpec::decode(&spec).map_err(malformed).and_then(|spec| {
        if let Some(ids) = &spec.store {
            store::enter(ids)?;
        }
        process::set_umask(0);
        carry_out(&spec, fds.pop_front())
    });
    let (kind, payload, code) = match done {
        Ok(result) => (Answer::Done, result, 0),
        Err(failed) => (Answer::Failed, failed.encode(), 1),
    };
    let _ = answer(&socket, kind, &payload);
    code
}

fn carry_out(spec: &TreeSpec, input: Option<std::os::fd::OwnedFd>) -> Result<Vec<u8>, Failed> {
    let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
    let numbers = |list: &[u64]| list.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
    match &spec.op {
        TreeOp::Write { dir, limits } => {
            let input = input.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF));
            let input = input.step("take the stream")?;
            let written = write::write(&path(dir), input.as_raw_fd(), spec.shift, *limits);
            let written = written.step("write the tree")?;
            Ok(numbers(&[written.entries, written.bytes]))
        }
        TreeOp::Copy { from, to, shift, reflink, freeze } => {
            let plan = copy::Plan {
                from: path(from),
                to: path(to),
                shift: *shift,
                reflink: *reflink,
                subvolumes: spec.subvolumes,
                freeze: freeze.iter().map(|f| path(f)).collect(),
            };
            copy::copy(&plan).step("copy the layer").map(|bytes| numbers(&[bytes]))
        }
        TreeOp::Merge { from, to } => {
            let from: Vec<PathBuf> = from.iter().map(|f| path(f)).collect();
            merge::merge(&from, &path(to)).step("merge layers").map(|n| numbers(&[n]))
        }
        TreeOp::Remove { dirs } => {
            for dir in dirs {
                remove::remove(&path(dir)).step("remove a directory")?;
            }
            Ok(Vec::new())
        }
        TreeOp::Size { dir } => {
            size::size(&path(dir)).step("measure a layer").map(|n| numbers(&[n]))
        }
        TreeOp::Empty { dir, quota } => {
            empty::empty(&path(dir), spec.shift, *quota, spec.subvolumes).step("make a layer")?;
            Ok(Vec::new())
        }
    }
}
