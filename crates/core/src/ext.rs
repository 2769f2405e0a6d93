//! Conveniences on top of [`Sandbox`].

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    Bytes, Error, ExecOpts, FileEntry, FileKind, Name, Owner, Process, Reader, Result, RunIo,
    Sandbox, WriteOpts, text,
};

/// What every [`Sandbox`] can do because of what it is.
#[async_trait]
pub trait SandboxExt {
    /// Runs a command to its end and returns the number a shell would give.
    async fn run(&self, name: &Name, opts: ExecOpts, io: RunIo) -> Result<u8>;
    /// Runs a command without input and returns its stdout.
    ///
    /// # Errors
    /// [`Error::Backend`] with the end of its stderr if it does not return 0.
    async fn output(&self, name: &Name, cmd: &[&str]) -> Result<Bytes>;
    /// Replaces a file with `content`, at once. See [`WriteOpts`] for `owner`.
    async fn write_file(
        &self,
        name: &Name,
        path: &str,
        content: &[u8],
        mode: u32,
        owner: Option<Owner>,
    ) -> Result<()>;
    /// A file's first `max_bytes` bytes (0: all of them), and whether there are more.
    async fn read_file(&self, name: &Name, path: &str, max_bytes: u64) -> Result<(Bytes, bool)>;
    /// The entries of a directory, and below it if `recursive`, by path. Links are not followed.
    async fn list_files(&self, name: &Name, path: &str, recursive: bool) -> Result<Vec<FileEntry>>;
    /// Removes one file.
    async fn delete_file(&self, name: &Name, path: &str) -> Result<()>;
}

/// How much of a failed command's stderr an error quotes, in bytes.
const STDERR_TAIL: usize = 2048;

#[async_trait]
impl<T: Sandbox + ?Sized> SandboxExt for T {
    async fn run(&self, name: &Name, mut opts: ExecOpts, io: RunIo) -> Result<u8> {
        opts.no_stdin = io.stdin.is_none();
        let process = self.spawn(name, opts).await?;
        pump(process, io).await
    }

    async fn output(&self, name: &Name, cmd: &[&str]) -> Result<Bytes> {
        let opts = ExecOpts { no_stdin: true, ..ExecOpts::new(cmd.iter().copied()) };
        let mut process = self.spawn(name, opts).await?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let (a, b, status) =
            tokio::join!(read_all(stdout, &mut out), read_tail(stderr, &mut err), process.exit());
        let status = status?;
        a.and(b)
            .map_err(|e| Error::backend(format!("output of {:?}", cmd.first()), e.to_string()))?;
        if status.success() {
            return Ok(out);
        }
        let what = format!("{} exited with {}", cmd.first().unwrap_or(&""), status.code());
        Err(Error::backend(what, text::clean_bytes(&err).trim()))
    }

    async fn write_file(
        &self,
        name: &Name,
        path: &str,
        content: &[u8],
        mode: u32,
        owner: Option<Owner>,
    ) -> Result<()> {
        let session = self.files(name).await?;
        let content: Reader = Box::pin(std::io::Cursor::new(content.to_vec()));
        let opts = WriteOpts { mode: Some(mode), owner, mtime: None };
        session.write(path.as_bytes(), content, opts).await.map(drop)
    }

    async fn read_file(&self, name: &Name, path: &str, max_bytes: u64) -> Result<(Bytes, bool)> {
        let session = self.files(name).await?;
        let (_, reader) = session.open_read(path.as_bytes()).await?;
        let limit = if max_bytes == 0 { u64::MAX } else { max_bytes.saturating_add(1) };
        let mut content = Vec::new();
        reader
            .take(limit)
            .read_to_end(&mut content)
            .await
            .map_err(|e| Error::backend(format!("read {path}"), e.to_string()))?;
        let truncated = max_bytes != 0 && content.len() as u64 > max_bytes;
        if truncated {
            content.truncate(max_bytes as usize);
        }
        Ok((content, truncated))
    }

    async fn list_files(&self, name: &Name, path: &str, recursive: bool) -> Result<Vec<FileEntry>> {
        let session = self.files(name).await?;
        let mut entries = Vec::new();
        let mut todo = vec![path.as_bytes().to_vec()];
        while let Some(dir) = todo.pop() {
            let names = match session.read_dir(&dir).await {
                Ok(names) => names,
                // The guest may remove a directory between its listing and ours.
                Err(e) if e.is_not_found() && dir != path.as_bytes() => continue,
                Err(e) => return Err(e),
            };
            for entry in names {
                let mut full = dir.clone();
                if full.last() != Some(&b'/') {
                    full.push(b'/');
                }
                full.extend_from_slice(&entry.name);
                let is_dir = entry.stat.kind == FileKind::Dir;
                entries.push(FileEntry {
                    path: String::from_utf8_lossy(&full).into_owned(),
                    size: entry.stat.size,
                    mode: entry.stat.mode & 0o7777,
                    is_dir,
                });
                if is_dir && recursive {
                    todo.push(full);
                }
            }
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    async fn delete_file(&self, name: &Name, path: &str) -> Result<()> {
        self.files(name).await?.remove_file(path.as_bytes()).await
    }
}

/// Connects a process to `io` until it ends.
async fn pump(mut process: Process, io: RunIo) -> Result<u8> {
    let stdin = process.stdin.take();
    let feed = async move {
        if let (Some(mut to), Some(mut from)) = (stdin, io.stdin) {
            // The command may end without reading its input: no failure of ours.
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        }
        std::future::pending::<()>().await
    };
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let work = async {
        let (a, b, status) =
            tokio::join!(drain(stdout, io.stdout), drain(stderr, io.stderr), process.exit());
        a?;
        b?;
        status
    };
    tokio::select! {
        status = work => Ok(status?.code()),
        () = feed => unreachable!("feeding never completes"),
    }
}

async fn drain(from: Option<Reader>, to: Option<crate::Writer>) -> Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let copied = match to {
        Some(mut to) => match tokio::io::copy(&mut from, &mut to).await {
            Ok(_) => to.flush().await,
            Err(e) => Err(e),
        },
        None => tokio::io::copy(&mut from, &mut tokio::io::sink()).await.map(drop),
    };
    copied.map_err(|e| Error::Backend {
        what: "command output".into(),
        message: e.to_string(),
        source: Some(Box::new(e)),
    })
}

async fn read_all(from: Option<Reader>, to: &mut Vec<u8>) -> std::io::Result<()> {
    match from {
        Some(mut from) => from.read_to_end(to).await.map(drop),
        None => Ok(()),
    }
}

async fn read_tail(from: Option<Reader>, to: &mut Vec<u8>) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut chunk = [0u8; 4096];
    loop {
        let n = from.read(&mut chunk).await?;
        if n == 0 {
            return Ok(());
        }
        to.extend_from_slice(&chunk[..n]);
        let excess = to.len().saturating_sub(STDERR_TAIL);
        to.drain(..excess);
    }
}
