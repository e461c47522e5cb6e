//! Requests that were signed by an EC2 credential: whoever received one asks here whose it is. The signature is computed
//! again over what they tell of the request, by Amazon's version 2 or 4. The versions before are refused: they leave
//! parts of the request unsigned.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::{Credential, Entry, Index, Snapshot, Time};
use sha2::{Digest, Sha256};

/// How far a request's moment may be from now, as in Keystone.
const WINDOW: SignedDuration = SignedDuration::from_mins(15);

const V4: &str = "AWS4-HMAC-SHA256";

/// What is told of a signed request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// The access key.
    pub access: String,
    /// Base64 in version 2, hexadecimal in version 4.
    pub signature: String,
    pub host: String,
    /// The HTTP method.
    pub verb: String,
    pub path: String,
    /// Of the query or of the form, decoded.
    pub params: BTreeMap<String, String>,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// SHA-256 of the body in hexadecimal; version 4 signs it.
    pub body_hash: String,
}

/// The id of a new credential with this access key.
pub fn id_of(access: &str) -> String {
    hex(&Sha256::digest(access.as_bytes()))
}

/// The credential with this access key.
pub fn by_access<'a>(snapshot: &'a Snapshot, access: &str) -> Option<Entry<'a, Credential>> {
    snapshot.find::<Credential>(Index::Name, access).next()
}

/// The credential that signed a request, if one did, and not long ago.
pub(crate) fn credential<'a>(snapshot: &'a Snapshot, signed: &Signed, now: Time) -> Option<&'a Credential> {
    let credential = by_access(snapshot, &signed.access)?.value;
    let (_, secret) = credential.keys()?;
    signed.is_by(&secret, now).then_some(credential)
}

impl Signed {
    /// Whether the signature was made with the secret, at about this moment.
    fn is_by(&self, secret: &str, now: Time) -> bool {
        let is_recent = self.moment().is_some_and(|at| now.duration_since(at).abs() <= WINDOW);
        is_recent && if self.is_v4() { self.is_by_v4(secret) } else { self.is_by_v2(secret) }
    }

    fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn is_v4(&self) -> bool {
        self.param("X-Amz-Algorithm") == V4 || self.header("authorization").starts_with(V4)
    }

    fn v4_date(&self) -> &str {
        Some(self.param("X-Amz-Date")).filter(|date| !date.is_empty()).unwrap_or_else(|| self.header("x-amz-date"))
    }

    /// When the request says that it was made.
    fn moment(&self) -> Option<Time> {
        if self.is_v4() {
            let plain = DateTime::strptime("%Y%m%dT%H%M%SZ", self.v4_date()).ok()?;
            return plain.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
        }
        let text = self.param("Timestamp");
        let plain = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
        text.parse().ok().or_else(plain)
    }

    fn is_by_v2(&self, secret: &str) -> bool {
        let is_known = self.param("SignatureVersion") == "2" && self.param("SignatureMethod") == "HmacSHA256";
        let Some(signature) = STANDARD.decode(&self.signature).ok().filter(|_| is_known) else { return false };
        let query = query(self.params.iter().filter(|(name, _)| *name != "Signature"));
        let by_host = |host: &str| {
            let text = format!("{}\n{host}\n{}\n{query}", self.verb, self.path);
            mac(secret.as_bytes(), &text).verify_slice(&signature).is_ok()
        };
        // Some clients sign the host without its port.
        by_host(&self.host) || self.host.rsplit_once(':').is_some_and(|(host, _)| by_host(host))
    }

    /// A part of the credential: in the query, or in the header `Authorization`.
    fn v4_part(&self, name: &str) -> &str {
        let of_query = self.param(&format!("X-Amz-{name}"));
        if !of_query.is_empty() {
            return of_query;
        }
        let parts = self.header("authorization").strip_prefix(V4).unwrap_or_default().split(',');
        let mut values = parts.filter_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        values.next().unwrap_or_default()
    }

    fn is_by_v4(&self, secret: &str) -> bool {
        let signature = unhex(&self.signature);
        let (credential, names) = (self.v4_part("Credential"), self.v4_part("SignedHeaders"));
        let parts: Vec<&str> = credential.split('/').collect();
        let (Some(signature), [access, date, region, service, "aws4_request"]) = (signature, parts.as_slice()) else {
            return false;
        };
        // What is not signed could be changed: the host always is.
        let names: Vec<&str> = names.split(';').collect();
        let is_whole = *access == self.access && self.v4_date().starts_with(date) && names.contains(&"host");
        let headers = names.iter().map(|name| Some(format!("{name}:{}\n", self.headers.get(*name)?.trim())));
        let Some(headers) = headers.collect::<Option<String>>().filter(|_| is_whole) else { return false };
        let query = match self.verb.eq_ignore_ascii_case("POST") {
            true => String::new(),
            false => query(self.params.iter().filter(|(name, _)| *name != "X-Amz-Signature")),
        };
        let verb = self.verb.to_uppercase();
        let request = format!("{verb}\n{}\n{query}\n{headers}\n{}\n{}", self.path, names.join(";"), self.body_hash);
        let scope = format!("{date}/{region}/{service}/aws4_request");
        let text = format!("{V4}\n{}\n{scope}\n{}", self.v4_date(), hex(&Sha256::digest(request.as_bytes())));
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in [date, region, service, "aws4_request"] {
            key = mac(&key, part).finalize().into_bytes().to_vec();
        }
        mac(&key, &text).verify_slice(&signature).is_ok()
    }
}

/// Parameters in the order of their names, as they are signed.
fn query<'a>(params: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    params.map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect::<Vec<_>>().join("&")
}

fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    // HMAC takes keys of any length, so this cannot fail.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()));
    mac.update(text.as_bytes());
    mac
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.bytes().map(|b| char::from(b).to_digit(16)).collect::<Option<Vec<u32>>>()?;
    let bytes = digits.chunks(2).map(|pair| Some((pair[0] * 16 + pair.get(1)?) as u8));
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// The example `GET iam ListUsers` of Amazon's documentation of version 4.
    fn v4() -> Signed {
        let signature = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        let authorization = format!(
            "{V4} Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, Signature={signature}"
        );
        Signed {
            access: "AKIDEXAMPLE".into(),
            signature: signature.into(),
            host: "iam.amazonaws.com".into(),
            verb: "GET".into(),
            path: "/".into(),
            params: texts(&[("Action", "ListUsers"), ("Version", "2010-05-08")]),
            headers: texts(&[
                ("authorization", &authorization),
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("host", "iam.amazonaws.com"),
                ("x-amz-date", "20150830T123600Z"),
            ]),
            body_hash: hex(&Sha256::digest(b"")),
        }
    }

    /// The example of Amazon's documentation of version 2.
    fn v2() -> Signed {
        Signed {
            access: "AKIAIOSFODNN7EXAMPLE".into(),
            signature: "i91nKc4PWAt0JJIdXwz9HxZCJDdiy6cf/Mj6vPxyYIs=".into(),
            host: "elasticmapreduce.amazonaws.com:443".into(),
            verb: "GET".into(),
            path: "/".into(),
            params: texts(&[
                ("AWSAccessKeyId", "AKIAIOSFODNN7EXAMPLE"),
                ("Action", "DescribeJobFlows"),
                ("SignatureMethod", "HmacSHA256"),
                ("SignatureVersion", "2"),
                ("Timestamp", "2011-10-03T15:19:30"),
                ("Version", "2009-03-31"),
            ]),
            ..Signed::default()
        }
    }

    const V4_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const V2_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    #[test]
    fn amazons_examples() {
        let (at4, at2) = ("2015-08-30T12:40:00Z".parse().unwrap(), "2011-10-03T15:10:00Z".parse().unwrap());
        assert!(v4().is_by(V4_SECRET, at4));
        assert!(v2().is_by(V2_SECRET, at2));
        assert!(!v4().is_by(V2_SECRET, at4) && !v2().is_by(V4_SECRET, at2));
        assert!(!v4().is_by(V4_SECRET, at2) && !v2().is_by(V2_SECRET, at4), "long ago");
    }

    #[test]
    fn whatever_is_changed_is_signed() {
        let (at4, at2) = ("2015-08-30T12:40:00Z".parse().unwrap(), "2011-10-03T15:10:00Z".parse().unwrap());
        let changes: [fn(&mut Signed); 5] = [
            |s| s.verb = "DELETE".into(),
            |s| s.path = "/x".into(),
            |s| s.signature = "00".into(),
            |s| s.params.insert("Action".into(), "DeleteUser".into()).map_or((), drop),
            |s| s.params.insert("more".into(), "x".into()).map_or((), drop),
        ];
        for (at, change) in changes.iter().enumerate() {
            let (mut four, mut two) = (v4(), v2());
            change(&mut four);
            change(&mut two);
            assert!(!four.is_by(V4_SECRET, at4) && !two.is_by(V2_SECRET, at2), "{at}");
        }
        let mut four = v4();
        four.headers.insert("host".into(), "elsewhere".into());
        assert!(!four.is_by(V4_SECRET, at4));
        four = v4();
        four.body_hash = hex(&Sha256::digest(b"other"));
        assert!(!four.is_by(V4_SECRET, at4));
        let mut two = v2();
        two.params.insert("SignatureVersion".into(), "1".into());
        assert!(!two.is_by(V2_SECRET, at2));
    }
}
