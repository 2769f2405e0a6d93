//! SSH host keys, in the formats of OpenSSH.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_compact::{KeyPair, Seed};

use crate::sys::process;

const KIND: &[u8] = b"ssh-ed25519";
/// How long a line of the private key's base64 is, as ssh-keygen writes it.
const LINE: usize = 70;

/// A pair of keys as the two files hold them.
pub(crate) struct HostKey {
    /// The private half: unencrypted, without a comment.
    pub(crate) private: Vec<u8>,
    /// The public half, one line.
    pub(crate) public: String,
}

/// A fresh Ed25519 key.
pub(crate) fn generate() -> io::Result<HostKey> {
    let mut random = [0; 36];
    process::random(&mut random)?;
    let (mut seed, mut check) = ([0; 32], [0; 4]);
    seed.copy_from_slice(&random[..32]);
    check.copy_from_slice(&random[32..]);
    let key = of(seed, check);
    process::wipe(&mut random);
    process::wipe(&mut seed);
    Ok(key)
}

/// The key of a seed. The format of the private half is described in OpenSSH's
/// PROTOCOL.key; `check` is the number in it that tells a wrong passphrase.
fn of(seed: [u8; 32], check: [u8; 4]) -> HostKey {
    let pair = KeyPair::from_seed(Seed::new(seed));
    let mut public = Vec::new();
    string(&mut public, KIND);
    string(&mut public, &pair.pk[..]);

    let mut secret = [check, check].concat();
    secret.extend_from_slice(&public);
    string(&mut secret, &pair.sk[..]);
    string(&mut secret, b"");
    let mut padding = 1..;
    while secret.len() % 8 != 0 {
        secret.extend(padding.next());
    }

    let mut whole = b"openssh-key-v1\0".to_vec();
    for part in [&b"none"[..], b"none", b""] {
        string(&mut whole, part);
    }
    whole.extend_from_slice(&1u32.to_be_bytes());
    string(&mut whole, &public);
    string(&mut whole, &secret);
    process::wipe(&mut secret);

    let mut private = b"-----BEGIN OPENSSH PRIVATE KEY-----\n".to_vec();
    for line in STANDARD.encode(&whole).into_bytes().chunks(LINE) {
        private.extend_from_slice(line);
        private.push(b'\n');
    }
    private.extend_from_slice(b"-----END OPENSSH PRIVATE KEY-----\n");
    process::wipe(&mut whole);
    HostKey { private, public: format!("ssh-ed25519 {}\n", STANDARD.encode(&public)) }
}

/// A length and the bytes, as RFC 4251 has it.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn ssh_reads_what_is_written() {
        let key = generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, &key.private).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        // OpenSSH itself derives the public half from the private one.
        let out = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        assert_eq!(String::from_utf8(out.stdout).unwrap(), key.public);
        assert_ne!(generate().unwrap().public, key.public);
    }

    #[test]
    fn a_seed_has_one_key() {
        // The first test of RFC 8032, section 7.1.
        let seed = b"\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\
                     \x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03\x1c\xae\x7f\x60";
        let public = b"\xd7\x5a\x98\x01\x82\xb1\x0a\xb7\xd5\x4b\xfe\xd3\xc9\x64\x07\x3a\
                       \x0e\xe1\x72\xf3\xda\xa6\x23\x25\xaf\x02\x1a\x68\xf7\x07\x51\x1a";
        let mut blob = Vec::new();
        string(&mut blob, KIND);
        string(&mut blob, public);
        let want = format!("ssh-ed25519 {}\n", STANDARD.encode(blob));
        assert_eq!(of(*seed, [1; 4]).public, want);
    }
}
