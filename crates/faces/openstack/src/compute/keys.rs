//! Keys: checking a public one, making a pair. New SSH keys are Ed25519 only, written by hand in OpenSSH's format (forty
//! lines) because the crates that write it bring a second set of ciphers. X.509 pairs, for Windows, are a certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use model::Fault;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, OtherNameValue, SanType};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha1::Sha1;

/// A new pair.
pub struct Pair {
    /// In OpenSSH's own format.
    pub private_key: String,
    pub public_key: String,
}

const KINDS: &[&str] = &[
    "ssh-ed25519",
    "ssh-rsa",
    "ssh-dss",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// The fingerprint of a public key in OpenSSH's one-line format, if it is one: the MD5 of its bytes.
pub fn fingerprint(public_key: &str) -> Option<String> {
    let mut parts = public_key.split_whitespace();
    let (kind, data) = (parts.next()?, parts.next()?);
    let bytes = STANDARD.decode(data).ok()?;
    // The bytes name their kind themselves: a length, then the name.
    let length = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    if !KINDS.contains(&kind)
        || bytes.get(4..4usize.checked_add(length)?)? != kind.as_bytes()
        || bytes.len() <= 4 + length
    {
        return None;
    }
    Some(colons(&Md5::digest(&bytes)))
}

fn colons(sum: &[u8]) -> String {
    sum.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// The fingerprint of a certificate in PEM, if it is one: the SHA-1 of its bytes.
pub fn certificate_fingerprint(pem: &str) -> Option<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    pem.parse_x509().ok()?;
    Some(colons(&Sha1::digest(&pem.contents)))
}

/// Makes a certificate by which a user can log in to Windows, signed by itself.
pub fn generate_certificate(user: &str) -> Result<Pair, Fault> {
    /// Microsoft's universal principal name.
    const PRINCIPAL_NAME: [u64; 10] = [1, 3, 6, 1, 4, 1, 311, 20, 2, 3];
    let wrong = |e: rcgen::Error| Fault::Internal(e.to_string());
    let key = rcgen::KeyPair::generate().map_err(wrong)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, user);
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    let name = OtherNameValue::Utf8String(format!("{user}@localhost"));
    params.subject_alt_names.push(SanType::OtherName((PRINCIPAL_NAME.to_vec(), name)));
    let certificate = params.self_signed(&key).map_err(wrong)?;
    Ok(Pair { private_key: key.serialize_pem(), public_key: certificate.pem() })
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

/// Makes an Ed25519 pair.
pub fn generate() -> Result<Pair, Fault> {
    let broken = |_| Fault::Internal("the system gives no random numbers".into());
    let random = SystemRandom::new();
    let (mut seed, mut check) = ([0u8; 32], [0u8; 4]);
    random.fill(&mut seed).map_err(broken)?;
    random.fill(&mut check).map_err(broken)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|e| Fault::Internal(e.to_string()))?;
    let public = pair.public_key().as_ref();

    let mut blob = Vec::new();
    put(&mut blob, b"ssh-ed25519");
    put(&mut blob, public);

    let mut secret = Vec::new();
    secret.extend(check);
    secret.extend(check);
    put(&mut secret, b"ssh-ed25519");
    put(&mut secret, public);
    put(&mut secret, &[&seed[..], public].concat());
    put(&mut secret, b"");
    let padding = (8 - secret.len() % 8) % 8;
    secret.extend((1..=padding as u8).collect::<Vec<_>>());

    let mut file = b"openssh-key-v1\0".to_vec();
    for part in [&b"none"[..], b"none", b""] {
        put(&mut file, part);
    }
    file.extend(1u32.to_be_bytes());
    put(&mut file, &blob);
    put(&mut file, &secret);

    let text = STANDARD.encode(&file);
    let lines: Vec<&str> = text.as_bytes().chunks(70).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    Ok(Pair {
        private_key: format!(
            "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n",
            lines.join("\n")
        ),
        public_key: format!("ssh-ed25519 {}", STANDARD.encode(&blob)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_a_key() {
        let pair = generate().unwrap();
        let print = fingerprint(&pair.public_key).unwrap();
        assert_eq!(print.split(':').count(), 16);
        assert!(pair.private_key.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA"));
        assert_eq!(fingerprint(&format!("{} ann@home", pair.public_key)), Some(print));
    }

    #[test]
    fn certificates() {
        let pair = generate_certificate("ann").unwrap();
        assert_eq!(certificate_fingerprint(&pair.public_key).map(|f| f.split(':').count()), Some(20));
        assert!(pair.private_key.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_eq!(certificate_fingerprint("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), None);
    }

    #[test]
    fn a_known_fingerprint() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert_eq!(fingerprint(key).map(|f| f.len()), Some(47));
    }

    #[test]
    fn strangers_are_refused() {
        for text in
            ["", "ssh-rsa", "ssh-rsa !!!!", "ssh-rsa AAAA", "ssh-foo AAAAB3NzaC1yc2E=", "ssh-dss AAAAB3NzaC1yc2EAAAAA"]
        {
            assert_eq!(fingerprint(text), None, "{text}");
        }
    }
}
