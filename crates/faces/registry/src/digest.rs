//! Digests, by which clients call bytes: SHA-256 or SHA-512, the two that the specification has registered. The store's files
//! are named by SHA-256 alone, whatever a client calls them; a [`model::OciBlob`] says which file is meant.
//!
//! Refused: taking bytes by one algorithm and answering with a digest by another. The specification allows it, but the next
//! request of the client asks for what it sent.

use crate::refusal::{Refusal, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    /// The algorithm of a name that a client gives.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(Refusal::bad("DIGEST_INVALID", format!("digests are by sha256 or sha512 here, not by {name:?}"))),
        }
    }

    /// The digest of bytes.
    pub fn of(self, bytes: &[u8]) -> String {
        match self {
            Self::Sha256 => format!("sha256:{}", blob::sha256(bytes)),
            Self::Sha512 => format!("sha512:{}", blob::sha512(bytes)),
        }
    }

    /// The digest of what was written.
    pub fn written(self, writer: &blob::Writer) -> String {
        match self {
            Self::Sha256 => format!("sha256:{}", writer.sha256()),
            Self::Sha512 => format!("sha512:{}", writer.sha512()),
        }
    }

    /// How many characters the encoded part has.
    fn length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// The algorithm of a digest that the registry can have.
pub fn algorithm(digest: &str) -> Result<Algorithm> {
    let none = || Refusal::bad("DIGEST_INVALID", format!("{digest:?} is not a digest"));
    let (name, encoded) = digest.split_once(':').ok_or_else(none)?;
    let algorithm = Algorithm::named(name)?;
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if encoded.len() == algorithm.length() && encoded.bytes().all(hex) { Ok(algorithm) } else { Err(none()) }
}

/// Refuses what is no digest by the specification's grammar. One by an algorithm that the registry does not know is a digest
/// all the same: of what lies elsewhere.
pub fn well_formed(digest: &str) -> bool {
    let Some((name, encoded)) = digest.split_once(':') else { return false };
    match name {
        "sha256" | "sha512" => algorithm(digest).is_ok(),
        _ => {
            let of_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+._-".contains(&b);
            let of_encoded = |b: u8| b.is_ascii_alphanumeric() || b"=_-".contains(&b);
            let fits = |text: &str, most: usize| !text.is_empty() && text.len() <= most;
            fits(name, 32) && name.bytes().all(of_name) && fits(encoded, 256) && encoded.bytes().all(of_encoded)
        }
    }
}

/// The hex part of a digest by SHA-256, which names a file.
pub fn sha256_of(digest: &str) -> Option<&str> {
    algorithm(digest).ok().filter(|algorithm| *algorithm == Algorithm::Sha256)?;
    digest.split_once(':').map(|(_, hex)| hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests() {
        let (short, long) = ("a".repeat(64), "b".repeat(128));
        assert_eq!(algorithm(&format!("sha256:{short}")).unwrap(), Algorithm::Sha256);
        assert_eq!(algorithm(&format!("sha512:{long}")).unwrap(), Algorithm::Sha512);
        for bad in [
            String::new(),
            short.clone(),
            format!("sha256:{long}"),
            format!("sha512:{short}"),
            format!("sha256:{}", short.to_uppercase()),
            format!("SHA256:{short}"),
            format!("md5:{}", "a".repeat(32)),
            "sha256:../../etc/passwd".to_owned(),
        ] {
            let refusal = algorithm(&bad).unwrap_err();
            assert_eq!((refusal.status.as_u16(), refusal.code), (400, "DIGEST_INVALID"), "{bad}");
        }
        assert_eq!(sha256_of(&format!("sha256:{short}")), Some(short.as_str()));
        assert_eq!(sha256_of(&format!("sha512:{long}")), None);
        assert!(well_formed("blake3+base64:abc=_-"));
        for bad in ["", "sha256:1", "x:", ":x", "x:a/b", "X:a"] {
            assert!(!well_formed(bad), "{bad}");
        }
        assert!(!well_formed(&format!("x:{}", "a".repeat(257))));
    }
}
