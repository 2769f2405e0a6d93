//! Certificates as far as trust on first sight needs them: PEM, fingerprints, looking
//! at what a server shows.

use std::sync::{Arc, Mutex};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use crate::connect;
use crate::endpoint::authority;
use crate::error::{Error, TlsFailure};

/// Why PEM text is no list of certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Well-formed, or not PEM at all, but without a certificate.
    #[error("no certificate in the PEM text")]
    Empty,
    /// A section is broken.
    #[error("broken PEM text")]
    Broken,
}

/// The DER of every certificate in PEM text, in order; other sections are skipped.
///
/// # Errors
/// [`PemError`] if there is none or a section is broken.
pub fn parse_pem(pem: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    let found = CertificateDer::pem_slice_iter(pem)
        .map(|c| c.map(|der| der.to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| PemError::Broken)?;
    if found.is_empty() {
        return Err(PemError::Empty);
    }
    Ok(found)
}

/// SHA-256 of a certificate's DER.
pub fn sha256(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

/// The fingerprint as Incus writes it: SHA-256 of the DER, 64 lower-case hex digits.
pub fn fingerprint(der: &[u8]) -> String {
    hex(&sha256(der))
}

/// Reads a fingerprint: 64 hex digits in either case, colons between bytes allowed.
pub fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .trim()
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    if digits.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(out)
}

/// The leaf certificate (DER) that a TLS server shows, without judging it. The server does
/// prove that it has the key. For comparing with a fingerprint before anything is trusted.
///
/// # Errors
/// As connecting: [`Error::Resolve`], [`Error::Refused`], [`Error::Timeout`], [`Error::Tls`].
pub async fn fetch_server_certificate(host: &str, port: u16) -> Result<Vec<u8>, Error> {
    let seen = Arc::new(Mutex::new(None));
    let tls = |kind| Error::Tls { endpoint: format!("https://{}", authority(host, port)), kind };
    let config = crate::tls::curious(Arc::clone(&seen)).map_err(tls)?;
    let stream = connect::tls(host, port, Arc::new(config)).await?;
    drop(stream);
    let leaf = seen.lock().ok().and_then(|mut seen| seen.take());
    leaf.ok_or_else(|| tls(TlsFailure::Protocol("the server showed no certificate".to_owned())))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

/// Whether a certificate says of itself that it is a CA (basicConstraints, cA TRUE).
/// Anything that cannot be read is none.
pub fn is_ca(der: &[u8]) -> bool {
    basic_constraints(der).unwrap_or(false)
}

const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// Context tag 3 of the body: the extensions.
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.19
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];

fn basic_constraints(der: &[u8]) -> Option<bool> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut body, _) = expect(certificate, SEQUENCE)?;
    let extensions = loop {
        let (tag, content, rest) = element(body)?;
        if tag == EXTENSIONS {
            break content;
        }
        body = rest;
    };
    let (mut list, _) = expect(extensions, SEQUENCE)?;
    while !list.is_empty() {
        let (extension, rest) = expect(list, SEQUENCE)?;
        list = rest;
        let (oid, mut value) = expect(extension, OID)?;
        if oid != BASIC_CONSTRAINTS {
            continue;
        }
        if let Some((_critical, rest)) = expect(value, BOOLEAN) {
            value = rest;
        }
        let (octets, _) = expect(value, OCTET_STRING)?;
        let (constraints, _) = expect(octets, SEQUENCE)?;
        return Some(matches!(expect(constraints, BOOLEAN), Some(([0xff], _))));
    }
    None
}

fn expect(input: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(input)?;
    (tag == wanted).then_some((content, rest))
}

/// One DER element: tag, content, what follows. Lengths up to four bytes.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, input) = input.split_first()?;
    let (&first, mut input) = input.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, rest) = input.split_at_checked(count)?;
        length = digits.iter().fold(0, |n, d| n << 8 | usize::from(*d));
        input = rest;
    }
    let (content, rest) = input.split_at_checked(length)?;
    Some((tag, content, rest))
}
