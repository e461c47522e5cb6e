//! Every kind that this API serves: one line each, the rest is generic. What Kubernetes' own type says (group, version,
//! kind, plural, scope, schema) comes from k8s-openapi; what only the kind knows is its [`Strategy`].

use std::sync::LazyLock;

use k8s_openapi::api::authentication::v1 as authn;
use k8s_openapi::api::authorization::v1 as authz;
use k8s_openapi::api::{apps, autoscaling, coordination, core, discovery, events, policy, rbac};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};
use schemars::{JsonSchema, SchemaGenerator};

use crate::fault::qualified;
use crate::kinds::{self, Strategy};

/// Adds a type and all that it reaches to a generator.
pub type Schema = fn(&mut SchemaGenerator);

/// A kind of object.
pub struct Kind {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: String,
    pub short: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    /// The name of its schema's definition.
    pub definition: String,
    schema: Schema,
    /// Types that only subresources take, and the schema of each.
    extra: &'static [Schema],
    /// Group and plural under which rows are stored: another kind's where two APIs show the same objects.
    pub stored: (&'static str, &'static str),
    /// Subresources: name, group, version and kind of what they take, verbs.
    pub subresources: &'static [Subresource],
    /// `status` is a subresource: what is written beside it leaves `status` alone, and the reverse.
    pub status: bool,
    /// `metadata.generation` counts the changes of the specification.
    pub generation: bool,
    /// Never stored: creating one is asking a question.
    pub review: bool,
    pub strategy: &'static dyn Strategy,
}

/// A subresource that is not `status`.
pub struct Subresource {
    pub name: &'static str,
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub verbs: &'static [&'static str],
}

trait Scope {
    const NAMESPACED: bool;
}
impl Scope for NamespaceResourceScope {
    const NAMESPACED: bool = true;
}
impl Scope for ClusterResourceScope {
    const NAMESPACED: bool = false;
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

impl Kind {
    fn of<T: Resource<Scope: Scope> + JsonSchema>(strategy: &'static dyn Strategy) -> Self {
        Self {
            group: T::GROUP,
            version: T::VERSION,
            kind: T::KIND,
            plural: T::URL_PATH_SEGMENT,
            singular: T::KIND.to_lowercase(),
            short: &[],
            categories: &[],
            namespaced: <T::Scope as Scope>::NAMESPACED,
            definition: T::schema_name().into_owned(),
            schema: schema::<T>,
            extra: &[],
            stored: (T::GROUP, T::URL_PATH_SEGMENT),
            subresources: &[],
            status: false,
            generation: false,
            review: false,
            strategy,
        }
    }

    /// A kind that is asked, not stored.
    fn review<T: Resource<Scope: Scope> + JsonSchema>() -> Self {
        Self { review: true, ..Self::of::<T>(&kinds::Plain) }
    }

    fn short(self, short: &'static [&'static str]) -> Self {
        Self { short, ..self }
    }

    /// Part of `kubectl get all`.
    fn all(self) -> Self {
        Self { categories: &["all"], ..self }
    }

    fn status(self) -> Self {
        Self { status: true, ..self }
    }

    fn generation(self) -> Self {
        Self { generation: true, ..self }
    }

    fn with(self, subresources: &'static [Subresource], extra: &'static [Schema]) -> Self {
        Self { subresources, extra, ..self }
    }

    /// The schema of the kind and those of what its subresources take.
    pub fn schemas(&self) -> impl Iterator<Item = Schema> + use<> {
        std::iter::once(self.schema).chain(self.extra.iter().copied())
    }

    /// `deployments.apps`.
    pub fn qualified(&self) -> String {
        qualified(self.group, self.plural)
    }

    /// `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The verbs that discovery shows.
    pub fn verbs(&self) -> &'static [&'static str] {
        if self.review {
            &["create"]
        } else if self.plural == "namespaces" {
            &["create", "delete", "get", "list", "patch", "update", "watch"]
        } else {
            &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
        }
    }

    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.qualified())
    }
}

const fn sub(
    name: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource { name, group, version, kind, verbs }
}

const STREAM: &[&str] = &["create", "get"];
const FINALIZE: &[Subresource] = &[sub("finalize", "", "v1", "Namespace", &["update"])];
const TOKEN: &[Subresource] = &[sub("token", "authentication.k8s.io", "v1", "TokenRequest", &["create"])];
const POD: &[Subresource] = &[
    sub("attach", "", "v1", "PodAttachOptions", STREAM),
    sub("binding", "", "v1", "Binding", &["create"]),
    sub("eviction", "policy", "v1", "Eviction", &["create"]),
    sub("exec", "", "v1", "PodExecOptions", STREAM),
    sub("log", "", "v1", "Pod", &["get"]),
    sub("portforward", "", "v1", "PodPortForwardOptions", STREAM),
];
const SCALE: &[Subresource] = &[sub("scale", "autoscaling", "v1", "Scale", &["get", "patch", "update"])];

/// Every kind, in the order of discovery.
pub static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    vec![
        Kind::of::<core::v1::ConfigMap>(&kinds::configmap::ConfigMap).short(&["cm"]),
        Kind::of::<core::v1::Event>(&kinds::event::Event).short(&["ev"]),
        Kind::of::<core::v1::Namespace>(&kinds::namespace::Namespace).short(&["ns"]).status().with(FINALIZE, &[]),
        Kind::of::<core::v1::Node>(&kinds::node::Node).short(&["no"]).status(),
        Kind::of::<core::v1::Pod>(&kinds::pod::Pod)
            .short(&["po"])
            .all()
            .status()
            .generation()
            .with(POD, &[schema::<core::v1::Binding>, schema::<policy::v1::Eviction>, schema::<DeleteOptions>]),
        Kind::of::<core::v1::Secret>(&kinds::secret::Secret),
        Kind::of::<core::v1::ServiceAccount>(&kinds::Plain)
            .short(&["sa"])
            .with(TOKEN, &[schema::<authn::TokenRequest>]),
        Kind::of::<core::v1::Service>(&kinds::service::Service).short(&["svc"]).all().status(),
        Kind::of::<apps::v1::Deployment>(&kinds::deployment::Deployment)
            .short(&["deploy"])
            .all()
            .status()
            .generation()
            .with(SCALE, &[schema::<autoscaling::v1::Scale>]),
        Kind::of::<apps::v1::ReplicaSet>(&kinds::replicaset::ReplicaSet)
            .short(&["rs"])
            .all()
            .status()
            .generation()
            .with(SCALE, &[]),
        Kind::review::<authn::TokenReview>(),
        Kind::review::<authn::SelfSubjectReview>(),
        Kind::review::<authz::LocalSubjectAccessReview>(),
        Kind::review::<authz::SelfSubjectAccessReview>(),
        Kind::review::<authz::SelfSubjectRulesReview>(),
        Kind::review::<authz::SubjectAccessReview>(),
        Kind::of::<coordination::v1::Lease>(&kinds::lease::Lease),
        Kind::of::<discovery::v1::EndpointSlice>(&kinds::endpointslice::EndpointSlice),
        Kind { stored: ("", "events"), ..Kind::of::<events::v1::Event>(&kinds::event::NewEvent).short(&["ev"]) },
        Kind::of::<rbac::v1::ClusterRole>(&kinds::role::Role),
        Kind::of::<rbac::v1::ClusterRoleBinding>(&kinds::role::Binding),
        Kind::of::<rbac::v1::Role>(&kinds::role::Role),
        Kind::of::<rbac::v1::RoleBinding>(&kinds::role::Binding),
    ]
});

/// The kind served under this group, version and plural.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|k| k.plural == plural && k.group == group && k.version == version)
}

/// The kind in which rows of this group and plural are stored.
pub fn stored(group: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|k| k.stored == (group, plural) && k.group == group)
}

/// Every group with its version, in the order of discovery; the core group first, as the empty text.
pub fn groups() -> Vec<(&'static str, &'static str)> {
    let mut groups = Vec::new();
    for kind in KINDS.iter() {
        if !groups.contains(&(kind.group, kind.version)) {
            groups.push((kind.group, kind.version));
        }
    }
    groups
}
