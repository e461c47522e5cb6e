//! What a token says, in as few bytes as it takes: a token travels in a header with every request, and clients' columns
//! for it are 255 characters wide. Roles are not in it: they are always read from the rows, so that taking one away
//! takes effect at once.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::Time;

/// For what a token is valid, by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scoped {
    Nothing,
    Project(String),
    Domain(String),
    System,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    pub user_id: String,
    pub methods: Vec<String>,
    pub scope: Scoped,
    pub app_credential_id: Option<String>,
    /// The trust by which the user acts; never beside an application credential.
    pub trust_id: Option<String>,
    pub issued_at: Time,
    pub expires_at: Time,
    /// The token's own, then that of the first of its chain.
    pub audit_ids: Vec<String>,
}

const FORMAT: u8 = 1;
const METHODS: [&str; 4] = ["password", "token", "application_credential", "ec2credential"];
/// Bytes of an audit id; 22 characters of base64.
const AUDIT: usize = 16;

impl Payload {
    /// The bytes of the payload. Ids are at most 255 bytes long.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.push(
            METHODS
                .iter()
                .enumerate()
                .fold(0, |bits, (i, name)| bits | (u8::from(self.methods.iter().any(|m| m == name)) << i)),
        );
        out.extend(self.issued_at.as_microsecond().to_be_bytes());
        out.extend(self.expires_at.as_microsecond().to_be_bytes());
        put_id(&mut out, &self.user_id);
        match &self.scope {
            Scoped::Nothing => out.push(0),
            Scoped::Project(id) => {
                out.push(1);
                put_id(&mut out, id);
            }
            Scoped::Domain(id) => {
                out.push(2);
                put_id(&mut out, id);
            }
            Scoped::System => out.push(3),
        }
        match (&self.app_credential_id, &self.trust_id) {
            (None, None) => out.push(0),
            (Some(id), _) => {
                out.push(1);
                put_id(&mut out, id);
            }
            (None, Some(id)) => {
                out.push(2);
                put_id(&mut out, id);
            }
        }
        for id in &self.audit_ids {
            out.extend(URL_SAFE_NO_PAD.decode(id).unwrap_or_default());
        }
        out
    }

    /// The payload of bytes that a key of this cloud signed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if take::<1>(&mut rest)? != [FORMAT] {
            return None;
        }
        let [bits] = take::<1>(&mut rest)?;
        let methods = METHODS.iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0).map(|(_, m)| (*m).to_owned());
        let issued_at = Time::from_microsecond(i64::from_be_bytes(take(&mut rest)?)).ok()?;
        let expires_at = Time::from_microsecond(i64::from_be_bytes(take(&mut rest)?)).ok()?;
        let user_id = take_id(&mut rest)?;
        let scope = match take::<1>(&mut rest)? {
            [0] => Scoped::Nothing,
            [1] => Scoped::Project(take_id(&mut rest)?),
            [2] => Scoped::Domain(take_id(&mut rest)?),
            [3] => Scoped::System,
            _ => return None,
        };
        let (app_credential_id, trust_id) = match take::<1>(&mut rest)? {
            [0] => (None, None),
            [1] => (Some(take_id(&mut rest)?), None),
            [2] => (None, Some(take_id(&mut rest)?)),
            _ => return None,
        };
        let audit_ids = rest.chunks(AUDIT).map(|id| URL_SAFE_NO_PAD.encode(id)).collect();
        let methods = methods.collect();
        Some(Self { user_id, methods, scope, app_credential_id, trust_id, issued_at, expires_at, audit_ids })
    }
}

/// An id of 32 hexadecimal digits takes 17 bytes (a zero first), every other one its length and itself.
fn put_id(out: &mut Vec<u8>, id: &str) {
    match uuid::Uuid::try_parse(id) {
        Ok(uuid) if uuid.simple().to_string() == id => {
            out.push(0);
            out.extend(uuid.into_bytes());
        }
        _ => {
            let bytes = &id.as_bytes()[..id.len().min(255)];
            out.push(bytes.len() as u8);
            out.extend(bytes);
        }
    }
}

fn take_id(rest: &mut &[u8]) -> Option<String> {
    match take::<1>(rest)? {
        [0] => Some(uuid::Uuid::from_bytes(take(rest)?).simple().to_string()),
        [length] => {
            let (id, tail) = rest.split_at_checked(length.into())?;
            *rest = tail;
            String::from_utf8(id.to_vec()).ok()
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fernet;

    fn payload() -> Payload {
        Payload {
            user_id: "c1f9316788024a7fab9445c93aa72fab".into(),
            methods: vec!["password".into(), "token".into()],
            scope: Scoped::Project("444e54a9ed0249f8a6735dc9325722d0".into()),
            app_credential_id: Some("9508b3ee6c9d45c7976f6e8543effc86".into()),
            trust_id: None,
            issued_at: Time::from_microsecond(1_790_000_000_123_456).unwrap(),
            expires_at: Time::from_microsecond(1_790_086_400_000_000).unwrap(),
            audit_ids: vec![fernet::random_text::<AUDIT>(), fernet::random_text::<AUDIT>()],
        }
    }

    #[test]
    fn bytes_and_back() {
        let scopes = [Scoped::Nothing, Scoped::Domain("default".into()), Scoped::System, payload().scope];
        for (scope, app_credential_id) in scopes.into_iter().zip([None, Some("named".to_owned())].into_iter().cycle()) {
            let trust_id = app_credential_id.is_none().then(|| "4c7976f6e8543effc869508b3ee6c9d4".to_owned());
            let payload = Payload { scope, app_credential_id, trust_id, ..payload() };
            assert_eq!(Payload::decode(&payload.encode()), Some(payload));
        }
        let bytes = payload().encode();
        for n in 0..50 {
            assert_eq!(Payload::decode(&bytes[..n]), None, "{n}");
        }
    }

    #[test]
    fn the_longest_token_fits_into_255_characters() {
        let key = fernet::Key::parse(&fernet::Key::generate()).unwrap();
        let token = key.seal(1, &payload().encode());
        assert!(token.len() < 255, "{}", token.len());
    }
}
