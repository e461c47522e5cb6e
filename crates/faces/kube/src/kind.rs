//! What a kind is, as data: what Kubernetes' own type says of it (group, version, kind, plural, scope, schema) comes from
//! k8s-openapi; what only the kind knows is its [`Strategy`]. Each file in `kinds` makes its own; those that a cluster defines for
//! itself are made from its rows (`custom`).

use std::sync::Arc;

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};
use model::Row;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use self::Given::{Nobody, View};
use crate::names::Names;
use crate::strategy::{Column, Plain, Strategy};
use crate::types::{AddType, Shape};

/// A kind of object, in one version: what discovery calls an APIResource, and what the API server knows of it besides.
pub struct ApiResource {
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
    /// What becomes of what users write in its specification.
    pub says: Says,
    pub columns: Vec<Column>,
    pub strategy: Arc<dyn Strategy>,
}

/// Everything that is said of a kind is said of its names first.
impl std::ops::Deref for ApiResource {
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

/// What is said of the fields of a kind's specification.
#[derive(Clone, Copy, Debug)]
pub enum Says {
    /// Nothing: its own schema does.
    Nothing,
    /// Struct by struct, in the order in which people meet them.
    Each(&'static [Treatment]),
    /// Why no field is ignored although there is no table.
    #[cfg_attr(not(test), allow(dead_code, reason = "who adds a kind is made to think of it"))]
    Why(&'static str),
}

/// What becomes of the fields of one struct of the API.
#[cfg_attr(not(test), allow(dead_code, reason = "tests hold the whole table against the schema and the page"))]
#[derive(Debug)]
pub struct Treatment {
    /// The last part of its definition's name.
    pub of: &'static str,
    /// Acted on; separated by spaces.
    pub done: &'static str,
    /// Refused with 403 by pod security where they reach beyond the pod.
    pub policed: &'static str,
    /// Accepted without effect: the field, and why nobody is harmed.
    pub idle: &'static [(&'static str, &'static str)],
    /// Refused, unless the value is one of those (as JSON) which ask for nothing: the field, these values, the words.
    pub refused: &'static [(&'static str, &'static [&'static str], &'static str)],
}

/// A struct of which every field is acted on.
pub const fn done(of: &'static str, done: &'static str) -> Treatment {
    Treatment { of, done, policed: "", idle: &[], refused: &[] }
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

/// Whether objects have a namespace.
pub trait Scope {
    const NAMESPACED: bool;
}
impl Scope for NamespaceResourceScope {
    const NAMESPACED: bool = true;
}
impl Scope for ClusterResourceScope {
    const NAMESPACED: bool = false;
}

/// Adds a type to a generator.
pub fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

impl ApiResource {
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
            says: Says::Nothing,
            columns: strategy.columns(),
            strategy: Arc::new(strategy),
        }
    }

    /// A kind of Kubernetes' own.
    pub fn of<T: Resource<Scope: Scope> + JsonSchema>(strategy: impl Strategy + 'static) -> Self {
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
    pub fn review<T: Resource<Scope: Scope> + JsonSchema>() -> Self {
        Self { review: true, ..Self::of::<T>(Plain) }.given(Nobody(ASKED)).no_table("a question")
    }

    /// A short name for the command line.
    pub fn short(mut self, short: &str) -> Self {
        self.names.short = vec![short.to_owned()];
        self
    }

    /// One more.
    pub fn also(mut self, short: &str) -> Self {
        self.names.short.push(short.to_owned());
        self
    }

    /// Part of `kubectl get all`.
    pub fn all(mut self) -> Self {
        self.names.categories = vec!["all".to_owned()];
        self
    }

    /// Which role gives it.
    pub fn given(self, given: Given) -> Self {
        Self { given, ..self }
    }

    /// What becomes of the fields of its specification, struct by struct.
    pub fn fields(self, table: &'static [Treatment]) -> Self {
        Self { says: Says::Each(table), ..self }
    }

    /// Why no field of it is ignored although it has no table of them.
    pub fn no_table(self, why: &'static str) -> Self {
        Self { says: Says::Why(why), ..self }
    }

    /// Has the subresource `status`.
    pub fn status(self) -> Self {
        Self { status: true, ..self }
    }

    /// Counts the changes of its specification.
    pub fn generation(self) -> Self {
        Self { generation: true, ..self }
    }

    /// Has these subresources, which take these types beside.
    pub fn with(self, subresources: &'static [Subresource], extra: &'static [AddType]) -> Self {
        Self { subresources, extra, ..self }
    }

    /// Shows the rows of another group's objects.
    pub fn stored(self, group: &str, plural: &str, version: &str) -> Self {
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

impl std::fmt::Debug for ApiResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.qualified())
    }
}

/// A subresource.
pub const fn sub(
    name: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
    given: Given,
) -> Subresource {
    Subresource { name, group, version, kind, verbs, given }
}

/// Why no role gives what everybody may ask.
pub const ASKED: &str = "everybody asks about themselves, administrators about others";
/// Why no role gives what only administrators have.
pub const WHOLE: &str = "is of the whole cluster";
/// The verbs of what becomes a stream.
pub const STREAM: &[&str] = &["create", "get"];
/// What shows and changes how many there shall be.
pub const SCALE: &[Subresource] = &[sub("scale", "autoscaling", "v1", "Scale", &["get", "patch", "update"], View)];
