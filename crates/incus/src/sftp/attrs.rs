//! File attributes.

/// What is known of a file, or is to be set on it; `None` is unknown or left alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attrs {
    /// Size in bytes; set, it truncates or extends.
    pub size: Option<u64>,
    /// User and group id.
    pub owner: Option<(u32, u32)>,
    /// Permission and type bits as in `st_mode`.
    pub mode: Option<u32>,
    /// Times of last access and modification, seconds since 1970.
    pub times: Option<(u32, u32)>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// FIFO, socket, device: not to be opened.
    Special,
}

const TYPE_BITS: u32 = 0o170_000;

impl Attrs {
    /// Only permission bits.
    pub fn mode(mode: u32) -> Attrs {
        Attrs { mode: Some(mode), ..Attrs::default() }
    }

    /// What the file is; `None` if the server sent no mode.
    pub fn kind(&self) -> Option<FileKind> {
        Some(match self.mode? & TYPE_BITS {
            0o100_000 => FileKind::File,
            0o040_000 => FileKind::Dir,
            0o120_000 => FileKind::Symlink,
            _ => FileKind::Special,
        })
    }

    /// The mode without the type bits: permissions, setuid, setgid, sticky.
    pub fn permissions(&self) -> Option<u32> {
        self.mode.map(|m| m & 0o7777)
    }

    /// Modification time, seconds since 1970.
    pub fn mtime(&self) -> Option<u32> {
        self.times.map(|t| t.1)
    }

    /// Whether it is a directory for sure.
    pub fn is_dir(&self) -> bool {
        self.kind() == Some(FileKind::Dir)
    }
}
