//! A request that passed the gate, and the reply to it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use gate::{Asked, Principal, View};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use model::{Fault, Snapshot, Time};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Cloud;
use crate::access::Access;
use crate::pages::Page;
use crate::service::Service;

/// The largest JSON body that any endpoint reads. User data is at most 64 KiB; Nova's own limit is 112 KiB.
pub const MAX_JSON: usize = 1 << 20;

/// A request that passed the gate.
pub struct Call {
    pub cloud: Cloud,
    /// Absent for public endpoints only.
    pub principal: Option<Principal>,
    /// Where it comes from.
    pub client: gate::Client,
    /// The token as sent.
    pub token: Option<String>,
    pub params: BTreeMap<String, String>,
    /// In order, decoded; names may repeat.
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    /// The microversion in force; (0, 0) where a service has none.
    pub version: (u16, u16),
    pub request_id: String,
    /// The path and query as sent.
    pub uri: String,
    pub now: Time,
    /// Locked by nobody: the lock only lets handlers keep `&Call` over an await, which a bare body would forbid.
    pub body: Mutex<Body>,
    /// The rows as of the beginning of the request, or as of the moment when its body was there.
    pub snapshot: Snapshot,
    /// What its sender was let in for.
    pub entry: Entry,
}

/// What somebody was let in for: it is looked at again when a body has come.
pub struct Entry {
    pub service: &'static Service,
    pub method: String,
    /// Below the service's prefix.
    pub path: String,
    pub access: Access,
}

impl Call {
    /// Who is asking. Endpoints whose access is not public always have a principal.
    pub fn who(&self) -> Result<&Principal, Fault> {
        self.principal
            .as_ref()
            .ok_or_else(|| Fault::Unauthorized("The request you have made requires authentication.".into()))
    }

    /// The rows that the caller may know of.
    pub fn view(&self) -> Result<View<'_>, Fault> {
        Ok(View::new(&self.snapshot, self.who()?))
    }

    /// A part of the path, by its name in the table.
    pub fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    /// The first value of a query parameter.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All values of a query parameter.
    pub fn queries<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The base URL by which the client reached us: its Host header if there is one.
    pub fn base_url(&self) -> String {
        match self.headers.get(http::header::HOST).and_then(|h| h.to_str().ok()) {
            Some(host) => format!("https://{host}"),
            None => self.cloud.base_url.clone(),
        }
    }

    /// The address of something of the service: `/v2.1/servers`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{}{path}", self.base_url(), self.entry.service.prefix)
    }

    /// A page of a list that is asked for, and the item behind which the next one begins.
    pub fn page<'a>(&'a self, list: &'a str, next: Option<&'a str>) -> Page<'a> {
        Page { list, base: self.base_url(), uri: &self.uri, query: &self.query, next, previous: None }
    }

    /// The body as a stream; the second time it is empty.
    pub fn take_body(&mut self) -> Body {
        std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// The body as JSON, whatever its content type says; an empty body is `Null`.
    pub async fn json(&mut self) -> Result<Value, Fault> {
        let bytes = read(self.take_body(), MAX_JSON).await?;
        self.renew().await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|e| Fault::invalid(format!("The body is not valid JSON: {e}")))
    }

    /// Looks at the rows and at who is asking anew. A body comes as slowly as its sender likes: whoever began to send one and
    /// has lost since what they had (the user, a role, a thing that was shared) has lost it for this request, too.
    pub async fn renew(&mut self) -> Result<(), Fault> {
        let snapshot = self.cloud.store.snapshot();
        if snapshot.revision() == self.snapshot.revision() {
            return Ok(());
        }
        if let (Some(_), Some(token)) = (&self.principal, &self.token) {
            let Entry { service, method, path, access } = &self.entry;
            let asked = Asked { service: service.name, method, path };
            let principal = self.cloud.gate.token(token, &asked).await?;
            access.check(&principal)?;
            self.principal = Some(principal);
        }
        self.snapshot = snapshot;
        (self.entry.service.reach)(self)
    }

    /// The body as a type; unknown and missing fields are as the type's serde attributes say.
    pub async fn read<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        let value = self.json().await?;
        serde_json::from_value(value).map_err(|e| Fault::invalid(format!("Invalid request body: {e}")))
    }
}

/// All bytes of a body that must not be longer than `limit`.
pub async fn read(mut body: Body, limit: usize) -> Result<Bytes, Fault> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Fault::invalid(format!("The body could not be read: {e}")))?;
        if let Some(data) = frame.data_ref() {
            if all.len() + data.len() > limit {
                return Err(Fault::TooLarge(format!("The body is larger than {limit} bytes.")));
            }
            all.extend_from_slice(data);
        }
    }
    Ok(all.freeze())
}

/// The reply to a call.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body,
}

impl Reply {
    /// A body of JSON. What has no form as JSON (a map with other keys than strings) is a bug, answered by no body.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        let mut reply = Self::empty(status);
        reply.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        reply.body = Body::from(serde_json::to_vec(value).unwrap_or_default());
        reply
    }

    pub fn ok(value: impl Serialize) -> Self {
        Self::json(200, &value)
    }

    pub fn empty(status: u16) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers: HeaderMap::new(),
            body: Body::empty(),
        }
    }

    /// Adds a header; a value that no header can carry is left out.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

/// A text as a part of a query string.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
