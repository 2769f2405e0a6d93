//! Writing a file: the caller's content in frames, and then one more that puts
//! it in place.

use std::sync::Arc;

use pixels_core::{Bytes, Error, Reader, Result, text};
use pixels_guest_api::files::{ABORT, Attrs, DATA, END, HEAD_LEN, Head, MAX_BODY, Reply, Request};
use tokio::io::AsyncReadExt;

use super::conn::{Frame, Trouble};
use super::errors::{self, Subject};
use super::pool::{Lease, Pool};

/// A frame is sent when it holds this many bytes, or nothing more comes.
const ENOUGH: usize = 64 * 1024;

/// Writes `path` and answers how many bytes it was. Nothing is read of
/// `content` before the other side has found that the file can be made.
pub(super) async fn write(
    pool: &Arc<Pool>,
    path: &[u8],
    temp: Bytes,
    mut content: Reader,
    attrs: Attrs,
) -> Result<u64> {
    let request = Request::Write { path: path.to_vec(), temp, attrs };
    let subject = Subject::of(&request);
    let (lease, frame) = pool.begin(&request).await?;
    match frame {
        Frame::Reply(Reply::Done) => {}
        Frame::Reply(Reply::Error(fault)) => {
            lease.keep();
            return Err(subject.fault(fault));
        }
        _ => return Err(errors::unexpected()),
    }
    let mut upload = Upload { lease: Some(lease) };
    match upload.send(&mut content).await {
        Ok(written) => upload.end(END, &subject).await.map(|()| written),
        Err(Broken::Source(e)) => {
            // The error is the source's, whatever becomes of this.
            let _ = upload.end(ABORT, &subject).await;
            Err(Error::Backend {
                what: format!("read what is written to {}", text::clean_bytes(path)),
                message: e.to_string(),
                source: Some(Box::new(e)),
            })
        }
        Err(Broken::Answer(head, have)) => Err(upload.early(head, have, &subject).await),
        Err(Broken::Connection(trouble)) => {
            upload.lease = None;
            Err(subject.trouble(trouble))
        }
    }
}

/// Why content was not sent to its end.
enum Broken {
    Source(std::io::Error),
    /// An answer came first; these are its first bytes.
    Answer([u8; HEAD_LEN], usize),
    Connection(Trouble),
}

impl From<Trouble> for Broken {
    fn from(trouble: Trouble) -> Self {
        Self::Connection(trouble)
    }
}

/// A write that goes on. Dropped, it is given up, and the other side removes
/// what is half-made.
struct Upload {
    lease: Option<Lease>,
}

impl Upload {
    async fn send(&mut self, content: &mut Reader) -> Result<u64, Broken> {
        let Some(lease) = &mut self.lease else { return Err(Trouble::Lost.into()) };
        let mut frame = Vec::with_capacity(HEAD_LEN + MAX_BODY);
        let mut written = 0;
        loop {
            frame.clear();
            frame.resize(HEAD_LEN, 0);
            let mut more = true;
            while more && frame.len() < HEAD_LEN + ENOUGH {
                let room = (HEAD_LEN + MAX_BODY - frame.len()) as u64;
                let mut part = (&mut *content).take(room);
                tokio::select! {
                    biased;
                    early = lease.conn.early() => {
                        let (head, have) = early?;
                        return Err(Broken::Answer(head, have));
                    }
                    read = part.read_buf(&mut frame) => {
                        more = read.map_err(Broken::Source)? > 0;
                    }
                }
            }
            let length = frame.len() - HEAD_LEN;
            if length > 0 {
                frame[..HEAD_LEN].copy_from_slice(&Head::encode(DATA, length));
                lease.conn.send(&frame).await?;
                written += length as u64;
            }
            if !more {
                return Ok(written);
            }
        }
    }

    /// Ends the content and waits for what becomes of it.
    async fn end(&mut self, tag: u8, subject: &Subject) -> Result<()> {
        let Some(lease) = &mut self.lease else { return Err(super::lost()) };
        lease.conn.send(&Head::encode(tag, 0)).await.map_err(|t| subject.trouble(t))?;
        let answer = lease.committed().await;
        let lease = self.lease.take();
        match answer.map_err(|t| subject.trouble(t))? {
            Frame::Reply(reply @ (Reply::Done | Reply::Error(_))) => {
                if let Some(lease) = lease {
                    lease.keep();
                }
                match reply {
                    Reply::Error(fault) => Err(subject.fault(fault)),
                    _ => Ok(()),
                }
            }
            _ => Err(errors::unexpected()),
        }
    }

    /// The error that came while content was on its way. The other side has
    /// removed what was half-made before it said so.
    async fn early(&mut self, head: [u8; HEAD_LEN], have: usize, subject: &Subject) -> Error {
        let Some(mut lease) = self.lease.take() else { return super::lost() };
        match lease.conn.rest(head, have).await {
            Ok(Frame::Reply(Reply::Error(fault))) => subject.fault(fault),
            Ok(_) => errors::unexpected(),
            Err(trouble) => subject.trouble(trouble),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_up();
        }
    }
}
