//! The guest binary: which one, where it lies in a pixel, putting it there.

use std::path::PathBuf;
use std::sync::OnceLock;

use pixels_core::{Error, Files, Name, Owner, Reader, Result, WriteOpts};
use pixels_guest_api as api;
use sha2::{Digest, Sha256};

use crate::Incus;

const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// A systemd unit that renews a clone's identity before anything reads it.
/// `DefaultDependencies=no`: it has to run before the network and sshd.
const BOOT_UNIT: &str = "/etc/systemd/system/pixels-boot.service";
const BOOT_WANTS: &str = "/etc/systemd/system/sysinit.target.wants";

/// The binary that is put into pixels.
pub(crate) struct Guest {
    replacement: Option<PathBuf>,
    loaded: OnceLock<Loaded>,
}

struct Loaded {
    bytes: Vec<u8>,
    path: String,
}

impl Guest {
    /// The built-in one, or the file that replaces it. Nothing is read yet.
    pub fn new(replacement: Option<PathBuf>) -> Self {
        Self { replacement, loaded: OnceLock::new() }
    }

    fn load(&self) -> Result<&Loaded> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let (bytes, hash) = match &self.replacement {
            Some(path) => {
                let bytes = std::fs::read(path).map_err(|e| {
                    let shown = path.display().to_string();
                    Error::invalid("guest_binary", &shown, &format!("cannot read it: {e}"))
                })?;
                let hash = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
                (bytes, hash)
            }
            None => (api::GUEST.to_vec(), api::GUEST_SHA256_HEX.to_owned()),
        };
        Ok(self.loaded.get_or_init(|| Loaded { path: api::guest_path(&hash), bytes }))
    }

    /// Where it lies in a pixel: the name carries the content's hash.
    pub fn path(&self) -> Result<&str> {
        Ok(&self.load()?.path)
    }
}

impl Incus {
    /// Puts the guest binary into a pixel, and nothing else.
    pub(crate) async fn push_guest(&self, name: &Name) -> Result<()> {
        let guest = self.guest.load()?;
        if guest.bytes.is_empty() {
            return Err(Error::unsupported(crate::KIND, "this build's guest helper: it has none")
                .with_hint("set PIXELS_INCUS_GUEST_BINARY to a pixels-guest built for the pixel's architecture"));
        }
        let files = self.files(name).await?;
        make_dirs(files.as_ref(), api::GUEST_DIR).await?;
        let content: Reader = Box::pin(std::io::Cursor::new(guest.bytes.clone()));
        let opts = WriteOpts { mode: Some(0o755), owner: Some(ROOT), mtime: None };
        files.write(guest.path.as_bytes(), content, opts).await?;
        Ok(())
    }

    /// Prepares a new, stopped pixel: the binary, its identity, and where
    /// there is systemd the unit that renews the identity of clones. Says
    /// whether there is that unit.
    pub(crate) async fn install_guest(&self, name: &Name, id: &str) -> Result<bool> {
        let guest = self.guest.load()?;
        let files = self.files(name).await?;
        let files = files.as_ref();
        make_dirs(files, api::GUEST_DIR).await?;
        write(files, &guest.path, &guest.bytes, 0o755).await?;
        write(files, &format!("{}/identity", api::GUEST_DIR), id.as_bytes(), 0o600).await?;
        let systemd = files.stat(b"/etc/systemd/system", true).await.is_ok();
        if !systemd {
            return Ok(false);
        }
        let unit = format!(
            "[Unit]\n\
             Description=Renew the identity of a cloned pixel\n\
             DefaultDependencies=no\n\
             Before=sysinit.target systemd-tmpfiles-setup.service systemd-networkd.service systemd-journal-flush.service ssh.service\n\
             After=local-fs.target\n\
             ConditionVirtualization=container\n\
             \n\
             [Service]\n\
             Type=oneshot\n\
             RemainAfterExit=yes\n\
             ExecStart={} {}\n",
            guest.path,
            api::face::BOOT,
        );
        write(files, BOOT_UNIT, unit.as_bytes(), 0o644).await?;
        make_dirs(files, BOOT_WANTS).await?;
        let link = format!("{BOOT_WANTS}/pixels-boot.service");
        match files.symlink(BOOT_UNIT.as_bytes(), link.as_bytes(), Some(ROOT)).await {
            Ok(()) => {}
            Err(e) if e.is_already_exists() => {}
            Err(e) => return Err(e),
        }
        Ok(true)
    }

    /// Renews a running clone's identity from outside, for images without systemd.
    pub(crate) async fn renew_identity(&self, name: &Name, id: &str) -> Result<()> {
        let (code, _, err) =
            self.guest_call(name, &[api::face::IDENTITY.as_bytes(), id.as_bytes()]).await?;
        if code == 0 {
            return Ok(());
        }
        Err(Error::backend(format!("renew the identity of {name}"), err))
    }
}

async fn write(
    files: &dyn pixels_core::FileSession,
    path: &str,
    content: &[u8],
    mode: u32,
) -> Result<()> {
    let content: Reader = Box::pin(std::io::Cursor::new(content.to_vec()));
    let opts = WriteOpts { mode: Some(mode), owner: Some(ROOT), mtime: None };
    files.write(path.as_bytes(), content, opts).await.map(drop)
}

/// Makes a directory of the guest's and its parents, 0755 and root's.
async fn make_dirs(files: &dyn pixels_core::FileSession, path: &str) -> Result<()> {
    let mut at = String::new();
    for part in path.split('/').filter(|p| !p.is_empty()) {
        at.push('/');
        at.push_str(part);
        if files.stat(at.as_bytes(), true).await.is_ok() {
            continue;
        }
        match files.mkdir(at.as_bytes(), 0o755, Some(ROOT)).await {
            Ok(()) => {}
            Err(e) if e.is_already_exists() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
