//! What a kind is, and the kinds that every cluster has: one entry each, the rest is generic. What Kubernetes' own type says
//! (group, version, kind, plural, scope, schema) comes from k8s-openapi; what only the kind knows is its [`Strategy`]. Kinds
//! that a cluster defines for itself are made from its rows (`custom`); which there are, `known` says of one cluster at one
//! moment. A global list was refused: a kind of one cluster must not be there in another.

use std::sync::{Arc, LazyLock};

use k8s_openapi::api::authentication::v1 as authn;
use k8s_openapi::api::authorization::v1 as authz;
use k8s_openapi::api::{
    admissionregistration, apps, autoscaling, batch, coordination, core, discovery, events, policy, rbac,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};
use model::Row;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use crate::kinds::{self, Column, Strategy};
use crate::names::Names;
use crate::types::{self, AddType, Shape, Types};
use Given::{Admin, Edit, Nobody, Read, View};

/// A kind of object, in one version.
pub struct Kind {
    pub names: Names,
    /// The name of its schema's definition.
    pub definition: String,
    pub shape: Shape,
    /// Its own type's, or that of what a custom kind has in common with all.
    pub schema: AddType,
    /// Types that only subresources take, and the schema of each.
    pub extra: &'static [AddType],
    /// Group, plural and version in which rows are stored: another kind's where two APIs show the same objects.
    pub stored: (String, String, String),
    /// Subresources: name, group, version and kind of what they take, verbs.
    pub subresources: &'static [Subresource],
    /// Where `scale` finds what it shows.
    pub scale: ScalePaths,
    /// `status` is a subresource: what is written beside it leaves `status` alone, and the reverse.
    pub status: bool,
    /// `metadata.generation` counts the changes of the specification.
    pub generation: bool,
    /// Never stored: creating one is asking a question.
    pub review: bool,
    /// The definition that makes it, of a kind of a cluster's own.
    pub origin: Option<Origin>,
    pub given: Given,
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

/// The row of a CustomResourceDefinition, and which of its versions.
#[derive(Clone, Debug)]
pub struct Origin {
    pub row: Arc<Row>,
    pub version: usize,
}

/// Where the subresource `scale` finds what it shows.
#[derive(Clone, Debug)]
pub struct ScalePaths {
    pub wanted: Vec<String>,
    pub there: Vec<String>,
    /// A selector as an object, or as text.
    pub selector: Vec<String>,
}

impl Default for ScalePaths {
    fn default() -> Self {
        let path = |group: &str, field: &str| vec![group.to_owned(), field.to_owned()];
        Self { wanted: path("spec", "replicas"), there: path("status", "replicas"), selector: path("spec", "selector") }
    }
}

impl ScalePaths {
    /// Those that a definition names.
    pub fn read(scale: &Value) -> Self {
        let path = |field: &str| -> Vec<String> {
            let text = scale[field].as_str().unwrap_or("");
            text.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        let (wanted, there) = (path("specReplicasPath"), path("statusReplicasPath"));
        Self { wanted, there, selector: path("labelSelectorPath") }
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
    pub given: Given,
}

/// Which of the cluster roles that Kubernetes documents for people (`view`, `edit`, `admin`, each with what the one before
/// gives) reads and writes a kind. `cluster-admin` gives everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Read by `view`, written by `edit`.
    View,
    /// Read by `view`, written by none of them.
    Read,
    /// Read and written by `edit`: what is secret.
    Edit,
    /// Read and written by `admin`: who may what.
    Admin,
    /// By none of them, and why.
    Nobody(&'static str),
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
    /// A kind that has no name yet.
    pub fn with_schema(schema: AddType, strategy: impl Strategy + 'static) -> Self {
        Self {
            names: Names::default(),
            definition: String::new(),
            shape: Shape::default(),
            schema,
            extra: &[],
            stored: Default::default(),
            subresources: &[],
            scale: ScalePaths::default(),
            status: false,
            generation: false,
            review: false,
            origin: None,
            given: Nobody("which role gives it, its definition does not say"),
            columns: strategy.columns(),
            strategy: Arc::new(strategy),
        }
    }

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
            stored: (T::GROUP.to_owned(), T::URL_PATH_SEGMENT.to_owned(), T::VERSION.to_owned()),
            ..Self::with_schema(schema::<T>, strategy)
        }
    }

    /// A kind that is asked, not stored.
    fn review<T: Resource<Scope: Scope> + JsonSchema>() -> Self {
        Self { review: true, ..Self::of::<T>(kinds::Plain) }.given(Nobody(ASKED))
    }

    fn short(mut self, short: &str) -> Self {
        self.names.short = vec![short.to_owned()];
        self
    }

    fn also(mut self, short: &str) -> Self {
        self.names.short.push(short.to_owned());
        self
    }

    /// Part of `kubectl get all`.
    fn all(mut self) -> Self {
        self.names.categories = vec!["all".to_owned()];
        self
    }

    fn given(self, given: Given) -> Self {
        Self { given, ..self }
    }

    fn status(self) -> Self {
        Self { status: true, ..self }
    }

    fn generation(self) -> Self {
        Self { generation: true, ..self }
    }

    fn with(self, subresources: &'static [Subresource], extra: &'static [AddType]) -> Self {
        Self { subresources, extra, ..self }
    }

    /// Shows the rows of another group's objects.
    fn stored(self, group: &str, plural: &str, version: &str) -> Self {
        Self { stored: (group.to_owned(), plural.to_owned(), version.to_owned()), ..self }
    }

    /// The schema of the kind and those of what its subresources take.
    pub fn schemas(&self) -> impl Iterator<Item = AddType> + use<> {
        std::iter::once(self.schema).chain(self.extra.iter().copied())
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
    given: Given,
) -> Subresource {
    Subresource { name, group, version, kind, verbs, given }
}

const ASKED: &str = "everybody asks about themselves, administrators about others";
const WHOLE: &str = "is of the whole cluster";

const STREAM: &[&str] = &["create", "get"];
const FINALIZE: &[Subresource] =
    &[sub("finalize", "", "v1", "Namespace", &["update"], Nobody("for who empties namespaces"))];
const TOKEN: &[Subresource] = &[sub("token", "authentication.k8s.io", "v1", "TokenRequest", &["create"], Edit)];
const POD: &[Subresource] = &[
    sub("attach", "", "v1", "PodAttachOptions", STREAM, Edit),
    sub("binding", "", "v1", "Binding", &["create"], Nobody("for schedulers")),
    sub("eviction", "policy", "v1", "Eviction", &["create"], Edit),
    sub("exec", "", "v1", "PodExecOptions", STREAM, Edit),
    sub("log", "", "v1", "Pod", &["get"], View),
    sub("portforward", "", "v1", "PodPortForwardOptions", STREAM, Edit),
];
pub const SCALE: &[Subresource] = &[sub("scale", "autoscaling", "v1", "Scale", &["get", "patch", "update"], View)];

/// Every kind of Kubernetes' own, in the order of discovery.
fn listed() -> Vec<Kind> {
    vec![
        Kind::of::<core::v1::ConfigMap>(kinds::configmap::ConfigMap).short("cm").given(View),
        Kind::of::<core::v1::Event>(kinds::event::Event).short("ev").given(View),
        Kind::of::<core::v1::Namespace>(kinds::namespace::Namespace)
            .short("ns")
            .status()
            .with(FINALIZE, &[])
            .given(Read),
        Kind::of::<core::v1::Node>(kinds::node::Node)
            .short("no")
            .status()
            .given(Nobody("hosts are shared by projects")),
        Kind::of::<core::v1::Pod>(kinds::pod::Pod)
            .short("po")
            .given(View)
            .all()
            .status()
            .generation()
            .with(POD, &[schema::<core::v1::Binding>, schema::<policy::v1::Eviction>, schema::<DeleteOptions>]),
        Kind::of::<core::v1::Secret>(kinds::secret::Secret).given(Edit),
        Kind::of::<core::v1::ServiceAccount>(kinds::Plain)
            .short("sa")
            .given(View)
            .with(TOKEN, &[schema::<authn::TokenRequest>]),
        Kind::of::<core::v1::Service>(kinds::service::Service).short("svc").all().status().given(View),
        Kind::of::<apps::v1::Deployment>(kinds::deployment::Deployment)
            .short("deploy")
            .given(View)
            .all()
            .status()
            .generation()
            .with(SCALE, &[schema::<autoscaling::v1::Scale>]),
        Kind::of::<apps::v1::ReplicaSet>(kinds::replicaset::ReplicaSet)
            .short("rs")
            .given(View)
            .all()
            .status()
            .generation()
            .with(SCALE, &[]),
        Kind::of::<batch::v1::Job>(kinds::job::Job).given(View).all().status().generation(),
        Kind::of::<admissionregistration::v1::ValidatingWebhookConfiguration>(
            kinds::webhook::ValidatingWebhookConfiguration,
        )
        .generation()
        .given(Nobody(WHOLE)),
        Kind::of::<extensions::CustomResourceDefinition>(kinds::crd::CustomResourceDefinition)
            .short("crd")
            .also("crds")
            .given(Nobody(WHOLE))
            .status()
            .generation(),
        Kind::review::<authn::TokenReview>(),
        Kind::review::<authn::SelfSubjectReview>(),
        Kind::review::<authz::LocalSubjectAccessReview>().given(Admin),
        Kind::review::<authz::SelfSubjectAccessReview>(),
        Kind::review::<authz::SelfSubjectRulesReview>(),
        Kind::review::<authz::SubjectAccessReview>(),
        Kind::of::<coordination::v1::Lease>(kinds::lease::Lease).given(Edit),
        Kind::of::<discovery::v1::EndpointSlice>(kinds::endpointslice::EndpointSlice).given(Read),
        Kind::of::<events::v1::Event>(kinds::event::NewEvent).short("ev").stored("", "events", "v1").given(Read),
        Kind::of::<rbac::v1::ClusterRole>(kinds::role::Role).given(Nobody(WHOLE)),
        Kind::of::<rbac::v1::ClusterRoleBinding>(kinds::role::Binding).given(Nobody(WHOLE)),
        Kind::of::<rbac::v1::Role>(kinds::role::Role).given(Admin),
        Kind::of::<rbac::v1::RoleBinding>(kinds::role::Binding).given(Admin),
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

/// Every kind that all clusters have, in the order of discovery.
pub fn built_in() -> &'static [Arc<Kind>] {
    &BUILT_IN.kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kind is given by a role, or says why by none: `given` has no value that means that nobody thought of it, and the
    /// one that custom kinds have is not for these.
    #[test]
    fn every_kind_has_a_place_in_the_roles() {
        let custom = Kind::with_schema(schema::<core::v1::ConfigMap>, kinds::Plain).given;
        let forgotten: Vec<&Arc<Kind>> = built_in().iter().filter(|kind| kind.given == custom).collect();
        assert!(forgotten.is_empty(), "in no role, without a reason: {forgotten:?}");
        for kind in built_in() {
            assert!(
                model::is_kubernetes_group(&kind.group),
                "{} is not listed as one of Kubernetes' groups",
                kind.group
            );
        }
    }
}
