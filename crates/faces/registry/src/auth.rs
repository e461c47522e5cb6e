//! Who asks. Clients learn from a challenge where tokens are (`/v2/token`), get one there for what their user gave them,
//! and show it with each request; those that send Basic at once are served as well. Without a credential a client gets a
//! token too, which stands for nobody and opens what is public: docker pulls nothing without one.

use axum::body::Body;
use axum::response::Response;
use base64::Engine;
use gate::{Asked, Client, Principal};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use model::Time;
use serde_json::json;

use crate::refusal::{Refusal, Result};
use crate::{Call, Registry, json};

/// The token of nobody.
const ANONYMOUS: &str = "anonymous";
/// How long clients keep it, in seconds.
const ANONYMOUS_SECONDS: i64 = 300;
/// The largest form that asks for a token.
const MAX_FORM: usize = 64 << 10;

/// The host by whose name a client reached the registry.
pub fn host_of(request: &Parts) -> Option<String> {
    let named = request.headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let host = named.or_else(|| request.uri.authority().map(|a| a.as_str()))?;
    let fits = host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b));
    (fits && !host.is_empty()).then(|| host.to_owned())
}

fn client_of(request: &Parts) -> Client {
    request.extensions.get::<Client>().copied().unwrap_or(Client::UNKNOWN)
}

/// User name and password of the Basic scheme; nothing if both are empty, as skopeo sends them without a login.
fn basic(text: &str) -> Result<Option<(String, String)>> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).map_err(|_| Refusal::bad_credential())?;
    let text = String::from_utf8(bytes).map_err(|_| Refusal::bad_credential())?;
    let (user, password) = text.split_once(':').ok_or_else(Refusal::bad_credential)?;
    Ok((!(user.is_empty() && password.is_empty())).then(|| (user.to_owned(), password.to_owned())))
}

/// Scheme and content of the Authorization header.
fn authorization(headers: &HeaderMap) -> Result<Option<(String, String)>> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let value = value.to_str().map_err(|_| Refusal::bad_credential())?;
    let (scheme, rest) = value.split_once(' ').ok_or_else(Refusal::bad_credential)?;
    Ok(Some((scheme.to_ascii_lowercase(), rest.trim().to_owned())))
}

fn asked(request: &Parts) -> Asked<'_> {
    Asked { service: "registry", method: request.method.as_str(), path: request.uri.path() }
}

impl Registry {
    /// Who asks, and by which token; nobody, without a credential. A bad credential is refused even where none is needed.
    pub(crate) async fn who(&self, request: &Parts) -> Result<Option<(String, Principal)>> {
        let token = match authorization(&request.headers)? {
            None => return Ok(None),
            Some((scheme, token)) if scheme == "bearer" && token == ANONYMOUS => return Ok(None),
            Some((scheme, token)) if scheme == "bearer" => token,
            Some((scheme, text)) if scheme == "basic" => match basic(&text)? {
                None => return Ok(None),
                Some((user, password)) => self.gate.basic(&user, &password, client_of(request)).await?.0,
            },
            Some(_) => return Err(Refusal::bad_credential()),
        };
        let who = self.gate.registry(&token, &asked(request)).await?;
        Ok(Some((token, who)))
    }

    /// Refuses who has lost since the request began what they had then: a body comes as slowly as its sender likes.
    pub(crate) async fn still(&self, call: &Call) -> Result<()> {
        let Some(token) = &call.token else { return Ok(()) };
        let who = self.gate.registry(token, &asked(&call.request)).await?;
        self.permit(&call.repository, Some(&who), true)
    }

    /// `/v2/token`: by GET with Basic, or by POST with a form, as OAuth 2 has it.
    pub(crate) async fn token(&self, request: &Parts, body: Body) -> Result<Response> {
        let client = client_of(request);
        let credential = match request.method {
            Method::GET => match authorization(&request.headers)? {
                Some((scheme, text)) if scheme == "basic" => basic(&text)?,
                Some(_) => return Err(Refusal::bad_credential()),
                None => None,
            },
            Method::POST => Some(form(body).await?),
            _ => return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "GET or POST a token")),
        };
        let now = Time::now();
        let (token, seconds) = match credential {
            None => (ANONYMOUS.to_owned(), ANONYMOUS_SECONDS),
            Some((user, password)) => {
                let (token, end) = self.gate.basic(&user, &password, client).await?;
                (self.gate.registry_token(&token)?, end.as_second() - now.as_second())
            }
        };
        let answer =
            json!({"token": token, "access_token": token, "expires_in": seconds, "issued_at": model::seconds(now)});
        Ok(json(&answer, "application/json"))
    }
}

async fn form(body: Body) -> Result<(String, String)> {
    let bytes = axum::body::to_bytes(body, MAX_FORM)
        .await
        .map_err(|_| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", "a form of more than 64 KiB"))?;
    let field = |name: &str| {
        form_urlencoded::parse(&bytes).find(|(n, _)| n == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    match field("grant_type").as_str() {
        "password" => Ok((field("username"), field("password"))),
        other => Err(Refusal::bad("UNSUPPORTED", format!("there are no grants of the type {other:?}"))),
    }
}
