//! Fernet: AES-128-CBC under HMAC-SHA-256, as its specification has it, so that tokens look and measure like Keystone's.
//! Written here because it is forty lines over kept primitives; the existing crate comes under another licence.

use aes::Aes128;
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const VERSION: u8 = 0x80;
const HEADER: usize = 1 + 8 + 16;
const MAC: usize = 32;

/// Written without padding, as Keystone does; read with or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key: half of it signs, half of it encrypts.
#[derive(Clone)]
pub struct Key {
    signing: [u8; 16],
    encryption: [u8; 16],
}

impl Key {
    /// A key from its 32 bytes in URL-safe base64.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text).ok()?;
        let (signing, encryption) = bytes.split_at_checked(16)?;
        Some(Self { signing: signing.try_into().ok()?, encryption: encryption.try_into().ok()? })
    }

    /// A new random key, as text.
    pub fn generate() -> String {
        BASE64.encode(random::<32>())
    }

    /// Encrypts and signs. `seconds` since 1970 stands readable in the token.
    pub fn seal(&self, seconds: u64, message: &[u8]) -> String {
        let iv = random::<16>();
        let mut bytes = Vec::with_capacity(HEADER + message.len() + 16 + MAC);
        bytes.push(VERSION);
        bytes.extend(seconds.to_be_bytes());
        bytes.extend(iv);
        let cipher = cbc::Encryptor::<Aes128>::new(&self.encryption.into(), &iv.into());
        bytes.extend(cipher.encrypt_padded_vec::<Pkcs7>(message));
        let mac = self.mac(&bytes).finalize().into_bytes();
        bytes.extend(mac);
        BASE64.encode(bytes)
    }

    fn mac(&self, bytes: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length, so this cannot fail; an empty key would only make every token invalid.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.signing).unwrap_or_else(|_| Hmac::new(&Default::default()));
        mac.update(bytes);
        mac
    }

    /// The message of a token that this key made.
    fn open(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (signed, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC)?)?;
        self.mac(signed).verify_slice(mac).ok()?;
        let (header, text) = signed.split_at_checked(HEADER)?;
        if header[0] != VERSION {
            return None;
        }
        let iv: [u8; 16] = header[9..].try_into().ok()?;
        cbc::Decryptor::<Aes128>::new(&self.encryption.into(), &iv.into()).decrypt_padded_vec::<Pkcs7>(text).ok()
    }
}

/// The message of a token that any of the keys made.
pub fn open(keys: &[Key], token: &str) -> Option<Vec<u8>> {
    let bytes = BASE64.decode(token).ok()?;
    keys.iter().find_map(|key| key.open(&bytes))
}

/// Bytes from the system's random source.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's random source never fails once it is up");
    bytes
}

/// Random text of N bytes for secrets and audit ids: URL-safe base64.
pub fn random_text<const N: usize>() -> String {
    BASE64.encode(random::<N>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the `generate.json` and `verify.json` of the Fernet specification.
    const SPEC_KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    const SPEC_TOKEN: &str =
        "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

    #[test]
    fn opens_the_token_of_the_specification() {
        let key = Key::parse(SPEC_KEY).unwrap();
        assert_eq!(open(&[key], SPEC_TOKEN).as_deref(), Some(b"hello".as_slice()));
    }

    #[test]
    fn old_keys_still_open_and_strangers_do_not() {
        let [old, new, stranger] = std::array::from_fn(|_| Key::parse(&Key::generate()).unwrap());
        let token = old.seal(1, b"text");
        assert!(open(&[new.clone(), old], &token).is_some());
        assert!(open(&[new, stranger], &token).is_none());
    }

    #[test]
    fn any_change_voids_a_token() {
        let key = Key::parse(&Key::generate()).unwrap();
        let token = key.seal(1, b"text");
        for i in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            if changed != token {
                // The last character carries unused bits, which a strict decoder refuses as well.
                assert!(open(std::slice::from_ref(&key), &changed).is_none(), "{i}");
            }
        }
        assert!(open(std::slice::from_ref(&key), "").is_none());
        assert!(open(&[key], "gAAAAA").is_none());
    }
}
