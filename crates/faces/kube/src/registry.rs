//! What a kind is, and the kinds that every cluster has: one entry each, the rest is generic. What Kubernetes' own type says
//! (group, version, kind, plural, scope, schema) comes from k8s-openapi; what only the kind knows is its [`Strategy`]. Kinds
//! that a cluster defines for itself are made from its rows (`custom`); which there are, [`Kinds`] says of one cluster at one
//! moment. A global list was refused: a kind of one cluster must not be there in another.

use std::sync::{Arc, LazyLock};

use k8s_openapi::api::authentication::v1 as authn;
use k8s_openapi::api::authorization::v1 as authz;
use k8s_openapi::api::{apps, autoscaling, coordination, core, discovery, events, policy, rbac};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};
use schemars::{JsonSchema, SchemaGenerator};

use crate::kinds::{self, Column, Strategy};
use crate::names::Names;
use crate::types::{self, Schema, Shape, Types};

/// A kind of object, in one version.
pub struct Kind {
    pub names: Names,
    /// The name of its schema's definition.
    pub definition: String,
    pub shape: Shape,
    schema: Option<Schema>,
    /// Types that only subresources take, and the schema of each.
    extra: &'static [Schema],
    /// Group and plural under which rows are stored: another kind's where two APIs show the same objects.
    pub stored: (String, String),
    /// Subresources: name, group, version and kind of what they take, verbs.
    pub subresources: &'static [Subresource],
    /// `status` is a subresource: what is written beside it leaves `status` alone, and the reverse.
    pub status: bool,
    /// `metadata.generation` counts the changes of the specification.
    pub generation: bool,
    /// Never stored: creating one is asking a question.
    pub review: bool,
    pub columns: Vec<Column>,
    pub strategy: Arc<dyn Strategy>,
}

/// Everything that is said of a kind is said of its names first.
impl std::ops::Deref for Kind {
    type Target = Names;
    fn deref(&self) -> &Names {
        &self.names
    }
}

/// A subresource that is not `status`.
#[derive(Debug)]
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
    fn of<T: Resource<Scope: Scope> + JsonSchema>(strategy: impl Strategy + 'static) -> Self {
        let names = Names {
            group: T::GROUP.to_owned(),
            version: T::VERSION.to_owned(),
            kind: T::KIND.to_owned(),
            list: format!("{}List", T::KIND),
            plural: T::URL_PATH_SEGMENT.to_owned(),
            singular: T::KIND.to_lowercase(),
            namespaced: <T::Scope as Scope>::NAMESPACED,
            ..Names::default()
        };
        Self {
            names,
            definition: T::schema_name().into_owned(),
            shape: Shape::default(),
            schema: Some(schema::<T>),
            extra: &[],
            stored: (T::GROUP.to_owned(), T::URL_PATH_SEGMENT.to_owned()),
            subresources: &[],
            status: false,
            generation: false,
            review: false,
            columns: strategy.columns(),
            strategy: Arc::new(strategy),
        }
    }

    /// A kind that is asked, not stored.
    fn review<T: Resource<Scope: Scope> + JsonSchema>() -> Self {
        Self { review: true, ..Self::of::<T>(kinds::Plain) }
    }

    fn short(mut self, short: &str) -> Self {
        self.names.short = vec![short.to_owned()];
        self
    }

    /// Part of `kubectl get all`.
    fn all(mut self) -> Self {
        self.names.categories = vec!["all".to_owned()];
        self
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

    /// Shows the rows of another group's objects.
    fn stored(self, group: &str, plural: &str) -> Self {
        Self { stored: (group.to_owned(), plural.to_owned()), ..self }
    }

    /// The schema of the kind, if it is one of Kubernetes' own, and those of what its subresources take.
    pub fn schemas(&self) -> impl Iterator<Item = Schema> + use<> {
        self.schema.into_iter().chain(self.extra.iter().copied())
    }

    /// The verbs that discovery shows.
    pub fn verbs(&self) -> &'static [&'static str] {
        if self.review {
            &["create"]
        } else if !self.strategy.deletes_collections() {
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
pub const SCALE: &[Subresource] = &[sub("scale", "autoscaling", "v1", "Scale", &["get", "patch", "update"])];

/// Every kind of Kubernetes' own, in the order of discovery.
fn listed() -> Vec<Kind> {
    vec![
        Kind::of::<core::v1::ConfigMap>(kinds::configmap::ConfigMap).short("cm"),
        Kind::of::<core::v1::Event>(kinds::event::Event).short("ev"),
        Kind::of::<core::v1::Namespace>(kinds::namespace::Namespace).short("ns").status().with(FINALIZE, &[]),
        Kind::of::<core::v1::Node>(kinds::node::Node).short("no").status(),
        Kind::of::<core::v1::Pod>(kinds::pod::Pod)
            .short("po")
            .all()
            .status()
            .generation()
            .with(POD, &[schema::<core::v1::Binding>, schema::<policy::v1::Eviction>, schema::<DeleteOptions>]),
        Kind::of::<core::v1::Secret>(kinds::secret::Secret),
        Kind::of::<core::v1::ServiceAccount>(kinds::Plain).short("sa").with(TOKEN, &[schema::<authn::TokenRequest>]),
        Kind::of::<core::v1::Service>(kinds::service::Service).short("svc").all().status(),
        Kind::of::<apps::v1::Deployment>(kinds::deployment::Deployment)
            .short("deploy")
            .all()
            .status()
            .generation()
            .with(SCALE, &[schema::<autoscaling::v1::Scale>]),
        Kind::of::<apps::v1::ReplicaSet>(kinds::replicaset::ReplicaSet)
            .short("rs")
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
        Kind::of::<coordination::v1::Lease>(kinds::lease::Lease),
        Kind::of::<discovery::v1::EndpointSlice>(kinds::endpointslice::EndpointSlice),
        Kind::of::<events::v1::Event>(kinds::event::NewEvent).short("ev").stored("", "events"),
        Kind::of::<rbac::v1::ClusterRole>(kinds::role::Role),
        Kind::of::<rbac::v1::ClusterRoleBinding>(kinds::role::Binding),
        Kind::of::<rbac::v1::Role>(kinds::role::Role),
        Kind::of::<rbac::v1::RoleBinding>(kinds::role::Binding),
    ]
}

struct BuiltIn {
    types: Arc<Types>,
    kinds: Vec<Arc<Kind>>,
}

static BUILT_IN: LazyLock<BuiltIn> = LazyLock::new(|| {
    let mut kinds = listed();
    let types = Arc::new(Types::of(&types::definitions(kinds.iter().flat_map(|k| k.schemas()))));
    for kind in &mut kinds {
        kind.shape = Shape::new(types.clone(), types.named(&kind.definition));
    }
    BuiltIn { types, kinds: kinds.into_iter().map(Arc::new).collect() }
});

/// The graph of the built-in kinds and of what their subresources take; made at the first use.
pub fn types() -> &'static Arc<Types> {
    &BUILT_IN.types
}

/// The shape of one of Kubernetes' own types, by its definition: `io.k8s.api.core.v1.Pod`.
pub fn shape_of(definition: &str) -> Shape {
    Shape::new(types().clone(), types().named(definition))
}

/// The kinds of a cluster at one moment: those that every cluster has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kinds;

impl Kinds {
    /// Those that every cluster has.
    pub fn built_in() -> Self {
        Self
    }

    /// In the order of discovery.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        BUILT_IN.kinds.iter()
    }

    /// The kind served under this group, version and plural.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.iter().find(|k| k.plural == plural && k.group == group && k.version == version)
    }

    /// The kind in which rows of this group and plural are stored.
    pub fn stored(&self, group: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.iter().find(|k| k.stored.0 == group && k.stored.1 == plural && k.group == group)
    }

    /// Every group with its versions, in the order of discovery; the core group first, as the empty text.
    pub fn groups(&self) -> Vec<(&str, Vec<&str>)> {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for kind in self.iter() {
            match groups.iter_mut().find(|(group, _)| *group == kind.group) {
                Some((_, versions)) if versions.contains(&kind.version.as_str()) => {}
                Some((_, versions)) => versions.push(&kind.version),
                None => groups.push((&kind.group, vec![&kind.version])),
            }
        }
        groups
    }

    /// The kinds of one group in one version.
    pub fn of_version<'a>(&'a self, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Arc<Kind>> {
        self.iter().filter(move |k| k.group == group && k.version == version)
    }
}
