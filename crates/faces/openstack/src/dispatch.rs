//! The way of every request: its service and endpoint, its version, its sender, the handler, and the reply in the service's
//! words. Tests walk the same tables without credentials and with another project's.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use axum::body::Body;
use gate::Principal;
use http::{HeaderValue, Method, Request, Response};
use model::Fault;
use percent_encoding::percent_decode_str;

use crate::access::Access;
use crate::call::{Call, Entry, Reply};
use crate::service::{Endpoint, ErrorContext, Microversions, Service};
use crate::{Cloud, absent, fault};

/// A service with its table, and the table's paths compiled.
pub struct Served {
    service: &'static Service,
    pub endpoints: Vec<Endpoint>,
    router: matchit::Router<Vec<usize>>,
}

impl Deref for Served {
    type Target = Service;

    fn deref(&self) -> &Service {
        self.service
    }
}

impl Served {
    fn new(service: &'static Service) -> Self {
        let endpoints = (service.table)();
        let mut paths: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, endpoint) in endpoints.iter().enumerate() {
            paths.entry(endpoint.path).or_default().push(i);
        }
        let mut router = matchit::Router::new();
        for (path, rows) in paths {
            router.insert(path, rows).unwrap_or_else(|e| panic!("{} {path}: {e}", service.name));
        }
        Self { service, endpoints, router }
    }
}

/// All services with their paths compiled.
pub struct Face {
    cloud: Cloud,
    services: Vec<Served>,
}

impl Face {
    /// # Panics
    /// If two rows of a table contradict each other; the tables are constants, and a test builds them.
    pub fn new(cloud: Cloud, services: &[&'static Service]) -> Self {
        Self { cloud, services: services.iter().copied().map(Served::new).collect() }
    }

    pub fn services(&self) -> impl Iterator<Item = &Served> {
        self.services.iter()
    }

    /// Serves one request.
    pub async fn dispatch(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        let found = self.services.iter().find(|service| {
            path.strip_prefix(service.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        let Some(service) = found else {
            return plain(404, "nothing is served at this path\n");
        };
        let request_id = format!("req-{}", uuid::Uuid::new_v4());
        let base_url = request
            .headers()
            .get(http::header::HOST)
            .and_then(|h| h.to_str().ok())
            .map_or_else(|| self.cloud.base_url.clone(), |host| format!("https://{host}"));
        let path = path.to_owned();
        let method = request.method().clone();
        let accept = request.headers().get(http::header::ACCEPT).cloned();
        let mut version = (0, 0);
        let mut actor = gate::audit::Actor::default();
        let result = self.serve(service, request, &request_id, &mut version, &mut actor).await;
        let reply = result.unwrap_or_else(|fault| {
            fault::log(&fault, service.name, &path, &request_id);
            let accept = accept.as_ref().and_then(|a| a.to_str().ok()).unwrap_or("");
            let service = service.service;
            let context =
                ErrorContext { service, path: &path, request_id: &request_id, base_url: &base_url, version, accept };
            (service.dialect.error)(&fault, &context)
        });
        if !method.is_safe() {
            gate::audit::record(&actor, method.as_str(), &path, reply.status.as_u16(), &request_id);
        }
        finish(reply, service, version, &request_id)
    }

    async fn serve(
        &self,
        service: &Served,
        request: Request<Body>,
        request_id: &str,
        version: &mut (u16, u16),
        actor: &mut gate::audit::Actor,
    ) -> Result<Reply, Fault> {
        let (parts, body) = request.into_parts();
        if let Some(versions) = &service.microversions {
            *version = negotiate(versions, &parts.headers)?;
        }
        let rest = &parts.uri.path()[service.prefix.len()..];
        let rest = if rest.is_empty() { "/" } else { rest };
        // A trailing slash means the same, as in the real services' routers.
        let trimmed = if rest.len() > 1 { rest.trim_end_matches('/') } else { rest };
        let no_route = || absent::refusal(service, trimmed);
        let route = service.router.at(if trimmed.is_empty() { "/" } else { trimmed }).map_err(|_| no_route());

        // Without a valid token nobody learns which paths exist; only the public ones answer.
        let token = parts.headers.get("x-auth-token").and_then(|t| t.to_str().ok()).map(str::to_owned);
        let rows: &[usize] = route.as_ref().map_or(&[], |r| r.value);
        let at = |row: &&Endpoint| (row.since..=row.until).contains(version);
        let all: Vec<&Endpoint> = rows.iter().map(|i| &service.endpoints[*i]).filter(at).collect();
        let method = if parts.method == Method::HEAD && !all.iter().any(|e| e.method == Method::HEAD) {
            Method::GET
        } else {
            parts.method.clone()
        };
        let endpoint = all.iter().find(|e| e.method == method).copied();
        let public = endpoint.is_some_and(|e| e.access == Access::Public);
        let asked = gate::Asked { service: service.name, method: parts.method.as_str(), path: rest };
        let principal = if public { None } else { Some(self.principal(token.as_deref(), &asked).await?) };
        let Some(endpoint) = endpoint else {
            // What ends in a slash names nothing that could be changed: `DELETE /flavors/` is a missing id.
            if all.is_empty() || trimmed.len() < rest.len() {
                return Err(no_route());
            }
            return Err(Fault::MethodNotAllowed(format!("The method {method} is not allowed for this resource.")));
        };
        if let Some(principal) = &principal {
            endpoint.access.check(principal)?;
        }
        *actor = gate::audit::Actor::of(principal.as_ref());
        let route = route?;
        let call = Call {
            cloud: self.cloud.clone(),
            principal,
            client: parts.extensions.get::<gate::Client>().copied().unwrap_or(gate::Client::UNKNOWN),
            token,
            params: route
                .params
                .iter()
                .map(|(k, v)| (k.to_owned(), percent_decode_str(v).decode_utf8_lossy().into_owned()))
                .collect(),
            query: form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes()).into_owned().collect(),
            headers: parts.headers,
            version: *version,
            request_id: request_id.to_owned(),
            uri: parts.uri.to_string(),
            now: model::Time::now(),
            body: body.into(),
            snapshot: self.cloud.store.snapshot(),
            entry: Entry {
                service: service.service,
                method: parts.method.as_str().to_owned(),
                path: rest.to_owned(),
                access: endpoint.access,
            },
        };
        (service.reach)(&call)?;
        if let Some(versions) = &service.microversions {
            (versions.check_query)(&call, endpoint)?;
        }
        let head = parts.method == Method::HEAD;
        let mut reply = (endpoint.handler)(call).await?;
        if head {
            reply.body = Body::empty();
        }
        Ok(reply)
    }

    async fn principal(&self, token: Option<&str>, asked: &gate::Asked<'_>) -> Result<Principal, Fault> {
        let token =
            token.ok_or_else(|| Fault::Unauthorized("The request you have made requires authentication.".into()))?;
        self.cloud.gate.token(token, asked).await
    }
}

/// The microversion that the request asks for, or the lowest.
fn negotiate(versions: &Microversions, headers: &http::HeaderMap) -> Result<(u16, u16), Fault> {
    let asked = headers
        .get_all("openstack-api-version")
        .iter()
        .filter_map(|h| h.to_str().ok())
        .flat_map(|h| h.split(','))
        .find_map(|h| h.trim().strip_prefix(versions.name)?.strip_prefix(' ').map(|v| v.trim().to_owned()))
        .or_else(|| headers.get(versions.legacy_header?).and_then(|h| h.to_str().ok()).map(str::to_owned));
    let Some(asked) = asked else { return Ok(versions.min) };
    if asked == "latest" {
        return Ok(versions.max);
    }
    let parsed = asked.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let Some(version) = parsed else {
        return Err(Fault::invalid(format!(
            "API Version String {asked} is of invalid format. Must be of format MajorNum.MinorNum."
        )));
    };
    if version < versions.min || version > versions.max {
        return Err(Fault::NotAcceptable(format!(
            "Version {asked} is not supported by the API. Minimum is {}.{} and maximum is {}.{}.",
            versions.min.0, versions.min.1, versions.max.0, versions.max.1
        )));
    }
    Ok(version)
}

fn finish(reply: Reply, service: &Service, version: (u16, u16), request_id: &str) -> Response<Body> {
    let mut response = Response::new(reply.body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    let headers = response.headers_mut();
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put("x-openstack-request-id", request_id);
    if let Some(header) = service.dialect.request_id {
        put(header, request_id);
    }
    if let Some(versions) = &service.microversions
        && version != (0, 0)
    {
        put("openstack-api-version", &format!("{} {}.{}", versions.name, version.0, version.1));
        if let Some(legacy) = versions.legacy_header {
            put(legacy, &format!("{}.{}", version.0, version.1));
            put("vary", &format!("OpenStack-API-Version, {legacy}"));
        } else {
            put("vary", "OpenStack-API-Version");
        }
    }
    response
}

fn plain(status: u16, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::NOT_FOUND);
    response
}
