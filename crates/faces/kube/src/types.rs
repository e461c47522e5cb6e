//! The shape of every kind, as a compact graph: made once from k8s-openapi's schemas for the built-in ones, what decoding checks, and by what
//! patches and field ownership merge. Decoding into k8s-openapi's Rust types was refused: it says neither which field was
//! unknown nor where a wrong value stood, costs a round trip, and cannot serve custom resources later.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::custom::schema::Schema;
use crate::upstream::{self, ListType};

/// Adds a type and all that it reaches to a generator.
pub type AddType = fn(&mut SchemaGenerator);

/// A node of the graph.
pub type TypeId = u32;

/// What a value may be.
#[derive(Clone, Debug)]
pub enum Type {
    /// Whatever JSON.
    Any,
    String,
    /// Bytes in base64.
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    Int32,
    Int64,
    Number,
    Bool,
    List {
        item: TypeId,
        list: ListType,
        /// What tells the items of a list of type map apart.
        keys: Box<[ListKey]>,
        /// Strategic merge patch merges the list, by this key of its items; by the empty one whole values.
        merge: Option<&'static str>,
    },
    Map {
        value: TypeId,
        atomic: bool,
    },
    Struct(Struct),
    /// Whatever JSON, whose objects merge field by field.
    Open,
}

/// A field that tells the items of a list apart.
#[derive(Clone, Debug)]
pub struct ListKey {
    pub name: Box<str>,
    /// What it is where an item does not say.
    pub default: Option<Value>,
}

/// A struct with named fields.
#[derive(Clone, Debug)]
pub struct Struct {
    /// The name of its definition: `io.k8s.api.core.v1.PodSpec`.
    pub definition: Arc<str>,
    pub fields: BTreeMap<Box<str>, TypeId>,
    pub atomic: bool,
}

impl Struct {
    /// The last part of its definition's name: `PodSpec`.
    pub fn name(&self) -> &str {
        self.definition.rsplit('.').next().unwrap_or(&self.definition)
    }
}

/// A graph of types.
#[derive(Clone, Debug, Default)]
pub struct Types {
    nodes: Vec<Type>,
    names: HashMap<String, TypeId>,
}

/// The shape of a kind: its place in a graph, and the schema of a kind that a cluster defines for itself.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    pub types: Arc<Types>,
    pub root: TypeId,
    pub schema: Option<Arc<Schema>>,
}

impl Shape {
    /// What is not in the graph may be whatever JSON.
    pub fn new(types: Arc<Types>, root: Option<TypeId>) -> Self {
        Self { types, root: root.unwrap_or(TypeId::MAX), schema: None }
    }
}

/// The schema definitions that these schemas reach, by name.
pub fn definitions(schemas: impl Iterator<Item = AddType>) -> Map<String, Value> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    for schema in schemas {
        schema(&mut generator);
    }
    generator.take_definitions(false).into_iter().map(|(name, schema)| (name, schema.into())).collect()
}

impl Types {
    pub fn of(definitions: &Map<String, Value>) -> Self {
        let mut types = Self::default();
        for name in definitions.keys() {
            types.definition(name, definitions);
        }
        types.nodes.shrink_to_fit();
        types
    }

    pub fn get(&self, id: TypeId) -> &Type {
        self.nodes.get(id as usize).unwrap_or(&Type::Any)
    }

    /// The node of a definition: `io.k8s.api.core.v1.Pod`.
    pub fn named(&self, definition: &str) -> Option<TypeId> {
        self.names.get(definition).copied()
    }

    pub fn push(&mut self, node: Type) -> TypeId {
        self.nodes.push(node);
        (self.nodes.len() - 1) as TypeId
    }

    fn definition(&mut self, name: &str, definitions: &Map<String, Value>) -> TypeId {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        // The place is taken first: definitions may contain themselves.
        let id = self.push(Type::Any);
        self.names.insert(name.to_owned(), id);
        let short = name.rsplit('.').next().unwrap_or(name);
        let node = match short {
            "Quantity" => Type::Quantity,
            "IntOrString" => Type::IntOrString,
            "Time" => Type::Time,
            "MicroTime" => Type::MicroTime,
            "RawExtension" | "FieldsV1" | "JSON" => Type::Any,
            _ => match definitions.get(name) {
                Some(schema) => self.node(schema, name, "", definitions),
                None => Type::Any,
            },
        };
        self.nodes[id as usize] = node;
        id
    }

    /// The node of a schema that stands in `field` of `owner`.
    fn node(&mut self, schema: &Value, definition: &str, field: &str, definitions: &Map<String, Value>) -> Type {
        match schema["type"].as_str() {
            Some("string") => match schema["format"].as_str() {
                Some("byte") => Type::Bytes,
                Some("date-time") => Type::Time,
                _ => Type::String,
            },
            Some("integer") => match schema["format"].as_str() {
                Some("int32") => Type::Int32,
                _ => Type::Int64,
            },
            Some("number") => Type::Number,
            Some("boolean") => Type::Bool,
            Some("array") => {
                let item = self.reference(&schema["items"], definition, field, definitions);
                let rule = upstream::rule(definition, field);
                let key = |name: &&str| ListKey {
                    name: (*name).into(),
                    default: upstream::key_default(name).map(Value::from),
                };
                let keys = rule.keys.iter().map(key).collect();
                Type::List { item, list: rule.list, keys, merge: rule.merge }
            }
            Some("object") if schema["properties"].is_object() => {
                let mut fields = BTreeMap::new();
                for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                    fields.insert(name.as_str().into(), self.reference(schema, definition, name, definitions));
                }
                Type::Struct(Struct { definition: definition.into(), fields, atomic: upstream::atomic(definition) })
            }
            Some("object") if schema["additionalProperties"].is_object() => {
                let value = self.reference(&schema["additionalProperties"], definition, field, definitions);
                Type::Map { value, atomic: upstream::rule(definition, field).atomic }
            }
            // A struct without fields: `emptyDir: {}` has some, but `ContainerUser` like ones may not.
            Some("object") if !field.is_empty() || schema.get("additionalProperties").is_some() => Type::Any,
            Some("object") => {
                Type::Struct(Struct { definition: definition.into(), fields: BTreeMap::new(), atomic: false })
            }
            _ => Type::Any,
        }
    }

    fn reference(&mut self, schema: &Value, definition: &str, field: &str, definitions: &Map<String, Value>) -> TypeId {
        let reference = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str());
        if let Some(name) = reference.and_then(|r| r.rsplit('/').next()) {
            return self.definition(name, definitions);
        }
        let node = self.node(schema, definition, field, definitions);
        self.push(node)
    }
}
