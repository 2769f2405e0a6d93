//! An image that is being made: its layers so far, and how an archive becomes one.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use pixels_core::{Error, Progress, Result};
use sha2::{Digest, Sha256};

use super::compress::{Bounded, Format, HEAD, decompress, detect};
use super::directory::{self, Skip};
use super::layer::{LayerStore, referrer};
use super::meter::{Meter, Metered};
use super::sink::{Limits, TreeSink, broken};
use super::squashfs;
use super::tar::{self, Style};
use super::{blocking, local};

/// What a layer is made of.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// An archive in a file.
    File {
        path: PathBuf,
        /// Whether it is a layer of several.
        style: Style,
    },
    /// A directory.
    Directory { path: PathBuf, skip: Skip },
}

/// Layers that nobody has but this image.
pub(crate) struct Making {
    store: Arc<dyn LayerStore>,
    referrer: String,
    /// What errors call the image.
    name: String,
    limits: Limits,
    pub(crate) layers: Vec<String>,
    pub(crate) blobs: Vec<String>,
    pub(crate) bytes: u64,
}

impl Making {
    pub(crate) fn new(
        store: Arc<dyn LayerStore>,
        fingerprint: &str,
        name: &str,
        limits: Limits,
    ) -> Self {
        Self {
            store,
            referrer: referrer(fingerprint),
            name: name.into(),
            limits,
            layers: Vec::new(),
            blobs: Vec::new(),
            bytes: 0,
        }
    }

    /// Uses a layer that another image has; false if it is gone.
    pub(crate) async fn share(&mut self, layer: &str, blob: &str) -> Result<bool> {
        if !self.store.hold(layer, &self.referrer).await? {
            return Ok(false);
        }
        self.layers.push(layer.into());
        self.blobs.push(blob.into());
        Ok(true)
    }

    /// Makes a layer. Answers the SHA-256 of its stream.
    pub(crate) async fn layer(
        &mut self,
        content: Content,
        blob: &str,
        progress: &Progress,
    ) -> Result<String> {
        let mut layer = self.store.begin().await?;
        let (input, limits) = (layer.input(), self.limits);
        let meter = content.meter(progress, &format!("unpacking {}", self.name))?;
        let decoded = blocking(move || content.decode(input, limits, &meter)).await?;
        let hash = match decoded {
            Ok(hash) => hash,
            // The writer has gone, and knows why.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                layer.finish(&self.referrer).await?;
                return Err(local("writing a layer", &e));
            }
            Err(e) => return Err(unpack_error(&self.name, &e)),
        };
        let id = layer.id().to_owned();
        self.bytes += layer.finish(&self.referrer).await?;
        self.layers.push(id);
        self.blobs.push(blob.into());
        Ok(hash)
    }

    /// They are the image's from now on.
    pub(crate) fn keep(mut self) {
        self.layers.clear();
    }

    /// Gives the layers back.
    pub(crate) async fn undo(mut self) {
        for layer in &std::mem::take(&mut self.layers) {
            if let Err(error) = self.store.release(layer, &self.referrer).await {
                tracing::debug!(%error, layer, "a layer is left to gc");
            }
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        for layer in &self.layers {
            // A store that has to wait for it leaves it to gc.
            let _ = self.store.release(layer, &self.referrer).now_or_never();
        }
    }
}

impl Content {
    fn meter(&self, progress: &Progress, phase: &str) -> Result<Meter> {
        let total = match self {
            Self::File { path, .. } => {
                let length = std::fs::metadata(path).map_err(|e| local("reading an image", &e))?;
                Some(length.len())
            }
            Self::Directory { .. } => None,
        };
        Ok(Meter::new(progress, phase, total))
    }

    /// Decodes into a stream; its SHA-256.
    pub(crate) fn decode(
        &self,
        output: impl Write + Send,
        limits: Limits,
        meter: &Meter,
    ) -> io::Result<String> {
        let mut hashing = Hashing { output, hash: Sha256::new() };
        let mut sink = TreeSink::new(&mut hashing, limits)?;
        let count = |n: u64| meter.add(n);
        match self {
            Self::Directory { path, skip } => {
                directory::unpack(path, *skip, &mut sink, &mut { count })?;
            }
            Self::File { path, style } => {
                let file = File::open(path)?;
                match format_of(&file)? {
                    None => return Err(broken("it is neither a tar archive nor a squashfs")),
                    Some(Format::Squashfs) if style.layer => {
                        return Err(broken("a layer is a tar archive"));
                    }
                    Some(Format::Squashfs) => {
                        squashfs::unpack(&file, &mut sink, &mut { count })?;
                    }
                    Some(Format::Tar(compression)) => {
                        let input = Metered { input: file, meter: meter.clone() };
                        let input = BufReader::with_capacity(128 * 1024, input);
                        // Headers and padding come on top of what is in files.
                        let most = limits.entries.saturating_mul(2048).saturating_add(limits.bytes);
                        let mut input = Bounded::new(decompress(input, compression)?, most);
                        tar::unpack(&mut input, *style, &mut sink)?;
                    }
                }
            }
        }
        sink.finish()?;
        Ok(super::hex(&hashing.hash.finalize()))
    }
}

/// What a file holds, by its first bytes. Where it is read from stays as it is.
pub(crate) fn format_of(file: &File) -> io::Result<Option<Format>> {
    use std::os::unix::fs::FileExt;
    let mut head = [0; HEAD];
    let mut got = 0;
    while got < HEAD {
        match file.read_at(&mut head[got..], got as u64)? {
            0 => break,
            n => got += n,
        }
    }
    Ok(detect(&head[..got]))
}

/// The fingerprint of a directory: of the stream that it makes.
pub(crate) async fn fingerprint_of(
    content: Content,
    name: &str,
    limits: Limits,
    progress: &Progress,
) -> Result<String> {
    let meter = content.meter(progress, &format!("reading {name}"))?;
    let decoded = blocking(move || content.decode(io::sink(), limits, &meter)).await?;
    decoded.map_err(|e| unpack_error(name, &e))
}

struct Hashing<W> {
    output: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.output.write(buf)?;
        self.hash.update(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// An archive that cannot be unpacked is an invalid value; what the system says is not.
fn unpack_error(name: &str, e: &io::Error) -> Error {
    use io::ErrorKind as K;
    match e.kind() {
        K::InvalidData | K::InvalidInput | K::UnexpectedEof | K::Other => {
            Error::invalid("image", name, &pixels_core::text::clean(&e.to_string()))
        }
        _ => local(&format!("unpacking {name}"), e),
    }
}
