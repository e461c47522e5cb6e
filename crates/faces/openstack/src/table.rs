//! The table of endpoints: method, path, permission, versions and handler of each in one row, so that tests can walk
//! all of them without credentials and with another project's.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use gate::{Principal, Scope};
use http::{HeaderValue, Method, Request, Response};
use model::Fault;
use percent_encoding::percent_decode_str;

use crate::absent::Absent;
use crate::call::{Call, Entry, Reply};
use crate::{Cloud, absent, fault};

/// Who may call an endpoint at all. What they see and change there is the [`gate::View`]'s decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody, without a token.
    Public,
    /// Anybody with a valid token, whatever its scope and roles.
    Token,
    /// `reader` in a project, or more; or `admin` wherever.
    Reader,
    /// `member` in a project, or more; or `admin` wherever.
    Member,
    /// `admin`, or `reader` of the system.
    SystemReader,
    /// The same, or `reader` of a domain, for what is in it.
    DomainReader,
    /// `admin`, or `manager` of a domain, for what is in it.
    DomainManager,
    /// `admin`.
    Admin,
}

pub type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Result<Reply, Fault>> + Send>>;

/// One row of a service's table.
pub struct Endpoint {
    pub method: Method,
    /// Below the service's prefix; `{name}` is a part, `{*name}` the rest.
    pub path: &'static str,
    pub access: Access,
    /// First and last microversion in which it exists.
    pub since: (u16, u16),
    pub until: (u16, u16),
    pub handler: Handler,
}

/// A row for an `async fn(Call) -> Result<Reply, Fault>`: `endpoint!(GET "/servers" Reader list)`. Versions may follow:
/// `endpoint!(GET "/os-networks" Reader list, until (2, 35))`.
#[macro_export]
macro_rules! endpoint {
    ($method:ident $path:literal $access:ident $handler:path) => {
        $crate::table::Endpoint {
            method: http::Method::$method,
            path: $path,
            access: $crate::table::Access::$access,
            since: (0, 0),
            until: (u16::MAX, u16::MAX),
            handler: |call| Box::pin($handler(call)),
        }
    };
    ($method:ident $path:literal $access:ident $handler:path, since $since:expr) => {{
        let mut row = $crate::endpoint!($method $path $access $handler);
        row.since = $since;
        row
    }};
    ($method:ident $path:literal $access:ident $handler:path, until $until:expr) => {{
        let mut row = $crate::endpoint!($method $path $access $handler);
        row.until = $until;
        row
    }};
}

/// Microversions of a service.
#[derive(Clone, Copy)]
pub struct Versions {
    /// The name in `OpenStack-API-Version: <name> 2.1`.
    pub name: &'static str,
    /// An older header with the version alone.
    pub legacy_header: Option<&'static str>,
    pub min: (u16, u16),
    pub max: (u16, u16),
    /// Refuses what a query may not say to an endpoint in the request's version.
    pub check_query: fn(&Call, &Endpoint) -> Result<(), Fault>,
}

/// A service: a prefix, its table and its ways.
pub struct Service {
    pub name: &'static str,
    /// `/compute`.
    pub prefix: &'static str,
    pub versions: Option<Versions>,
    pub endpoints: Vec<Endpoint>,
    /// What the real service has besides.
    pub absent: Absent,
    /// How the service words its errors.
    pub render: fn(&Fault, &ErrorContext<'_>) -> Reply,
}

/// What an error's rendering may need of the request.
pub struct ErrorContext<'a> {
    pub path: &'a str,
    pub request_id: &'a str,
    pub base_url: &'a str,
    pub version: (u16, u16),
    /// The request's Accept header; empty without one.
    pub accept: &'a str,
}

/// All services with their paths compiled.
pub struct Face {
    cloud: Cloud,
    services: Vec<(Service, matchit::Router<Vec<usize>>)>,
}

impl Face {
    /// # Panics
    /// If two rows of a table contradict each other; the tables are constants, and a test builds them.
    pub fn new(cloud: Cloud, services: Vec<Service>) -> Self {
        let services = services
            .into_iter()
            .map(|service| {
                let mut paths: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
                for (i, endpoint) in service.endpoints.iter().enumerate() {
                    paths.entry(endpoint.path).or_default().push(i);
                }
                let mut router = matchit::Router::new();
                for (path, rows) in paths {
                    router.insert(path, rows).unwrap_or_else(|e| panic!("{} {path}: {e}", service.name));
                }
                (service, router)
            })
            .collect();
        Self { cloud, services }
    }

    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter().map(|(service, _)| service)
    }

    /// Serves one request.
    pub async fn dispatch(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        let found = self.services.iter().find(|(service, _)| {
            path.strip_prefix(service.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        let Some((service, router)) = found else {
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
        let result = self.serve(service, router, request, &request_id, &mut version, &mut actor).await;
        let reply = result.unwrap_or_else(|fault| {
            fault::log(&fault, service.name, &path, &request_id);
            let accept = accept.as_ref().and_then(|a| a.to_str().ok()).unwrap_or("");
            let context = ErrorContext { path: &path, request_id: &request_id, base_url: &base_url, version, accept };
            (service.render)(&fault, &context)
        });
        if !method.is_safe() {
            gate::audit::record(&actor, method.as_str(), &path, reply.status.as_u16(), &request_id);
        }
        finish(reply, service, version, &request_id)
    }

    async fn serve(
        &self,
        service: &Service,
        router: &matchit::Router<Vec<usize>>,
        request: Request<Body>,
        request_id: &str,
        version: &mut (u16, u16),
        actor: &mut gate::audit::Actor,
    ) -> Result<Reply, Fault> {
        let (parts, body) = request.into_parts();
        if let Some(versions) = &service.versions {
            *version = negotiate(versions, &parts.headers)?;
        }
        let rest = &parts.uri.path()[service.prefix.len()..];
        let rest = if rest.is_empty() { "/" } else { rest };
        // A trailing slash means the same, as in the real services' routers.
        let trimmed = if rest.len() > 1 { rest.trim_end_matches('/') } else { rest };
        let no_route = || absent::refusal(service.name, service.absent, trimmed);
        let route = router.at(if trimmed.is_empty() { "/" } else { trimmed }).map_err(|_| no_route());

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
            allowed(endpoint.access, principal)?;
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
                service: service.name,
                method: parts.method.as_str().to_owned(),
                path: rest.to_owned(),
                access: endpoint.access,
            },
        };
        call.entry.check_reach(&call)?;
        if let Some(versions) = &service.versions {
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

/// Whether somebody looks at everything in the cloud.
pub fn reads_all(who: &Principal) -> bool {
    who.is_admin() || (who.scope == Scope::System && who.is_reader())
}

/// Refuses who may not call such an endpoint.
pub fn allowed(access: Access, who: &Principal) -> Result<(), Fault> {
    let enough = match access {
        Access::Public | Access::Token => true,
        Access::Reader => who.is_admin() || (who.project_id().is_some() && who.is_reader()),
        Access::Member => who.is_admin() || (who.project_id().is_some() && who.is_member()),
        Access::SystemReader => reads_all(who),
        Access::DomainReader => reads_all(who) || (matches!(who.scope, Scope::Domain { .. }) && who.is_reader()),
        Access::DomainManager => who.is_admin() || (matches!(who.scope, Scope::Domain { .. }) && who.has("manager")),
        Access::Admin => who.is_admin(),
    };
    if enough {
        Ok(())
    } else {
        Err(Fault::Forbidden("You are not authorized to perform the requested action.".into()))
    }
}

/// The microversion that the request asks for, or the lowest.
fn negotiate(versions: &Versions, headers: &http::HeaderMap) -> Result<(u16, u16), Fault> {
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
    if service.name == "compute" {
        put("x-compute-request-id", request_id);
    }
    if let Some(versions) = &service.versions
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
