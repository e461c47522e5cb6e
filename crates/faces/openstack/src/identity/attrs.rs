//! The attributes of Keystone's resources, each written once: its name, the form of its value, who may set it and when, where it is
//! in the row, and how lists are filtered by it. What is shown and filtered by, what creation and update copy into the row,
//! `docs/identity.md` and the bodies of the tests that try others' ids follow. A resource writes by hand only what is a rule.
//!
//! Refused: Neutron's declarations (`network::attrs`) for these. Keystone keeps what it does not know, filters by parts of texts, and
//! looks at forms in words of its own.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Deref;

use model::{Entry, Fault, Kind, Resource, Snapshot};
use serde_json::{Value, json};

use super::wire::{self, Fields, asked, base, invalid, missing, short};
use crate::call::{Call, Reply};
use crate::json::{Json, Named};
use crate::service::{Property, Takes};

/// The most bytes of one text, and of all that is kept of a resource without being known: what a text of Keystone's tables holds.
const LONGEST: usize = u16::MAX as usize;

/// The form of an attribute's value.
#[derive(Clone, Copy, Debug)]
pub enum Is {
    /// A text of 1 to so many characters that is not blank.
    Name(usize),
    /// A text; null is as if it were not there.
    Text,
    /// A text, or null, which takes it away.
    TextOrNull,
    Flag,
    /// The id of a row of one of these kinds, which is not to be had as text: [`Fields::reference`].
    Id(&'static [Kind]),
    IdOrNull(&'static [Kind]),
    Tags,
    /// The resource looks at it itself.
    Any,
}

impl Is {
    /// The kinds of the rows that a value names.
    pub fn refers_to(self) -> &'static [Kind] {
        if let Self::Id(kinds) | Self::IdOrNull(kinds) = self { kinds } else { &[] }
    }

    /// Null is as if nothing were said.
    fn is_absent(self, value: &Value) -> bool {
        value.is_null() && matches!(self, Self::Text | Self::Id(_))
    }

    /// Refuses what is of another form.
    fn check(self, name: &str, value: &Value) -> Result<(), Fault> {
        let wrong = |types: &str| Err(invalid(name, &format!("{} is not of type {types}", short(value))));
        match (self, value) {
            (Self::Name(most), Value::String(text)) => check_name(name, value, text, most),
            (Self::Name(_), _) => wrong("'string'"),
            (_, Value::String(text)) if text.len() > LONGEST => Err(too_long(name, value)),
            (Self::Text | Self::TextOrNull | Self::Id(_) | Self::IdOrNull(_), Value::String(_) | Value::Null) => Ok(()),
            (Self::Text | Self::TextOrNull | Self::Id(_) | Self::IdOrNull(_), _) => wrong("'string', 'null'"),
            (Self::Flag, Value::Bool(_)) | (Self::Any, _) => Ok(()),
            (Self::Flag, _) => wrong("'boolean'"),
            (Self::Tags, _) => wire::tags(value).map(drop),
        }
    }
}

fn check_name(name: &str, value: &Value, text: &str, most: usize) -> Result<(), Fault> {
    if text.trim().is_empty() {
        return Err(invalid(name, &format!("{} does not match '[\\\\S]+'", short(value))));
    }
    match text.chars().count() > most {
        true => Err(too_long(name, value)),
        false => Ok(()),
    }
}

fn too_long(name: &str, value: &Value) -> Fault {
    invalid(name, &format!("{} is too long", short(value)))
}

/// When an attribute may be set. What may not be set is passed over, as by Keystone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    Never,
    Create,
    CreateUpdate,
}

/// How lists are filtered by an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Nothing,
    /// `name=x`, and `name__contains=x` and the like.
    Text,
    /// Everything but `0` and `false` means yes.
    Flag,
    /// `tags`, `tags-any`, `not-tags` and `not-tags-any`, each with a list.
    Tags,
    /// The resource does it itself.
    Hand,
}

type Get<T> = for<'a> fn(&'a Call, &'a T) -> Json<'a>;

/// One attribute of a resource.
pub struct Attr<T: 'static> {
    pub name: &'static str,
    pub is: Is,
    pub set: Set,
    pub required: bool,
    /// Lists leave it out.
    pub alone: bool,
    pub by: By,
    pub get: Get<T>,
    /// It is plain: what is given is put into the row, and that is all.
    pub put: Option<fn(&mut T, &Value)>,
}

/// An attribute that nobody sets.
pub const fn shown<T>(name: &'static str, get: Get<T>) -> Attr<T> {
    let (is, set, by) = (Is::Any, Set::Never, By::Nothing);
    Attr { name, is, set, required: false, alone: false, by, get, put: None }
}

/// An attribute that may be set at creation and changed later, by a rule of the resource.
pub const fn ruled<T>(name: &'static str, is: Is, get: Get<T>) -> Attr<T> {
    Attr { is, set: Set::CreateUpdate, ..shown(name, get) }
}

/// An attribute that a request says something by and that is not shown.
pub const fn said<T>(name: &'static str, is: Is) -> Attr<T> {
    Attr { is, set: Set::CreateUpdate, ..shown(name, |_, _| Json::Absent) }
}

impl<T> Attr<T> {
    /// May be set at creation only.
    pub const fn once(self) -> Self {
        Self { set: Set::Create, ..self }
    }
    /// Must be given at creation.
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }
    /// Lists leave it out.
    pub const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }
    /// Lists are filtered by it.
    pub const fn by(self, by: By) -> Self {
        Self { by, ..self }
    }
    /// It is plain, and put into the row like this.
    pub const fn put(self, put: fn(&mut T, &Value)) -> Self {
        Self { put: Some(put), ..self }
    }
    /// It is shown otherwise than it is kept.
    pub const fn get(self, get: Get<T>) -> Self {
        Self { get, ..self }
    }

    /// What is declared of the attribute, whatever it is an attribute of.
    pub const fn declared(&self) -> Attr<()> {
        let Self { name, is, set, required, alone, by, .. } = *self;
        Attr { is, set, required, alone, by, ..shown(name, |_, _| Json::Absent) }
    }

    const fn may_be_set(&self, creates: bool) -> bool {
        matches!((self.set, creates), (Set::CreateUpdate, _) | (Set::Create, true))
    }
}

/// A plain attribute: a field of the row, which is the attribute's name unless another one is said.
/// `field!(enabled: Is::Flag)`, `field!("type" kind: Is::Text)`; without a form nobody sets it.
macro_rules! field {
    ($field:ident) => {
        $crate::identity::attrs::shown::<Self>(stringify!($field), |_, row| (&row.$field).into())
    };
    ($field:ident: $is:expr) => {
        $crate::identity::attrs::field!(stringify!($field), $field, $is)
    };
    ($name:literal $field:ident: $is:expr) => {
        $crate::identity::attrs::field!($name, $field, $is)
    };
    ($name:expr, $field:ident, $is:expr) => {
        $crate::identity::attrs::ruled::<Self>($name, $is, |_, row| (&row.$field).into())
            .put(|row, given| $crate::json::Put::put(&mut row.$field, given))
    };
}
pub(super) use field;

type Extra = BTreeMap<String, Value>;

/// What becomes of an attribute of which nothing is declared.
pub enum Unknown<T> {
    /// It is kept here, and shown as it was sent.
    Kept(fn(&T) -> &Extra, fn(&mut T) -> &mut Extra),
    PassedOver,
    Refused,
}

/// A resource of Keystone's.
pub trait KeystoneResource: Resource {
    /// `project`
    const ONE: &'static str;
    /// `projects`
    const MANY: &'static str;
    const ATTRS: &'static [Attr<Self>];
    const UNKNOWN: Unknown<Self> = Unknown::PassedOver;

    /// Where it is, below `/v3/`.
    fn path(&self) -> String;
}

fn is_declared<T: KeystoneResource>(name: &str) -> bool {
    name == "links" || T::ATTRS.iter().any(|attr| attr.name == name)
}

/// A body that makes a resource or changes one, of the forms that are declared.
pub struct Given<T> {
    fields: Fields,
    creates: bool,
    of: PhantomData<fn(T)>,
}

impl<T> Deref for Given<T> {
    type Target = Fields;
    fn deref(&self) -> &Fields {
        &self.fields
    }
}

impl<T: KeystoneResource> Given<T> {
    /// The body of a creation.
    pub async fn new(call: &mut Call) -> Result<Self, Fault> {
        Self::read(call, true).await
    }

    /// The body of an update of what the path names.
    pub async fn change(call: &mut Call) -> Result<Self, Fault> {
        let given = Self::read(call, false).await?;
        let other = |id: &Value| !id.is_null() && call.params.values().all(|own| id != own.as_str());
        if given.get("id").is_some_and(other) {
            return Err(Fault::invalid("Cannot change ID"));
        }
        Ok(given)
    }

    async fn read(call: &mut Call, creates: bool) -> Result<Self, Fault> {
        let given = Self { fields: Fields::read(call, T::ONE).await?, creates, of: PhantomData };
        for attr in given.settable() {
            match given.get(attr.name).filter(|value| !attr.is.is_absent(value)) {
                Some(value) => attr.is.check(attr.name, value)?,
                None if creates && attr.required => return Err(missing(attr.name)),
                None => {}
            }
        }
        let known = |name: &str| given.settable().any(|attr| attr.name == name);
        if let (Unknown::Refused, Some(name)) = (T::UNKNOWN, given.names().find(|name| !known(name))) {
            return Err(invalid(T::ONE, &format!("'{name}' is unknown")));
        }
        Ok(given)
    }

    fn settable(&self) -> impl Iterator<Item = &'static Attr<T>> + use<T> {
        let creates = self.creates;
        T::ATTRS.iter().filter(move |attr| attr.may_be_set(creates))
    }

    /// The row with the plain attributes that were given, and with what is kept without being known. That may only become less where it is
    /// too much already.
    pub fn fill(&self, mut row: T) -> Result<T, Fault> {
        for attr in self.settable() {
            if let (Some(put), Some(value)) = (attr.put, self.get(attr.name).filter(|value| !attr.is.is_absent(value)))
            {
                put(&mut row, value);
            }
        }
        if let Unknown::Kept(_, kept) = T::UNKNOWN {
            let kept = kept(&mut row);
            let before = size(kept);
            let unknown = self.names().filter(|name| !is_declared::<T>(name));
            kept.extend(unknown.filter_map(|name| Some((name.to_owned(), self.get(name)?.clone()))));
            let after = size(kept);
            if after > LONGEST.max(before) {
                let why =
                    format!("attributes that are not Keystone's have {after} bytes together, of at most {LONGEST}");
                return Err(invalid(T::ONE, &why));
            }
        }
        Ok(row)
    }
}

/// The bytes of attributes that are kept without being known.
pub fn size(extra: &Extra) -> usize {
    json!(extra).to_string().len()
}

/// A resource as an answer shows it, by itself or in a list.
fn object<'a, T: KeystoneResource>(call: &'a Call, row: &'a T, alone: bool) -> Vec<(&'a str, Json<'a>)> {
    let declared = T::ATTRS.iter().filter(|attr| alone || !attr.alone).map(|attr| (attr.name, (attr.get)(call, row)));
    let mut object: Vec<_> = declared.collect();
    if let Unknown::Kept(kept, _) = T::UNKNOWN {
        let unknown = kept(row).iter().filter(|(name, _)| !is_declared::<T>(name));
        object.extend(unknown.map(|(name, value)| (name.as_str(), value.into())));
    }
    let own = Json::from(format!("{}/{}", base(call), row.path()));
    object.push(("links", Json::object([("self", own)])));
    object
}

/// A resource in a list.
pub fn item<'a, T: KeystoneResource>(call: &'a Call, row: &'a T) -> Json<'a> {
    Json::Object(object(call, row, false)).sorted()
}

/// The row with this id.
pub fn find<'a, T: KeystoneResource>(snapshot: &'a Snapshot, id: &str) -> Result<Entry<'a, T>, Fault> {
    snapshot.get::<T>(id).ok_or_else(|| Fault::NotFound { what: T::ONE.into(), id: id.to_owned() })
}

/// An answer with one resource.
pub fn reply<T: KeystoneResource>(call: &Call, status: u16, row: &T) -> Reply {
    reply_with(call, status, row, [])
}

/// The same with more than the resource has.
pub fn reply_with<'a, T: KeystoneResource, const N: usize>(
    call: &'a Call,
    status: u16,
    row: &'a T,
    more: [(&'a str, Json<'a>); N],
) -> Reply {
    let mut all = object(call, row, true);
    all.extend(more);
    Reply::json(status, &Named(T::ONE, Json::Object(all).sorted()))
}

/// A list of those that pass the query's filters, or the page of it that the query asks for. Pages are in the order of ids: so many,
/// after the one whose id is the marker, which need not be there any more.
pub fn list<'a, T: KeystoneResource>(call: &'a Call, rows: impl Iterator<Item = &'a T>) -> Result<Reply, Fault> {
    let filters = Filters::<T>::of(call);
    let mut rows: Vec<&T> = rows.filter(|row| filters.pass(call, row)).collect();
    let (limit, marker) = (call.query("limit"), call.query("marker"));
    let limit = limit.map(|text| text.parse().map_err(|_| invalid("limit", &format!("'{text}' is not a number"))));
    let limit = limit.transpose()?.filter(|limit: &usize| *limit > 0);
    let mut next = None;
    if limit.is_some() || marker.is_some() {
        rows.sort_by_cached_key(|row| row.name());
        rows.retain(|row| marker.is_none_or(|marker| row.name().as_str() > marker));
        let room = limit.unwrap_or(usize::MAX);
        next = (rows.len() > room).then(|| rows.get(room - 1).map(|row| row.name())).flatten();
        rows.truncate(room);
    }
    Ok(wire::page(call, T::MANY, rows.into_iter().map(|row| item(call, row)), next.as_deref()))
}

type Check<'q> = Box<dyn Fn(&Json<'_>) -> bool + 'q>;

/// The filters that a query names.
struct Filters<'q, T: 'static>(Vec<(&'static Attr<T>, Check<'q>)>);

impl<'q, T: KeystoneResource> Filters<'q, T> {
    fn of(call: &'q Call) -> Self {
        let all = T::ATTRS.iter().flat_map(|attr| {
            let named = call.query.iter().filter_map(|(name, wanted)| check(attr, name, wanted));
            named.map(move |check| (attr, check))
        });
        Self(all.collect())
    }

    fn pass(&self, call: &Call, row: &T) -> bool {
        self.0.iter().all(|(attr, check)| check(&(attr.get)(call, row)))
    }
}

/// What a parameter asks of an attribute, if it asks anything.
fn check<'q, T>(attr: &Attr<T>, name: &str, wanted: &'q str) -> Option<Check<'q>> {
    match attr.by {
        By::Nothing | By::Hand => None,
        By::Flag if name == attr.name => {
            Some(Box::new(move |flag| matches!(flag, Json::Bool(is) if *is == asked(wanted))))
        }
        By::Flag => None,
        By::Text => {
            let test = compared(name.strip_prefix(attr.name)?, wanted)?;
            Some(Box::new(move |value| test(&value.text().unwrap_or_default())))
        }
        By::Tags => {
            let tags: Vec<&str> = wanted.split(',').collect();
            let has = |of: &Json<'_>, tag: &str| of.items().iter().any(|own| own.text().is_some_and(|own| own == tag));
            let all = move |of: &Json<'_>, tags: &[&str]| tags.iter().all(|tag| has(of, tag));
            let any = move |of: &Json<'_>, tags: &[&str]| tags.iter().any(|tag| has(of, tag));
            match name {
                "tags" => Some(Box::new(move |of| all(of, &tags))),
                "tags-any" => Some(Box::new(move |of| any(of, &tags))),
                "not-tags" => Some(Box::new(move |of| !all(of, &tags))),
                "not-tags-any" => Some(Box::new(move |of| !any(of, &tags))),
                _ => None,
            }
        }
    }
}

type Compare<'q> = Box<dyn Fn(&str) -> bool + 'q>;

/// How a text is compared, by what follows the attribute's name.
fn compared<'q>(how: &str, wanted: &'q str) -> Option<Compare<'q>> {
    let lower = || wanted.to_lowercase();
    Some(match how {
        "" => Box::new(move |text| text == wanted),
        "__contains" => Box::new(move |text| text.contains(wanted)),
        "__startswith" => Box::new(move |text| text.starts_with(wanted)),
        "__endswith" => Box::new(move |text| text.ends_with(wanted)),
        "__icontains" => with_lower(lower(), |text, wanted| text.contains(wanted)),
        "__istartswith" => with_lower(lower(), |text, wanted| text.starts_with(wanted)),
        "__iendswith" => with_lower(lower(), |text, wanted| text.ends_with(wanted)),
        _ => return None,
    })
}

fn with_lower<'q>(wanted: String, test: fn(&str, &str) -> bool) -> Compare<'q> {
    Box::new(move |text| test(&text.to_lowercase(), &wanted))
}

/// What is declared of a resource.
pub struct Declared {
    pub one: &'static str,
    /// Its list's path.
    pub path: &'static str,
    pub attrs: Vec<Attr<()>>,
    /// What becomes of attributes of which nothing is declared, in words.
    pub unknown: &'static str,
}

impl Declared {
    pub fn of<T: KeystoneResource>(path: &'static str) -> Self {
        let unknown = match T::UNKNOWN {
            Unknown::Kept(..) => "kept",
            Unknown::PassedOver => "passed over",
            Unknown::Refused => "refused",
        };
        Self { one: T::ONE, path, attrs: T::ATTRS.iter().map(Attr::declared).collect(), unknown }
    }

    /// What a creation takes, or a change.
    pub fn body(&self, creates: bool) -> Takes {
        let property = |attr: &Attr<()>| {
            let refers_to: Vec<_> = attr.is.refers_to().iter().map(|kind| (*kind, r#""$""#.to_owned())).collect();
            let plain = refers_to.is_empty() && !matches!(attr.is, Is::Any);
            let (name, required, sample) = (attr.name, creates && attr.required, sample(attr.is));
            Property {
                name,
                since: (0, 0),
                until: (u16::MAX, u16::MAX),
                required,
                admin: false,
                refers_to,
                plain,
                sample,
            }
        };
        let taken = self.attrs.iter().filter(|attr| attr.may_be_set(creates));
        Takes { name: self.one, properties: taken.map(property).collect() }
    }
}

/// A value of this form; null if it is an id, or anything.
fn sample(is: Is) -> Value {
    match is {
        Is::Name(_) | Is::Text | Is::TextOrNull => json!("a"),
        Is::Flag => json!(true),
        Is::Tags => json!(["a"]),
        Is::Id(_) | Is::IdOrNull(_) | Is::Any => Value::Null,
    }
}
