//! Attributes of resources in services with microversions, each written once: its name, the versions that have it, in which
//! answers and to whom it is shown, where it is in the row, and by which names lists are sorted by it. Replies, sort keys and
//! `docs/compute.md` follow.
//!
//! Refused: Neutron's declarations (`network::attrs`) for these, too. Neutron reads what it shows, under the same names and in the
//! same form in all versions; what Nova takes differs from what it shows, so it is read by hand.

use std::cmp::Ordering;

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
    pub get: for<'a> fn(&'a Call, &S::Of<'a>) -> Json<'a>,
}

/// An attribute that all versions show everybody in all answers.
pub const fn attr<S: Shown>(name: &'static str, get: for<'a> fn(&'a Call, &S::Of<'a>) -> Json<'a>) -> Attr<S> {
    Attr { name, since: (0, 0), until: (u16::MAX, u16::MAX), answers: Answers::ALL, admin: false, sort: None, get }
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

    /// What is declared of it, as a person reads it: since when, until when, in which answers, to whom, by which keys lists are
    /// sorted by it.
    pub fn declared(&self) -> Declared {
        let Self { name, since, until, answers, admin, .. } = *self;
        Declared { name, since, until, answers, admin, sort_keys: self.sort.map_or(&[], |(keys, _)| keys) }
    }
}

/// What is declared of an attribute, whatever it is an attribute of.
pub struct Declared {
    pub name: &'static str,
    pub since: (u16, u16),
    pub until: (u16, u16),
    pub answers: Answers,
    pub admin: bool,
    pub sort_keys: &'static [&'static str],
}
