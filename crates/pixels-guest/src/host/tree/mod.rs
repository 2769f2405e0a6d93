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
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use pixels_guest_api::host::{Answer, TreeOp, TreeSpec};

use super::{Call, Failed, Step, answer, fail, malformed, receive, store};
use crate::sys::process::{self, Fork};
use crate::sys::{fd, ns, signal};

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
        fail::set(&spec.fail);
        // The first is the pixel's lock where there is one: it stays open.
        match &spec.op {
            TreeOp::Copy { freeze, .. } => guarded(&socket, &spec, freeze),
            TreeOp::Merge { .. } => guarded(&socket, &spec, &[]),
            _ => carry_out(&spec, fds.pop_front()),
        }
    });
    let (kind, payload, code) = match done {
        Ok(result) => (Answer::Done, result, 0),
        Err(failed) => (Answer::Failed, failed.encode(), 1),
    };
    let _ = answer(&socket, kind, &payload);
    code
}

/// Carries a request out in a child that is killed if whoever asked goes away,
/// so that nothing goes on with what somebody else may by then have taken over.
fn guarded(socket: &OwnedFd, spec: &TreeSpec, frozen: &[Vec<u8>]) -> Result<Vec<u8>, Failed> {
    let (result, told) = fd::pipe().step("make a pipe")?;
    signal::set_default(libc::SIGCHLD);
    match process::fork().step("fork")? {
        Fork::Child => {
            // Until it may go on by itself it goes where its parent goes.
            let _ = ns::die_with_parent(libc::SIGKILL);
            drop(result);
            let (kind, payload) = match carry_out(spec, None) {
                Ok(payload) => (Answer::Done, payload),
                Err(failed) => (Answer::Failed, failed.encode()),
            };
            let _ = fd::write_all(told.as_raw_fd(), &[&[kind.byte()], &payload[..]].concat());
            process::exit_now(0)
        }
        Fork::Parent(child) => {
            drop(told);
            let mut fds = [
                fd::watch(result.as_raw_fd(), libc::POLLIN),
                fd::watch(socket.as_raw_fd(), libc::POLLIN),
            ];
            while fd::poll(&mut fds, None).step("wait")? == 0 {}
            if fds[0].revents == 0 {
                let _ = process::kill(child, libc::SIGKILL);
            }
            let mut said = Vec::new();
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = fd::read(result.as_raw_fd(), &mut chunk) {
                said.extend_from_slice(&chunk[..n]);
            }
            process::wait(child, true);
            freeze::thaw(frozen.iter().map(|f| PathBuf::from(OsString::from_vec(f.clone()))));
            match said.split_first() {
                Some((kind, payload)) if *kind == Answer::Done.byte() => Ok(payload.to_vec()),
                Some((_, payload)) => Err(Failed::decode(payload)),
                None => {
                    Err(io::Error::from_raw_os_error(libc::ECANCELED)).step("work on the store")
                }
            }
        }
    }
}

fn carry_out(spec: &TreeSpec, input: Option<OwnedFd>) -> Result<Vec<u8>, Failed> {
    let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
    let numbers = |list: &[u64]| list.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
    fail::at("tree-begun");
    match &spec.op {
        TreeOp::Write { dir, limits } => {
            let input = input.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF));
            let input = input.step("take the stream")?;
            // Who has it in the pixel, if the stream does not say.
            empty::own_dir(&path(dir), spec.shift).step("make the tree")?;
            let written = write::write(&path(dir), input.as_raw_fd(), spec.shift, *limits);
            let written = written.step("write the tree")?;
            fail::at("tree-written");
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
            let copied = copy::copy(&plan).step("copy the layer")?;
            fail::at("tree-thawed");
            Ok(numbers(&[copied]))
        }
        TreeOp::Merge { from, to } => {
            let from: Vec<PathBuf> = from.iter().map(|f| path(f)).collect();
            let merged = merge::merge(&from, &path(to)).step("merge layers")?;
            fail::at("tree-merged");
            Ok(numbers(&[merged]))
        }
        TreeOp::Remove { dirs } => {
            for dir in dirs {
                // Another process may be at it: this one sees it done, too.
                let alone = std::fs::File::open(path(dir));
                let _alone = alone.and_then(|dir| dir.lock().map(|()| dir));
                remove::remove(&path(dir)).step("remove a directory")?;
                fail::at("tree-removed");
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
