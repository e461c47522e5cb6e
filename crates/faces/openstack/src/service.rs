//! What a service says about itself. Whatever has to do with all services (the catalog, documents of versions, quotas, the
//! dispatcher, tests that walk them) follows from these declarations and names none of them, so that a new service is a
//! folder and a line in `lib.rs`; `docs/adding-a-service.md` says how.
//!
//! Refused: a trait with a default for each part, by which what a service forgets to say is silently something.

use std::pin::Pin;

use http::Method;
use model::{Fault, Kind};

use crate::access::Access;
use crate::call::{Call, Reply};
use crate::pages::Page;

/// A service: a prefix, its table and its ways.
pub struct Service {
    /// Its type in the catalog: `compute`. Access rules and the log name it so.
    pub name: &'static str,
    /// The name of the program that others serve it by: `nova`.
    pub project: &'static str,
    /// Before all its paths: `/compute`.
    pub prefix: &'static str,
    /// Where clients begin, below the prefix: `/v2.1`.
    pub root: &'static str,
    pub versions: Versions,
    pub microversions: Option<Microversions>,
    /// The kinds of rows that are its own. Those of them that a project must not have when it is deleted say so themselves
    /// ([`model::Resource::HOLDS`]), as they say what they use of its limits ([`model::Resource::QUOTAS`]).
    pub kinds: &'static [Kind],
    pub quotas: Quotas,
    pub dialect: Dialect,
    /// What the real service has besides.
    pub absent: Absent,
    /// Refuses what is beyond a caller's reach although the endpoint lets them in. Asked again when a body has come.
    pub reach: fn(&Call) -> Result<(), Fault>,
    pub table: fn() -> Vec<Endpoint>,
}

/// Paths below a service's prefix, in which `*` is any part, and what would be there. With each path all below it is meant.
pub type Absent = &'static [(&'static str, &'static str)];

/// The versions of a service's API, as its documents show them (`crate::versions`).
pub struct Versions {
    /// The newest first, or as the real service has them.
    pub all: &'static [Version],
    /// Of the list at the service's prefix: 300 where clients are asked to choose.
    pub status: u16,
    /// Keystone's list stands one level deeper, and says where the version is; each version says its media type there too.
    pub choice: bool,
    /// The name under which the newest microversion stands.
    pub newest: &'static str,
    /// A version's own document says where it is described.
    pub described: bool,
}

/// Of services whose documents say what Nova's and Glance's have in common.
pub const PLAIN: Versions = Versions { all: &[], status: 200, choice: false, newest: "version", described: false };

/// A version of a service's API.
pub struct Version {
    pub id: &'static str,
    pub status: &'static str,
    /// Below the service's prefix; `None` where its link is empty.
    pub path: Option<&'static str>,
    /// What of microversions it says.
    pub micro: Micro,
    pub updated: Option<&'static str>,
    pub media_type: Option<&'static str>,
}

/// What a version says of microversions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Micro {
    /// Nothing.
    Unsaid,
    /// That it has none.
    Without,
    /// Those of the service.
    InForce,
}

impl Version {
    /// One of which is said what all services say.
    pub const fn new(id: &'static str, status: &'static str, path: &'static str) -> Self {
        Self { id, status, path: Some(path), micro: Micro::Unsaid, updated: None, media_type: None }
    }
}

/// Microversions of a service.
#[derive(Clone, Copy)]
pub struct Microversions {
    /// The name in `OpenStack-API-Version: <name> 2.1`.
    pub name: &'static str,
    /// An older header with the version alone.
    pub legacy_header: Option<&'static str>,
    pub min: (u16, u16),
    pub max: (u16, u16),
    /// Refuses what a query may not say to an endpoint in the request's version.
    pub check_query: fn(&Call, &Endpoint) -> Result<(), Fault>,
}

/// Where the limits of what a service keeps are shown and set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotas {
    /// It keeps nothing that is limited, or its limits are for [`Quotas::All`] to show: it has no API for them.
    Elsewhere,
    /// In an API of its own.
    Own,
    /// In one that also shows whatever else is limited.
    All,
}

/// How a service words what all services say.
pub struct Dialect {
    /// An error.
    pub error: fn(&Fault, &ErrorContext<'_>) -> Reply,
    /// The refusal of what the real service has and this cloud has not, by its name.
    pub absent: fn(&str) -> Fault,
    /// A header for the request's id beside everybody's.
    pub request_id: Option<&'static str>,
    /// What a list says of the pages around it.
    pub pages: fn(&Page<'_>) -> Vec<(String, serde_json::Value)>,
}

/// What an error's rendering may need of the request.
pub struct ErrorContext<'a> {
    pub service: &'static Service,
    pub path: &'a str,
    pub request_id: &'a str,
    pub base_url: &'a str,
    pub version: (u16, u16),
    /// The request's Accept header; empty without one.
    pub accept: &'a str,
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
    /// What is declared of the bodies that it takes; one that has several takes one of those with a name.
    pub bodies: Vec<Takes>,
}

impl Endpoint {
    /// It takes bodies of which this is declared.
    pub fn takes(self, bodies: impl IntoIterator<Item = Takes>) -> Self {
        Self { bodies: bodies.into_iter().collect(), ..self }
    }
}

/// A body, or the object that it has under a name, for whoever tries all of them.
#[derive(Clone)]
pub struct Takes {
    /// None: the body itself.
    pub name: &'static str,
    pub properties: Vec<Property>,
}

/// A property of a body.
#[derive(Clone)]
pub struct Property {
    pub name: &'static str,
    /// First and last microversion that has it.
    pub since: (u16, u16),
    pub until: (u16, u16),
    pub required: bool,
    /// Only administrators may send it.
    pub admin: bool,
    /// The kinds of rows that it names, each with a value of it in which `$` is the id.
    pub refers_to: Vec<(Kind, String)>,
    /// No id can be in it.
    pub plain: bool,
    /// A value of it; null if none is known.
    pub sample: serde_json::Value,
}

/// A row for an `async fn(Call) -> Result<Reply, Fault>`: `endpoint!(GET "/servers" Reader list)`. Versions may follow:
/// `endpoint!(GET "/os-networks" Reader list, until (2, 35))`.
#[macro_export]
macro_rules! endpoint {
    ($method:ident $path:literal $access:ident $handler:path) => {
        $crate::service::Endpoint {
            method: http::Method::$method,
            path: $path,
            access: $crate::access::Access::$access,
            since: (0, 0),
            until: (u16::MAX, u16::MAX),
            handler: |call| Box::pin($handler(call)),
            bodies: Vec::new(),
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
