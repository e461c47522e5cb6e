//! The authority of each cluster for the certificates of its clients. What one cluster's authority signed opens no other
//! cluster, and what the cloud's own signed, whose business is servers, opens none. The listener takes any certificate
//! whose key the client holds, since it does not know yet which cluster is asked for; here it counts or does not.
//!
//! Refused: one authority with the cluster's name in the certificate. Every place that checks would have to look at it.

use std::sync::Arc;

use model::{Authority, Change, Cluster, Fault};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use x509_parser::x509::AttributeTypeAndValue;

use crate::Gate;

/// Whom a certificate names.
pub(crate) struct Named {
    pub common_name: String,
    pub organizations: Vec<String>,
}

/// An authority for a new cluster.
pub fn new_authority(cluster_id: &str) -> Result<Authority, Fault> {
    let failed = |e: rcgen::Error| Fault::Internal(format!("making the authority of a cluster: {e}"));
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("cluster {cluster_id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Authority { certificate: certificate.pem(), key: key.serialize_pem() })
}

impl Gate {
    /// Gives an authority to each cluster that has none, as those of an older cloud.
    pub async fn ensure_authorities(&self) -> Result<(), Fault> {
        self.store
            .transact(|snapshot| {
                let mut change = Change::new();
                for cluster in snapshot.all::<Cluster>().filter(|cluster| cluster.authority.is_none()) {
                    let authority = new_authority(&cluster.id)?;
                    change.edit(cluster, |cluster| cluster.authority = Some(authority.clone()));
                }
                Ok((change, ()))
            })
            .await
    }
}

/// Whom a certificate names, if the cluster's authority signed it for clients and it is in force.
pub(crate) fn named(cluster: &Cluster, certificate: &[u8]) -> Option<Named> {
    let authority = CertificateDer::from_pem_slice(cluster.authority.as_ref()?.certificate.as_bytes()).ok()?;
    let mut roots = RootCertStore::empty();
    roots.add(authority).ok()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
    verifier.verify_client_cert(&CertificateDer::from(certificate), &[], UnixTime::now()).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let text = |attribute: &AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
    Some(Named {
        common_name: parsed.subject().iter_common_name().next().and_then(text)?,
        organizations: parsed.subject().iter_organization().filter_map(text).collect(),
    })
}
