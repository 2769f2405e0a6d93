//! Certificates made for a test: a CA, servers below it, clients.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// A certificate and its key.
pub struct Pair {
    pub pem: String,
    pub der: Vec<u8>,
    pub key: String,
}

pub fn ca() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "test CA");
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("CA")
}

fn leaf(name: &str, expired: bool) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("name");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if expired {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    }
    params
}

pub fn signed(ca: &CertifiedIssuer<'static, KeyPair>, name: &str, expired: bool) -> Pair {
    let key = KeyPair::generate().expect("key");
    let certificate = leaf(name, expired).signed_by(&key, ca).expect("certificate");
    Pair { pem: certificate.pem(), der: certificate.der().to_vec(), key: key.serialize_pem() }
}

pub fn self_signed(name: &str, expired: bool) -> Pair {
    let key = KeyPair::generate().expect("key");
    let certificate = leaf(name, expired).self_signed(&key).expect("certificate");
    Pair { pem: certificate.pem(), der: certificate.der().to_vec(), key: key.serialize_pem() }
}

/// A server that shows `pair` and, given a CA, wants clients signed by it.
pub fn server(pair: &Pair, clients: Option<&CertifiedIssuer<'static, KeyPair>>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.der().clone()).expect("CA");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .expect("verifier");
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("key");
    let mut config = builder
        .with_single_cert(vec![CertificateDer::from(pair.der.clone())], key)
        .expect("server");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
