//! The TLS client: who is trusted, and who we are.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, InconsistentKeys,
    OtherError, RootCertStore, SignatureScheme,
};

use crate::cert;
use crate::endpoint::{ClientIdentity, IdentityFault, ServerTrust, TlsEndpoint};
use crate::error::TlsFailure;

/// Where distributions keep their CA bundle.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Builds the configuration for an endpoint. Reads the CA bundle for [`ServerTrust::System`].
pub(crate) fn config(endpoint: &TlsEndpoint) -> Result<ClientConfig, TlsFailure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match &endpoint.trust {
        ServerTrust::Pinned(pin) => Arc::new(Verifier {
            accept: Accept::Leaves { pins: vec![*pin], chain: None },
            provider: Arc::clone(&provider),
        }),
        ServerTrust::Pem(pem) => Arc::new(Verifier {
            accept: pem_trust(pem, &provider)?,
            provider: Arc::clone(&provider),
        }),
        ServerTrust::System => chain_verifier(system_roots()?, &provider)?,
    };
    finish(provider, verifier, endpoint.identity.as_ref())
}

/// A configuration that completes a handshake with anybody and notes the leaf certificate.
/// Only for showing a certificate before it is trusted; nothing is ever sent over it.
pub(crate) fn curious(seen: Arc<Mutex<Option<Vec<u8>>>>) -> Result<ClientConfig, TlsFailure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        Arc::new(Verifier { accept: Accept::Anything(seen), provider: Arc::clone(&provider) });
    finish(provider, verifier, None)
}

fn finish(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, TlsFailure> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsFailure::Config(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = cert::parse_pem(&identity.cert_chain_pem)
                .map_err(|e| TlsFailure::Config(format!("client certificate: {e}")))?
                .into_iter()
                .map(CertificateDer::from)
                .collect();
            // The parser's error may quote its input: it is a key, so it is not passed on.
            let key = PrivateKeyDer::from_pem_slice(&identity.key_pem).map_err(|_| {
                TlsFailure::Config("client key: not a private key in PEM".to_owned())
            })?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| TlsFailure::Config(format!("client certificate and key: {e}")))?
        }
    };
    // HTTP/2 has neither the upgrade nor the WebSocket handshake used here.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session shows no certificate to look at.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// See [`ClientIdentity::check`].
pub(crate) fn check_identity(identity: &ClientIdentity) -> Result<(), IdentityFault> {
    let chain = cert::parse_pem(&identity.cert_chain_pem)
        .map_err(|_| IdentityFault::Certificate)?
        .into_iter()
        .map(CertificateDer::from)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(&identity.key_pem).map_err(|_| IdentityFault::Key)?;
    let provider = rustls::crypto::ring::default_provider();
    let key = provider.key_provider.load_private_key(key).map_err(|_| IdentityFault::Key)?;
    match CertifiedKey::new(chain, key).keys_match() {
        // A key that does not say what it is the half of shows when it is used.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(IdentityFault::Mismatch),
        Err(_) => Err(IdentityFault::Certificate),
    }
}

fn pem_trust(pem: &[u8], provider: &Arc<CryptoProvider>) -> Result<Accept, TlsFailure> {
    let certificates =
        cert::parse_pem(pem).map_err(|e| TlsFailure::Config(format!("server certificate: {e}")))?;
    let mut roots = RootCertStore::empty();
    for der in certificates.iter().filter(|der| cert::is_ca(der)) {
        roots
            .add(CertificateDer::from(der.clone()))
            .map_err(|e| TlsFailure::Config(format!("server certificate: {e}")))?;
    }
    let chain = if roots.is_empty() { None } else { Some(chain_verifier(roots, provider)?) };
    Ok(Accept::Leaves { pins: certificates.iter().map(|der| cert::sha256(der)).collect(), chain })
}

fn chain_verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsFailure> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|e| TlsFailure::Config(format!("trusted certificates: {e}")))
}

fn system_roots() -> Result<RootCertStore, TlsFailure> {
    let named = std::env::var_os("SSL_CERT_FILE").filter(|v| !v.is_empty());
    let path = match &named {
        Some(path) => Path::new(path),
        None => BUNDLES
            .iter()
            .map(Path::new)
            .find(|p| p.exists())
            .ok_or_else(|| TlsFailure::Config("this host has no CA bundle".to_owned()))?,
    };
    let unreadable = |e: String| TlsFailure::Config(format!("CA bundle {}: {e}", path.display()));
    let pem = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
    let mut roots = RootCertStore::empty();
    // Bundles contain certificates that the library does not take; the others still count.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if roots.is_empty() {
        return Err(unreadable("no certificate in it".to_owned()));
    }
    Ok(roots)
}

/// Decides about the server's certificate. Whatever it accepts, the handshake must still be
/// signed with that certificate's key: a certificate alone is public.
#[derive(Debug)]
struct Verifier {
    accept: Accept,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Accept {
    /// One of these leaves exactly, or what the chain verifier takes.
    Leaves {
        pins: Vec<[u8; 32]>,
        chain: Option<Arc<WebPkiServerVerifier>>,
    },
    Anything(Arc<Mutex<Option<Vec<u8>>>>),
}

/// Carries the two fingerprints through the TLS library's error.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is not the pinned one")]
struct Mismatch {
    expected: [u8; 32],
    got: [u8; 32],
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (pins, chain) = match &self.accept {
            Accept::Anything(seen) => {
                if let Ok(mut seen) = seen.lock() {
                    *seen = Some(end_entity.to_vec());
                }
                return Ok(ServerCertVerified::assertion());
            }
            Accept::Leaves { pins, chain } => (pins, chain),
        };
        let got = cert::sha256(end_entity);
        if pins.contains(&got) {
            return Ok(ServerCertVerified::assertion());
        }
        match (chain, pins.first()) {
            (Some(chain), _) => {
                chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            (None, Some(expected)) => Err(rustls::Error::Other(OtherError(Arc::new(Mismatch {
                expected: *expected,
                got,
            })))),
            (None, None) => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Says an error of the TLS library in our terms.
pub(crate) fn failure(error: &rustls::Error) -> TlsFailure {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(bad) => match bad {
            CertificateError::UnknownIssuer => TlsFailure::Untrusted,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                TlsFailure::Expired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsFailure::NotYetValid
            }
            CertificateError::NotValidForNameContext { expected, .. } => {
                TlsFailure::WrongName { host: expected.to_str().into_owned() }
            }
            other => TlsFailure::BadCertificate(other.to_string()),
        },
        E::Other(other) => match other.0.downcast_ref::<Mismatch>() {
            Some(pin) => TlsFailure::PinMismatch {
                expected: cert::hex(&pin.expected),
                got: cert::hex(&pin.got),
            },
            None => TlsFailure::Protocol(error.to_string()),
        },
        E::AlertReceived(AlertDescription::CertificateRequired) => {
            TlsFailure::ClientCertificateRequired
        }
        E::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied),
        ) => TlsFailure::ClientCertificateRefused(format!("{alert:?}")),
        E::InvalidMessage(_) => TlsFailure::Protocol("the server does not speak tls".to_owned()),
        other => TlsFailure::Protocol(other.to_string()),
    }
}
