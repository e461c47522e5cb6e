//! Kinds that a cluster defines for itself: from the row of a CustomResourceDefinition to the kinds that are served, one for
//! each version. They differ by their names and columns alone: there is no conversion but that of the version's name, so
//! that objects are stored as they were sent.

mod format;
pub mod path;
pub mod schema;
pub mod shape;

use std::sync::{Arc, LazyLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{Entry, KubeObject, Resource};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use self::path::Path;
use self::schema::Schema;
use crate::denied::Denied;
use crate::kind::{ApiResource, Origin, SCALE, ScalePaths};
use crate::names::Names;
use crate::strategy::{Cell, Column, Context, Result, Strategy, age_column, items, name_column};
use crate::types::{AddType, ListKey, Shape, Struct, Type, TypeId, Types, definitions};
use crate::validate::Errors;

/// The definition of metadata, which every kind has.
pub const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

fn metadata(generator: &mut SchemaGenerator) {
    generator.subschema_for::<ObjectMeta>();
}

/// The graph that those of all custom kinds begin with.
static BASE: LazyLock<Types> = LazyLock::new(|| {
    debug_assert_eq!(ObjectMeta::schema_name(), METADATA);
    Types::of(&definitions(std::iter::once(metadata as AddType)))
});

/// The kinds that a definition serves, the preferred version first. What its author could not write (it was checked then)
/// is left out.
pub fn kinds(definition: Entry<'_, KubeObject>) -> Vec<Arc<ApiResource>> {
    let (body, mut errors) = (&definition.value.body, Errors::default());
    let mut served: Vec<(usize, &Value)> =
        items(&body["spec"], "versions").enumerate().filter(|(_, version)| version["served"] == true).collect();
    served.sort_by_key(|(_, version)| priority(version["name"].as_str().unwrap_or("")));
    let kinds = served.into_iter().filter_map(|(place, version)| {
        let schema = schema::read(&version["schema"]["openAPIV3Schema"], "", &mut errors);
        kind(definition, place, version, schema)
    });
    let kinds: Vec<Arc<ApiResource>> = kinds.map(Arc::new).collect();
    if errors.is_empty() { kinds } else { Vec::new() }
}

/// Where a version stands: `v2` before `v1` before `v1beta2` before `v1alpha1` before other names.
fn priority(name: &str) -> (u8, std::cmp::Reverse<(u64, u64)>, String) {
    let number = |text: &str| text.parse::<u64>().ok();
    let parsed = name.strip_prefix('v').and_then(|rest| {
        let stage = rest.find(|c: char| !c.is_ascii_digit());
        let (major, stage) = rest.split_at(stage.unwrap_or(rest.len()));
        let (rank, minor) = match stage {
            "" => (0, 0),
            stage => match (stage.strip_prefix("beta"), stage.strip_prefix("alpha")) {
                (Some(minor), _) => (1, number(minor)?),
                (_, Some(minor)) => (2, number(minor)?),
                _ => return None,
            },
        };
        Some((rank, std::cmp::Reverse((number(major)?, minor))))
    });
    match parsed {
        Some((rank, order)) => (rank, order, String::new()),
        None => (3, std::cmp::Reverse((0, 0)), name.to_owned()),
    }
}

/// The version in which a definition's objects are stored.
pub fn storage_version(definition: &Value) -> &str {
    let stored = items(&definition["spec"], "versions").find(|version| version["storage"] == true);
    stored.and_then(|version| version["name"].as_str()).unwrap_or("")
}

fn kind(definition: Entry<'_, KubeObject>, place: usize, version: &Value, schema: Schema) -> Option<ApiResource> {
    let body = &definition.value.body;
    let (spec, words) = (&body["spec"], &body["spec"]["names"]);
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let names = Names {
        group: text(&spec["group"]),
        version: text(&version["name"]),
        kind: text(&words["kind"]),
        list: text(&words["listKind"]),
        plural: text(&words["plural"]),
        singular: text(&words["singular"]),
        short: schema::texts(&words["shortNames"]),
        categories: schema::texts(&words["categories"]),
        namespaced: spec["scope"] == "Namespaced",
    };
    let reversed: Vec<&str> = names.group.rsplit('.').collect();
    let schema = Arc::new(schema);
    let scale = &version["subresources"]["scale"];
    let strategy = Custom {
        schema: schema.clone(),
        columns: columns(version)?,
        selectable: items(version, "selectableFields")
            .filter_map(|field| field["jsonPath"].as_str().map(|path| path.trim_start_matches('.').to_owned()))
            .collect(),
        api_version: names.api_version(),
        stored_as: crate::names::group_version(&names.group, storage_version(body)),
        has_status: version["subresources"]["status"].is_object(),
        ends: definition.value.deleting(),
    };
    let stored = (names.group.clone(), names.plural.clone(), storage_version(body).to_owned());
    Some(ApiResource {
        definition: format!("{}.{}.{}", reversed.join("."), names.version, names.kind),
        shape: shape_of(schema),
        subresources: if scale.is_object() { SCALE } else { &[] },
        scale: ScalePaths::read(scale),
        status: strategy.has_status,
        generation: true,
        origin: Some(Origin { row: definition.row.clone(), version: place }),
        stored,
        names,
        ..ApiResource::with_schema(metadata, strategy)
    })
}

/// The columns of a version; those that its author does not name are the age.
fn columns(version: &Value) -> Option<Vec<Column>> {
    let mut columns = vec![name_column()];
    for column in items(version, "additionalPrinterColumns") {
        let text = |field: &str| column[field].as_str().unwrap_or("").to_owned();
        let path = Path::parse(column["jsonPath"].as_str()?)?;
        let date = column["type"] == "date";
        columns.push(Column {
            name: text("name").into(),
            kind: text("type").into(),
            format: text("format").into(),
            description: text("description").into(),
            priority: column["priority"].as_i64().unwrap_or(0) as i32,
            cell: if date { Cell::Since(path) } else { Cell::At(path) },
        });
    }
    if columns.len() == 1 {
        columns.push(age_column());
    }
    Some(columns)
}

/// The graph by which objects of a schema merge and are owned.
fn shape_of(schema: Arc<Schema>) -> Shape {
    let mut types = BASE.clone();
    let meta = types.named(METADATA);
    let root = node(&mut types, &schema);
    let text = types.push(Type::String);
    let root = match root {
        Type::Struct(mut root) => {
            for (name, id) in [("apiVersion", Some(text)), ("kind", Some(text)), ("metadata", meta)] {
                root.fields.insert(name.into(), id.unwrap_or(text));
            }
            Type::Struct(root)
        }
        other => other,
    };
    let root = types.push(root);
    Shape { types: Arc::new(types), root, schema: Some(schema) }
}

fn node(types: &mut Types, schema: &Schema) -> Type {
    let below = |types: &mut Types, schema: &Schema| -> TypeId {
        let node = node(types, schema);
        types.push(node)
    };
    match schema.is {
        Some(schema::Is::Array) => {
            let Some(inner) = &schema.items else { return Type::Any };
            let key = |name: &String| ListKey {
                name: name.as_str().into(),
                default: inner.fields.get(name).and_then(|field| field.default.clone()),
            };
            let keys = schema.keys.iter().map(key).collect();
            Type::List { item: below(types, inner), list: schema.list, keys, merge: None }
        }
        Some(schema::Is::Object) => match &schema.values {
            Some(values) if schema.fields.is_empty() => {
                Type::Map { value: below(types, values), atomic: schema.atomic }
            }
            _ => {
                let fields = schema.fields.iter().map(|(name, inner)| (name.as_str().into(), below(types, inner)));
                Type::Struct(Struct { definition: "".into(), fields: fields.collect(), atomic: schema.atomic })
            }
        },
        _ if schema.open => Type::Open,
        _ => Type::Any,
    }
}

/// What custom kinds add to the generic verbs.
struct Custom {
    schema: Arc<Schema>,
    columns: Vec<Column>,
    selectable: Vec<String>,
    api_version: String,
    /// The version that rows have.
    stored_as: String,
    has_status: bool,
    /// Its definition is being deleted.
    ends: bool,
}

impl Strategy for Custom {
    fn name_rule(&self) -> crate::validate::NameRule {
        crate::validate::NameRule::Subdomain
    }

    fn default(&self, object: &mut Value) {
        shape::default(&self.schema, object);
    }

    fn create(&self, _: &mut Value, _: &Context<'_>) -> Result<()> {
        match self.ends {
            true => {
                Err(Denied::Forbidden("create not allowed while custom resource definition is terminating".to_owned()))
            }
            false => Ok(()),
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        shape::validate(&self.schema, object, errors);
    }

    fn validate_status(&self, object: &Value, errors: &mut Errors) {
        shape::validate(&self.schema, object, errors);
    }

    fn is_another(&self, new: &Value, old: &Value) -> bool {
        let own = |name: &str| name != "metadata" && name != "apiVersion" && !(self.has_status && name == "status");
        let (Value::Object(new), Value::Object(old)) = (new, old) else { return true };
        let differs = |a: &serde_json::Map<String, Value>, b: &serde_json::Map<String, Value>| {
            a.iter().any(|(name, value)| own(name) && b.get(name) != Some(value))
        };
        differs(new, old) || differs(old, new)
    }

    fn selectable(&self) -> Vec<&str> {
        self.selectable.iter().map(String::as_str).collect()
    }

    fn columns(&self) -> Vec<Column> {
        self.columns.clone()
    }

    fn shown(&self, body: &Value) -> Option<Value> {
        (body["apiVersion"] != self.api_version.as_str()).then(|| {
            let mut shown = body.clone();
            shown["apiVersion"] = self.api_version.as_str().into();
            shown
        })
    }

    fn store(&self, body: &mut Value) {
        body["apiVersion"] = self.stored_as.as_str().into();
    }
}

/// What the documents say of a kind: its schema, with what every object has.
pub fn document(origin: &Origin) -> Value {
    let Some(definition) = KubeObject::of(&origin.row.object) else { return Value::Null };
    let mut schema = definition.body["spec"]["versions"][origin.version]["schema"]["openAPIV3Schema"].clone();
    let said = schema["properties"]["metadata"]["description"].clone();
    for (name, description) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        schema["properties"][name] = json!({"type": "string", "description": description});
    }
    schema["properties"]["metadata"] = json!({"allOf": [{"$ref": format!("#/components/schemas/{METADATA}")}],
        "description": said.as_str().unwrap_or("Standard object's metadata.")});
    schema
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object.";
const KIND: &str = "Kind is a string value representing the REST resource this object represents.";
