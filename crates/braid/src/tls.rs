//! The cloud's own certificate authority and the certificate of its one HTTPS port. The authority is made at the first
//! start and kept in the store, for all processes of the cloud; the folder has a copy. The server's certificate is made
//! anew when the authority or the names change.

use std::net::IpAddr;
use std::sync::Arc;

use model::{Change, Entry, Setting};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use store::Store;

use crate::Problem;
use crate::paths::{Dir, read_text, write_private};

fn failed(what: &str) -> impl FnOnce(rcgen::Error) -> Problem + '_ {
    move |e| Problem::words(format!("{what}: {e}"))
}

/// The settings that hold the authority's certificate, which planners hand on to pods, and its key.
const CA: &str = "certificate-authority";
const CA_KEY: &str = "certificate-authority-key";

/// Brings the cloud's authority into the folder; the first process makes it.
pub async fn share(dir: &Dir, store: &Store) -> Result<(), Problem> {
    if !dir.ca().exists() || !dir.ca_key().exists() {
        make_ca(dir)?;
    }
    let own = [(CA, read_text(&dir.ca())?), (CA_KEY, read_text(&dir.ca_key())?)];
    let cloud = store.transact(|snapshot| {
        let kept = |name: &str| snapshot.get::<Setting>(name);
        if let (Some(ca), Some(key)) = (kept(CA), kept(CA_KEY)) {
            let text = |row: Entry<'_, Setting>| row.value.value.as_str().unwrap_or_default().to_owned();
            return Ok((Change::new(), [(CA, text(ca)), (CA_KEY, text(key))]));
        }
        let mut change = Change::new();
        for (name, pem) in &own {
            let row = Setting { name: (*name).into(), value: pem.as_str().into() };
            match kept(name) {
                Some(old) => _ = change.update(old, row),
                None => _ = change.create(row),
            }
        }
        Ok((change, own.clone()))
    });
    let cloud = cloud.await?;
    if cloud != own {
        let [(_, ca), (_, key)] = cloud;
        let _ = std::fs::remove_file(dir.certificate());
        write_private(&dir.ca_key(), key.as_bytes())?;
        write_private(&dir.ca(), ca.as_bytes())?;
    }
    Ok(())
}

/// Makes the server's certificate if it is missing. `names`: host names and addresses of the server.
pub fn ensure(dir: &Dir, names: &[String]) -> Result<(), Problem> {
    let wanted = names.join("\n");
    let stamp = dir.join("server.names");
    let current = std::fs::read_to_string(&stamp).unwrap_or_default();
    if current != wanted || !dir.certificate().exists() || !dir.key().exists() {
        make_certificate(dir, names)?;
        write_private(&stamp, wanted.as_bytes())?;
    }
    Ok(())
}

fn make_ca(dir: &Dir) -> Result<(), Problem> {
    let key = KeyPair::generate().map_err(failed("making the authority's key"))?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Braid cloud authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key).map_err(failed("making the authority"))?;
    write_private(&dir.ca_key(), key.serialize_pem().as_bytes())?;
    write_private(&dir.ca(), certificate.pem().as_bytes())
}

fn make_certificate(dir: &Dir, names: &[String]) -> Result<(), Problem> {
    let (certificate, key) = signed(dir, "braid", names)?;
    write_private(&dir.key(), key.as_bytes())?;
    write_private(&dir.certificate(), certificate.as_bytes())
}

/// A certificate of the authority for a server of these names, with the authority's own, and its key: both as PEM.
fn signed(dir: &Dir, common_name: &str, names: &[String]) -> Result<(String, String), Problem> {
    let ca_key = KeyPair::from_pem(&read_text(&dir.ca_key())?).map_err(failed("reading the authority's key"))?;
    let issuer = Issuer::from_ca_cert_pem(&read_text(&dir.ca())?, ca_key).map_err(failed("reading the authority"))?;
    let key = KeyPair::generate().map_err(failed("making the server's key"))?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    for name in names {
        let san = match name.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(failed("naming the server"))?),
        };
        params.subject_alt_names.push(san);
    }
    let certificate = params.signed_by(&key, &issuer).map_err(failed("making the server's certificate"))?;
    Ok((format!("{}{}", certificate.pem(), read_text(&dir.ca())?), key.serialize_pem()))
}

/// The server's side of TLS. Clients may show a certificate; whose authority it must be is known when they say which cluster
/// they want.
pub fn server_config(dir: &Dir) -> Result<Arc<rustls::ServerConfig>, Problem> {
    let bad = |e: rustls::pki_types::pem::Error| Problem::words(format!("reading the server's certificate: {e}"));
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(dir.certificate()).map_err(bad)?.collect::<Result<_, _>>().map_err(bad)?;
    let key = PrivateKeyDer::from_pem_file(dir.key()).map_err(bad)?;
    let mut config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(Arc::new(AnyHolder(rustls::crypto::ring::default_provider())))
        .with_single_cert(chain, key)
        .map_err(|e| Problem::words(format!("using the server's certificate: {e}")))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Takes the certificate of whoever holds its key, and looks at nothing else in it.
#[derive(Debug)]
struct AnyHolder(CryptoProvider);

impl ClientCertVerifier for AnyHolder {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The server's side of TLS for the API of one cluster, under the names that pods know it by.
pub fn cluster_config(dir: &Dir, names: &[String]) -> Result<Arc<rustls::ServerConfig>, Problem> {
    let (chain, key) = signed(dir, "kubernetes", names)?;
    let bad = |e: rustls::pki_types::pem::Error| Problem::words(format!("reading a cluster's certificate: {e}"));
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().map_err(bad)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(bad)?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| Problem::words(format!("using a cluster's certificate: {e}")))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A client's side of TLS that trusts the cloud's authority alone.
pub fn client_config(dir: &Dir) -> Result<Arc<rustls::ClientConfig>, Problem> {
    let config = rustls::ClientConfig::builder().with_root_certificates(roots(dir)?).with_no_client_auth();
    Ok(Arc::new(config))
}

fn roots(dir: &Dir) -> Result<rustls::RootCertStore, Problem> {
    let bad = |e: String| Problem::words(format!("reading {}: {e}", dir.ca().display()));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(dir.ca()).map_err(|e| bad(e.to_string()))? {
        let certificate = certificate.map_err(|e| bad(e.to_string()))?;
        roots.add(certificate).map_err(|e| bad(e.to_string()))?;
    }
    Ok(roots)
}

/// Uses ring everywhere: two providers may be linked in, and rustls wants to be told.
pub fn install_provider() {
    // An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
