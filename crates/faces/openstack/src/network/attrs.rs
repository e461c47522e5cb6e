//! The attributes of a resource, each written once: its name, the form of its value, who may set it and when, and where it is
//! in the row. What is shown, filtered and sorted by, what creation and update copy into the row, `docs/network.md` and the
//! requests of the tests that try others' ids follow from it. A resource writes by hand only what is a rule.
//!
//! What an attribute is unless somebody sets it is the row's matter, not written here a second time: `new` of the row.

use gate::View;
use model::{Kind, Time};
use serde_json::{Value, json};

use crate::json::Json;
use crate::service::{Property, Takes};

/// The form of an attribute's value.
#[derive(Clone, Copy, Debug)]
pub enum Is {
    /// A string of at most so many characters.
    Text(usize),
    TextOrNull(usize),
    /// A name in the DNS, or an empty one.
    Domain,
    Bool,
    /// An integer within bounds.
    Int(i64, i64),
    /// The id of a row of one of these kinds, which is not to be had as text: [`Attributes::reference`](super::body::Attributes::reference).
    Uuid(&'static [Kind]),
    UuidOrNull(&'static [Kind]),
    UuidList(&'static [Kind]),
    /// Likewise, where Neutron does not look at its form.
    Id(&'static [Kind]),
    IdOrNull(&'static [Kind]),
    IpOrNull,
    IpList,
    Mac,
    Cidr,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    OneOfOrNull(&'static [&'static str]),
    TextList,
    Tags,
    /// An object or null.
    ObjectOrNull,
    /// A list of objects.
    ObjectList,
    /// The resource looks at it itself.
    Any,
}

/// Neutron's limits on lengths.
pub const NAME: Is = Is::Text(255);
pub const DESCRIPTION: Is = Is::Text(255);

impl Is {
    /// The kinds of the rows that a value names.
    pub fn refers_to(self) -> &'static [Kind] {
        match self {
            Self::Uuid(kinds)
            | Self::UuidOrNull(kinds)
            | Self::UuidList(kinds)
            | Self::Id(kinds)
            | Self::IdOrNull(kinds) => kinds,
            _ => &[],
        }
    }
}

/// When an attribute may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    Never,
    Post,
    PostPut,
    Put,
}

/// Where an attribute is.
pub enum Get<T: 'static> {
    Row(for<'a> fn(&View<'a>, &'a T) -> Json<'a>),
    /// In no row: it is the number of the commit that wrote it.
    Revision,
}

/// One attribute of a resource.
pub struct Attr<T: 'static> {
    pub name: &'static str,
    pub is: Is,
    pub set: Set,
    pub required: bool,
    /// Only administrators may set it.
    pub admin_sets: bool,
    /// Only administrators see it.
    pub admin_sees: bool,
    /// Nobody sees it; lists can be filtered by it.
    pub hidden: bool,
    pub get: Get<T>,
    /// It is plain: what is given is put into the row, and that is all.
    pub put: Option<fn(&mut T, &Value)>,
}

/// What lists show and filter: a value with its id and revision.
pub struct Item<'a, T> {
    pub id: &'a str,
    pub revision: u64,
    pub value: &'a T,
}

impl<T> Clone for Item<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Item<'_, T> {}

impl<'a, T> From<model::Entry<'a, T>> for Item<'a, T> {
    fn from(entry: model::Entry<'a, T>) -> Self {
        Self { id: &entry.row.key.name, revision: entry.row.modified, value: entry.value }
    }
}

/// An attribute that the client may not set.
pub const fn shown<T>(name: &'static str, get: for<'a> fn(&View<'a>, &'a T) -> Json<'a>) -> Attr<T> {
    Attr {
        name,
        is: Is::Any,
        set: Set::Never,
        required: false,
        admin_sets: false,
        admin_sees: false,
        hidden: false,
        get: Get::Row(get),
        put: None,
    }
}

/// An attribute that may be set at creation and changed later, by a rule of the resource.
pub const fn ruled<T>(name: &'static str, is: Is, get: for<'a> fn(&View<'a>, &'a T) -> Json<'a>) -> Attr<T> {
    Attr { is, set: Set::PostPut, ..shown(name, get) }
}

/// An attribute that a request says something by and no row keeps.
pub const fn said<T>(name: &'static str, is: Is) -> Attr<T> {
    Attr { is, set: Set::PostPut, ..shown(name, |_, _| Json::Absent) }
}

/// How often the row was written.
pub const fn revision<T>() -> Attr<T> {
    Attr { get: Get::Revision, ..shown("revision_number", |_, _| Json::Null) }
}

impl<T> Attr<T> {
    /// May be set at creation only.
    pub const fn once(self) -> Self {
        Self { set: Set::Post, ..self }
    }
    /// May be changed, but not set at creation.
    pub const fn later(self) -> Self {
        Self { set: Set::Put, ..self }
    }
    /// Must be given at creation.
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }
    /// Only administrators may set it.
    pub const fn admin_sets(self) -> Self {
        Self { admin_sets: true, ..self }
    }
    /// Only administrators see it.
    pub const fn admin_sees(self) -> Self {
        Self { admin_sees: true, ..self }
    }
    /// Only administrators see it and may set it.
    pub const fn admin(self) -> Self {
        self.admin_sets().admin_sees()
    }
    /// Lists can be filtered by it, and that is all.
    pub const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }
    /// It is plain, and put into the row like this.
    pub const fn put(self, put: fn(&mut T, &Value)) -> Self {
        Self { put: Some(put), ..self }
    }
    /// It is shown otherwise than it is kept.
    pub const fn get(self, get: for<'a> fn(&View<'a>, &'a T) -> Json<'a>) -> Self {
        Self { get: Get::Row(get), ..self }
    }

    /// What is declared of the attribute, whatever it is an attribute of.
    pub const fn declared(&self) -> Attr<()> {
        let Self { name, is, set, required, admin_sets, admin_sees, hidden, .. } = *self;
        Attr { is, set, required, admin_sets, admin_sees, hidden, ..shown(name, |_, _| Json::Absent) }
    }

    /// What the attribute is of an item.
    pub fn of<'a>(&self, view: &View<'a>, item: Item<'a, T>) -> Json<'a> {
        match self.get {
            Get::Row(get) => get(view, item.value),
            Get::Revision => item.revision.into(),
        }
    }
}

/// A plain attribute: a field of the row, which is the attribute's name unless another one is said.
/// `field!(mtu: Is::Int(0, 65535))`, `field!("mac_address" mac: Is::Mac)`; without a form it may not be set.
macro_rules! field {
    ($field:ident) => {
        $crate::network::attrs::field!(stringify!($field), $field)
    };
    ($name:literal $field:ident) => {
        $crate::network::attrs::field!($name, $field)
    };
    ($field:ident: $is:expr) => {
        $crate::network::attrs::field!(stringify!($field), $field, $is)
    };
    ($name:literal $field:ident: $is:expr) => {
        $crate::network::attrs::field!($name, $field, $is)
    };
    ($name:expr, $field:ident) => {
        $crate::network::attrs::shown::<Self>($name, |_, row| (&row.$field).into())
    };
    ($name:expr, $field:ident, $is:expr) => {
        $crate::network::attrs::ruled::<Self>($name, $is, |_, row| (&row.$field).into())
            .put(|row, given| $crate::json::Put::put(&mut row.$field, given))
    };
}
pub(super) use field;

/// The attributes that nearly all resources have, and a resource's own.
macro_rules! standard {
    ($($own:expr),* $(,)?) => {
        $crate::network::attrs::owned![
            $crate::network::attrs::field!(description: $crate::network::attrs::DESCRIPTION),
            $crate::network::attrs::field!(created_at),
            $crate::network::attrs::field!(updated_at),
            $crate::network::attrs::revision::<Self>(),
            $($own),*
        ]
    };
}
pub(super) use standard;

/// Those that all have, and a resource's own.
macro_rules! owned {
    ($($own:expr),* $(,)?) => {
        &[
            $crate::network::attrs::field!(id),
            // Whose it is is decided before the resource is asked.
            $crate::network::attrs::ruled::<Self>("project_id", $crate::network::attrs::Is::Any, |_, row| (&row.project_id).into()).once(),
            $crate::network::attrs::ruled::<Self>("tenant_id", $crate::network::attrs::Is::Any, |_, row| (&row.project_id).into()).once(),
            $($own),*
        ]
    };
}
pub(super) use owned;

/// What all rows of Neutron's have that are changed by requests.
pub trait Updated {
    fn updated_mut(&mut self) -> &mut Time;
}

macro_rules! updated {
    ($($type:ty),* $(,)?) => {
        $(
            impl Updated for $type {
                fn updated_mut(&mut self) -> &mut Time {
                    &mut self.updated_at
                }
            }
        )*
    };
}
updated!(
    model::AddressGroup,
    model::AddressScope,
    model::FloatingIp,
    model::Network,
    model::Port,
    model::PortForwarding,
    model::QosPolicy,
    model::RbacPolicy,
    model::Router,
    model::SecurityGroup,
    model::SecurityGroupRule,
    model::Subnet,
    model::SubnetPool,
    model::Trunk,
);

/// What a creation takes of a resource, or a change.
pub fn body(one: &'static str, attrs: &[Attr<()>], creates: bool) -> Takes {
    let set = if creates { [Set::Post, Set::PostPut] } else { [Set::Put, Set::PostPut] };
    let property = |attr: &Attr<()>| {
        let value = if matches!(attr.is, Is::UuidList(_)) { r#"["$"]"# } else { r#""$""# };
        let refers_to: Vec<_> = attr.is.refers_to().iter().map(|kind| (*kind, value.to_owned())).collect();
        let open = matches!(attr.is, Is::Any | Is::ObjectList | Is::ObjectOrNull);
        // Whose something is to be is tried for every resource in one way.
        let plain = matches!(attr.name, "project_id" | "tenant_id") || (!open && refers_to.is_empty());
        let (name, required, admin, sample) = (attr.name, creates && attr.required, attr.admin_sets, sample(attr.is));
        Property { name, since: (0, 0), until: (u16::MAX, u16::MAX), required, admin, refers_to, plain, sample }
    };
    Takes { name: one, properties: attrs.iter().filter(|attr| set.contains(&attr.set)).map(property).collect() }
}

/// A value of this form; null if it is an id, or anything.
fn sample(is: Is) -> Value {
    match is {
        Is::Text(_) | Is::TextOrNull(_) => json!("a"),
        Is::Domain => json!("a.b."),
        Is::Bool => json!(true),
        Is::Int(least, _) => json!(least),
        Is::IpOrNull => json!("10.0.0.9"),
        Is::IpList => json!(["10.0.0.9"]),
        Is::Mac => json!("fa:16:3e:00:00:01"),
        Is::Cidr => json!("10.9.0.0/24"),
        Is::OneOf(all) | Is::OneOfOrNull(all) => json!(all.first()),
        Is::TextList | Is::Tags => json!(["a"]),
        Is::ObjectOrNull => json!({}),
        Is::ObjectList => json!([]),
        Is::Uuid(_) | Is::UuidOrNull(_) | Is::UuidList(_) | Is::Id(_) | Is::IdOrNull(_) | Is::Any => Value::Null,
    }
}
