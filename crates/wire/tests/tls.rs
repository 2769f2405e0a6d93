//! Whom the client believes, and what it says when it does not.

use std::io::Write;

use pixels_wire::{
    Client, ClientIdentity, Endpoint, Error, Request, ServerTrust, TlsEndpoint, TlsFailure, cert,
};

use crate::certificates::{Pair, ca, self_signed, server, signed};
use crate::support;

fn endpoint(port: u16, host: &str, trust: ServerTrust) -> TlsEndpoint {
    TlsEndpoint { host: host.to_owned(), port, trust, identity: None }
}

async fn ask(endpoint: TlsEndpoint) -> Result<(), Error> {
    let answer = Client::new(Endpoint::Tls(endpoint)).request(Request::get("/")).await?;
    assert_eq!((answer.status, &*answer.body), (200, b"hello".as_slice()));
    Ok(())
}

/// The failure, and that the message names the endpoint.
async fn refused(endpoint: TlsEndpoint) -> TlsFailure {
    let named = format!("https://{}:{}", endpoint.host, endpoint.port);
    let error = ask(endpoint).await.expect_err("must not be trusted");
    assert!(error.to_string().contains(&named), "{error}");
    match error {
        Error::Tls { kind, .. } => kind,
        other => panic!("{other:?}"),
    }
}

fn identity(pair: &Pair) -> ClientIdentity {
    ClientIdentity {
        cert_chain_pem: pair.pem.clone().into_bytes(),
        key_pem: pair.key.clone().into_bytes(),
    }
}

#[tokio::test]
async fn a_pin_is_the_whole_identity() {
    // Expired and for another name: the pin says which certificate it is, and that is all.
    let pair = self_signed("elsewhere.example", true);
    let port = support::tls(server(&pair, None)).await;
    let pin = cert::sha256(&pair.der);
    ask(endpoint(port, "127.0.0.1", ServerTrust::Pinned(pin))).await.expect("pinned");
    let pem = pair.pem.clone().into_bytes();
    ask(endpoint(port, "localhost", ServerTrust::Pem(pem))).await.expect("leaf in PEM");
}

#[tokio::test]
async fn another_certificate_than_the_pinned_one_is_refused() {
    let pair = self_signed("localhost", false);
    let other = self_signed("localhost", false);
    let port = support::tls(server(&pair, None)).await;
    let expected = TlsFailure::PinMismatch {
        expected: cert::fingerprint(&other.der),
        got: cert::fingerprint(&pair.der),
    };
    let pin = ServerTrust::Pinned(cert::sha256(&other.der));
    assert_eq!(refused(endpoint(port, "localhost", pin)).await, expected);
    let pem = ServerTrust::Pem(other.pem.into_bytes());
    assert_eq!(refused(endpoint(port, "localhost", pem)).await, expected);
}

#[tokio::test]
async fn a_leaf_given_as_trust_signs_nothing() {
    // The trusted leaf's key signs another certificate: a leaf is no CA.
    use rcgen::{CertificateParams, Issuer, KeyPair};
    let leaf_key = KeyPair::generate().expect("key");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("name");
    let trusted = leaf.self_signed(&leaf_key).expect("leaf");
    let issuer = Issuer::from_params(&leaf, &leaf_key);
    let key = KeyPair::generate().expect("key");
    let below = CertificateParams::new(vec!["localhost".to_owned()])
        .expect("name")
        .signed_by(&key, &issuer)
        .expect("signed");
    let pair = Pair { pem: below.pem(), der: below.der().to_vec(), key: key.serialize_pem() };
    let port = support::tls(server(&pair, None)).await;
    let trust = ServerTrust::Pem(trusted.pem().into_bytes());
    assert!(matches!(
        refused(endpoint(port, "localhost", trust)).await,
        TlsFailure::PinMismatch { .. }
    ));
}

#[tokio::test]
async fn the_key_must_belong_to_the_pinned_certificate() {
    // A server that shows the right certificate without having its key.
    use rustls::server::{ClientHello, ResolvesServerCert};
    use rustls::sign::CertifiedKey;
    use std::sync::Arc;
    #[derive(Debug)]
    struct Stolen(Arc<CertifiedKey>);
    impl ResolvesServerCert for Stolen {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }
    use rustls::pki_types::pem::PemObject;
    let pair = self_signed("localhost", false);
    let other = self_signed("localhost", false);
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(other.key.as_bytes()).expect("key");
    let key = rustls::crypto::ring::sign::any_supported_type(&key).expect("key");
    let shown = CertifiedKey::new(vec![pair.der.clone().into()], key);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Stolen(Arc::new(shown))));
    let port = support::tls(config).await;
    let pin = ServerTrust::Pinned(cert::sha256(&pair.der));
    let failure = refused(endpoint(port, "localhost", pin)).await;
    assert!(matches!(failure, TlsFailure::BadCertificate(_)), "{failure:?}");
    assert!(cert::fetch_server_certificate("localhost", port).await.is_err());
}

#[tokio::test]
async fn a_ca_vouches_for_name_and_dates() {
    let ca = ca();
    let trust = ServerTrust::Pem(ca.pem().into_bytes());
    let good = support::tls(server(&signed(&ca, "localhost", false), None)).await;
    ask(endpoint(good, "localhost", trust.clone())).await.expect("signed by the CA");
    assert_eq!(
        refused(endpoint(good, "127.0.0.1", trust.clone())).await,
        TlsFailure::WrongName { host: "127.0.0.1".to_owned() }
    );
    let old = support::tls(server(&signed(&ca, "localhost", true), None)).await;
    assert_eq!(refused(endpoint(old, "localhost", trust.clone())).await, TlsFailure::Expired);
    let alien = support::tls(server(&self_signed("localhost", false), None)).await;
    assert_eq!(refused(endpoint(alien, "localhost", trust)).await, TlsFailure::Untrusted);
}

#[tokio::test]
async fn the_system_bundle_does_not_know_a_private_ca() {
    if !std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
        let _ = writeln!(std::io::stderr(), "not run: this host has no CA bundle");
        return;
    }
    let port = support::tls(server(&self_signed("localhost", false), None)).await;
    assert_eq!(
        refused(endpoint(port, "localhost", ServerTrust::System)).await,
        TlsFailure::Untrusted
    );
}

#[tokio::test]
async fn client_certificates() {
    let ca = ca();
    let pair = self_signed("localhost", false);
    let port = support::tls(server(&pair, Some(&ca))).await;
    let mut to = endpoint(port, "localhost", ServerTrust::Pinned(cert::sha256(&pair.der)));
    assert_eq!(refused(to.clone()).await, TlsFailure::ClientCertificateRequired);

    to.identity = Some(identity(&self_signed("stranger", false)));
    let failure = refused(to.clone()).await;
    assert!(matches!(failure, TlsFailure::ClientCertificateRefused(_)), "{failure:?}");

    let known = signed(&ca, "client", false);
    to.identity = Some(identity(&known));
    ask(to.clone()).await.expect("a known client");
    assert!(!format!("{to:?}").contains(&known.key[40..60]), "Debug shows the key");

    let key = known.key.replace("PRIVATE", "PUBLIC");
    to.identity.as_mut().expect("identity").key_pem = key.clone().into_bytes();
    let failure = refused(to).await;
    assert!(!failure.to_string().contains(&key[40..60]), "the error shows the key");
    assert_eq!(failure.to_string(), "client key: not a private key in PEM");
}

#[tokio::test]
async fn a_certificate_can_be_looked_at_first() {
    let pair = self_signed("elsewhere.example", true);
    let port = support::tls(server(&pair, None)).await;
    let seen = cert::fetch_server_certificate("127.0.0.1", port).await.expect("fetched");
    assert_eq!(seen, pair.der);
    let print = cert::fingerprint(&seen);
    assert_eq!(cert::parse_fingerprint(&print), Some(cert::sha256(&pair.der)));
    let colons: Vec<String> =
        print.as_bytes().chunks(2).map(|c| String::from_utf8_lossy(c).to_uppercase()).collect();
    assert_eq!(cert::parse_fingerprint(&colons.join(":")), Some(cert::sha256(&pair.der)));
    assert_eq!(cert::parse_fingerprint("abcd"), None);
    assert_eq!(cert::parse_fingerprint(&"g".repeat(64)), None);
}

#[test]
fn who_is_a_ca() {
    let ca = ca();
    assert!(cert::is_ca(ca.der()));
    assert!(!cert::is_ca(&signed(&ca, "localhost", false).der));
    // Cut off anywhere, it is no CA and no panic.
    for end in 0..ca.der().len() {
        assert!(!cert::is_ca(&ca.der()[..end]));
    }
    assert_eq!(cert::parse_pem(b"nothing"), Err(cert::PemError::Empty));
    let both = format!("{}{}", ca.pem(), self_signed("a", false).pem);
    assert_eq!(cert::parse_pem(both.as_bytes()).map(|c| c.len()), Ok(2));
}

#[tokio::test]
async fn what_does_not_listen_or_speak_tls() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let trust = ServerTrust::Pinned([0; 32]);
    let talk = async {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = listener.accept().await.expect("accept");
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        stream
    };
    let (failure, _stream) =
        tokio::join!(refused(endpoint(port, "127.0.0.1", trust.clone())), talk);
    assert_eq!(failure.to_string(), "the server does not speak tls");
    drop(listener);
    let error = ask(endpoint(port, "127.0.0.1", trust.clone())).await.expect_err("nobody there");
    assert_eq!(error.to_string(), format!("https://127.0.0.1:{port} refused the connection"));
    let error = ask(endpoint(port, "no-such-host.invalid", trust)).await.expect_err("no such host");
    assert!(matches!(error, Error::Resolve { .. }), "{error:?}");
    assert!(error.to_string().starts_with("cannot resolve no-such-host.invalid: "), "{error}");
}
