//! Attributes of resources in services with microversions, each written once: its name, the versions that have it, in which
//! answers and to whom it is shown, where it is in the row, and by which names lists are filtered and sorted by it. Replies,
//! lists ([`crate::lists`]) and `docs/compute.md` follow.
//!
//! Refused: Neutron's declarations (`network::attrs`) for these, too. Neutron reads what it shows, under the same names and in the
//! same form in all versions; what Nova takes differs from what it shows, and is declared by itself (`compute::schema`).

use std::cmp::Ordering;

use model::{Fault, Time};

use crate::call::Call;
use crate::json::Json;

/// A resource whose attributes are declared.
pub trait Shown: Sized + 'static {
    /// What an answer is made of: a row, or a row with what was looked up for it.
    type Of<'a>;
    /// `flavor`
    const ONE: &'static str;
    const ATTRS: &'static [Attr<Self>];

    /// The resource in an answer.
    fn shown<'a>(call: &'a Call, of: &Self::Of<'a>, answer: Answers) -> Json<'a> {
        let admin = call.principal.as_ref().is_some_and(gate::Principal::is_admin);
        let here = Self::ATTRS.iter().filter(|attr| {
            (attr.since..=attr.until).contains(&call.version) && attr.answers.has(answer) && (admin || !attr.admin)
        });
        Json::Object(here.map(|attr| (attr.name, (attr.get)(call, of))).collect()).sorted()
    }

    /// How a list is sorted by a key; `None` if no attribute is named so.
    fn order(key: &str) -> Option<Order<Self>> {
        Self::ATTRS.iter().find_map(|attr| attr.sort.filter(|(keys, _)| keys.contains(&key)).map(|(_, order)| order))
    }

    /// Whether lists are filtered by this parameter in a version.
    fn filters_by(name: &str, version: (u16, u16)) -> bool {
        let mut filters = Self::ATTRS.iter().flat_map(|attr| attr.filters);
        filters.any(|filter| version >= filter.since && filter.names.contains(&name))
    }
}

pub type Order<S> = for<'a> fn(&<S as Shown>::Of<'a>, &<S as Shown>::Of<'a>) -> Ordering;

/// Answers in which a resource is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers(u8);

impl Answers {
    /// A list without details.
    pub const BRIEF: Self = Self(1);
    /// A list with details.
    pub const LIST: Self = Self(1 << 1);
    /// The resource by itself.
    pub const ONE: Self = Self(1 << 2);
    /// After a change, where that shows less.
    pub const CHANGED: Self = Self(1 << 3);
    /// After it was made, where that shows less.
    pub const MADE: Self = Self(1 << 6);
    /// After a rebuild, where that shows less.
    pub const REBUILT: Self = Self(1 << 4);
    /// After a rebuild, where that shows nearly all.
    pub const REMADE: Self = Self(1 << 5);
    /// It is for filters and sort keys alone.
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(u8::MAX);
    /// All but lists without details.
    pub const DETAILED: Self = Self(u8::MAX - 1);
    /// Each with its name in the documentation.
    pub const NAMES: [(Self, &'static str); 7] = [
        (Self::BRIEF, "list"),
        (Self::LIST, "detail"),
        (Self::ONE, "one"),
        (Self::MADE, "create"),
        (Self::CHANGED, "update"),
        (Self::REBUILT, "rebuild"),
        (Self::REMADE, "rebuild, later"),
    ];

    /// These and others.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These without others.
    pub const fn but(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub const fn has(self, one: Self) -> bool {
        self.0 & one.0 != 0
    }
}

/// One attribute of a resource.
pub struct Attr<S: Shown> {
    pub name: &'static str,
    /// First and last microversion that has it.
    pub since: (u16, u16),
    pub until: (u16, u16),
    pub answers: Answers,
    /// Only administrators see it.
    pub admin: bool,
    /// By what keys lists are sorted by it, and how.
    pub sort: Option<(&'static [&'static str], Order<S>)>,
    pub filters: &'static [Filter<S>],
    /// Passing one of its filters is enough.
    pub either: bool,
    pub get: for<'a> fn(&'a Call, &S::Of<'a>) -> Json<'a>,
}

/// An attribute that all versions show everybody in all answers.
pub const fn attr<S: Shown>(name: &'static str, get: for<'a> fn(&'a Call, &S::Of<'a>) -> Json<'a>) -> Attr<S> {
    let (since, until, answers) = ((0, 0), (u16::MAX, u16::MAX), Answers::ALL);
    Attr { name, since, until, answers, admin: false, sort: None, filters: &[], either: false, get }
}

impl<S: Shown> Attr<S> {
    /// The first microversion that has it.
    pub const fn since(self, major: u16, minor: u16) -> Self {
        Self { since: (major, minor), ..self }
    }
    /// The last microversion that has it.
    pub const fn until(self, major: u16, minor: u16) -> Self {
        Self { until: (major, minor), ..self }
    }
    /// In these answers alone.
    pub const fn only(self, answers: Answers) -> Self {
        Self { answers, ..self }
    }
    /// Only administrators see it.
    pub const fn admin(self) -> Self {
        Self { admin: true, ..self }
    }
    /// Lists are sorted by it, under these names.
    pub const fn sorts(self, keys: &'static [&'static str], order: Order<S>) -> Self {
        Self { sort: Some((keys, order)), ..self }
    }

    /// Lists are filtered by it; by all of these that a query names.
    pub const fn filtered(self, filters: &'static [Filter<S>]) -> Self {
        Self { filters, ..self }
    }
    /// Lists are filtered by it; by any of these that a query names.
    pub const fn filtered_by_either(self, filters: &'static [Filter<S>]) -> Self {
        Self { filters, either: true, ..self }
    }

    /// What is declared of it, as a person reads it.
    pub fn declared(&self) -> Declared {
        let Self { name, since, until, answers, admin, .. } = *self;
        let filter = |&Filter { names, since, admin, ref test }: &Filter<S>| DeclaredFilter {
            names,
            since,
            admin,
            how: test.how(),
        };
        let filters = self.filters.iter().map(filter).collect();
        Declared { name, since, until, answers, admin, filters, sort_keys: self.sort.map_or(&[], |(keys, _)| keys) }
    }
}

/// By which parameters of a query a list is filtered, and how.
pub struct Filter<S: Shown> {
    pub names: &'static [&'static str],
    /// The first version that heeds it.
    pub since: (u16, u16),
    /// Only administrators' is heeded.
    pub admin: bool,
    pub test: Test<S>,
}

impl<S: Shown> Filter<S> {
    pub const fn by(names: &'static [&'static str], test: Test<S>) -> Self {
        Self { names, since: (0, 0), admin: false, test }
    }
    /// The first version that heeds it.
    pub const fn since(self, major: u16, minor: u16) -> Self {
        Self { since: (major, minor), ..self }
    }
    /// Only administrators' is heeded.
    pub const fn admin(self) -> Self {
        Self { admin: true, ..self }
    }
}

/// What is asked of an item.
pub type Check<'q, S> = Box<dyn for<'a> Fn(&<S as Shown>::Of<'a>) -> bool + 'q>;

/// Whether a text matches.
pub type Matches<'m> = &'m dyn Fn(&str) -> bool;

/// How the value of a parameter is compared with what an item has.
pub enum Test<S: Shown> {
    Equal(for<'s, 'a> fn(&'s S::Of<'a>) -> Option<&'s str>),
    /// The item's text has it somewhere.
    Part(for<'s, 'a> fn(&'s S::Of<'a>) -> &'s str),
    Number(for<'a> fn(&S::Of<'a>) -> i64),
    AtLeast(for<'a> fn(&S::Of<'a>) -> u64),
    /// A boolean; no item has what is none.
    Truth(for<'a> fn(&S::Of<'a>) -> bool),
    /// A boolean; what is none is refused.
    Flag(for<'a> fn(&S::Of<'a>) -> bool),
    /// One of all values that the parameter has, in capitals.
    OneOf(for<'s, 'a> fn(&'s S::Of<'a>) -> &'s str),
    /// A regular expression, which one of the item's texts matches.
    Pattern(for<'a> fn(&S::Of<'a>, Matches<'_>) -> bool),
    /// At a moment or after it.
    Since(for<'a> fn(&S::Of<'a>) -> Time),
    /// At a moment or before it.
    Before(for<'a> fn(&S::Of<'a>) -> Time),
    Tags(Tags, for<'s, 'a> fn(&'s S::Of<'a>) -> &'s [String]),
    /// By hand, and how in words.
    Own(&'static str, fn(&Call) -> Result<Option<Check<'static, S>>, Fault>),
}

/// Which of the tags that are named an item must have.
#[derive(Clone, Copy)]
pub enum Tags {
    All,
    Any,
    NotAll,
    NotAny,
}

impl<S: Shown> Test<S> {
    const fn how(&self) -> &'static str {
        match self {
            Self::Equal(_) => "",
            Self::Part(_) => "a part of it",
            Self::Number(_) => "number",
            Self::AtLeast(_) => "at least",
            Self::Truth(_) | Self::Flag(_) => "boolean",
            Self::OneOf(_) => "one of several",
            Self::Pattern(_) => "regular expression",
            Self::Since(_) => "at or after",
            Self::Before(_) => "at or before",
            Self::Tags(Tags::All, _) => "all of",
            Self::Tags(Tags::Any, _) => "one of",
            Self::Tags(Tags::NotAll, _) => "not all of",
            Self::Tags(Tags::NotAny, _) => "none of",
            Self::Own(how, _) => how,
        }
    }
}

/// What is declared of an attribute, whatever it is an attribute of.
pub struct Declared {
    pub name: &'static str,
    pub since: (u16, u16),
    pub until: (u16, u16),
    pub answers: Answers,
    pub admin: bool,
    pub filters: Vec<DeclaredFilter>,
    pub sort_keys: &'static [&'static str],
}

/// What is declared of a [`Filter`].
pub struct DeclaredFilter {
    pub names: &'static [&'static str],
    pub since: (u16, u16),
    pub admin: bool,
    /// In words; none: equal.
    pub how: &'static str,
}
