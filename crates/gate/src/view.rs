//! What a principal can see of a snapshot. Faces look things up here and nowhere else, so that "not yours" and "not
//! there" are the same answer everywhere.

use std::fmt;
use std::marker::PhantomData;

use model::{Entry, Fault, RbacAction, RbacPolicy, Realm, Resource, Snapshot};

use crate::Principal;

/// An id that somebody sent, said to be that of a row of kind `T`. It is not text, so that it cannot get into a row: all
/// that it is good for is to ask a [`View`] for the row, and to be named in the answer if there is none.
pub struct Ref<T> {
    id: Box<str>,
    kind: PhantomData<fn() -> T>,
}

impl<T: Resource> Ref<T> {
    /// The id as it was sent.
    pub fn sent(id: &str) -> Self {
        Self { id: id.into(), kind: PhantomData }
    }

    /// For messages.
    pub fn named(&self) -> impl fmt::Display + '_ {
        &self.id
    }

    /// It is this id.
    pub fn is(&self, id: &str) -> bool {
        *self.id == *id
    }

    /// The answer for a row that is not there, or of which the caller may not know.
    pub fn not_found(&self) -> Fault {
        Fault::not_found(T::KIND, &*self.id)
    }
}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        Self { id: self.id.clone(), kind: PhantomData }
    }
}

impl<T> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ref({:?})", self.id)
    }
}

/// A snapshot as one principal sees it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub snapshot: &'a Snapshot,
    pub who: &'a Principal,
}

impl<'a> View<'a> {
    pub fn new(snapshot: &'a Snapshot, who: &'a Principal) -> Self {
        Self { snapshot, who }
    }

    /// The principal's project owns the row.
    pub fn owns<T: Resource>(&self, value: &T) -> bool {
        matches!((value.realm(), self.who.project_id()), (Realm::Project(a), Some(b)) if &*a == b)
    }

    /// The principal may know of the row.
    pub fn sees<T: Resource>(&self, value: &T) -> bool {
        self.who.is_admin() || self.owns(value) || value.shared() || self.policies(value).next().is_some()
    }

    /// The policies that give the principal's project access to the row.
    pub fn policies<T: Resource>(&self, value: &T) -> impl Iterator<Item = &'a RbacPolicy> {
        let view = *self;
        let about = RbacPolicy::KINDS.contains(&T::KIND).then(|| RbacPolicy::about(view.snapshot, &value.key()));
        about.into_iter().flatten().filter(move |policy| policy.covers(view.who.project_id()))
    }

    /// A policy shares the row with the principal's project.
    pub fn is_given<T: Resource>(&self, value: &T) -> bool {
        self.policies(value).any(|policy| policy.action == RbacAction::Shared)
    }

    /// The row with this id if the principal may know of it; else it does not exist.
    pub fn get<T: Resource>(&self, id: &str) -> Result<Entry<'a, T>, Fault> {
        self.snapshot.get::<T>(id).filter(|entry| self.sees(entry.value)).ok_or_else(|| Fault::not_found(T::KIND, id))
    }

    /// The row to which something refers, if the principal may know of it.
    pub fn refer<T: Resource>(&self, id: &Ref<T>) -> Result<Entry<'a, T>, Fault> {
        self.get(&id.id)
    }

    /// The row to which something refers, if `sees` says that the principal may know of it: for kinds that are seen by
    /// rules of their own.
    pub fn refer_if<T: Resource>(&self, id: &Ref<T>, sees: impl FnOnce(&T) -> bool) -> Result<Entry<'a, T>, Fault> {
        self.snapshot.get::<T>(&id.id).filter(|entry| sees(entry.value)).ok_or_else(|| id.not_found())
    }

    /// The row with this id if the principal may change it. What is seen but not owned (shared by others) is forbidden.
    pub fn own<T: Resource>(&self, id: &str) -> Result<Entry<'a, T>, Fault> {
        let entry = self.get::<T>(id)?;
        if self.who.is_admin() || self.owns(entry.value) {
            Ok(entry)
        } else {
            Err(Fault::Forbidden(format!("{} {id} belongs to another project", T::KIND.as_str())))
        }
    }

    /// Every row of a kind that the principal may know of. An administrator sees all projects'.
    pub fn all<T: Resource>(&self) -> impl Iterator<Item = Entry<'a, T>> + use<'a, T> {
        let view = *self;
        self.snapshot.all::<T>().filter(move |entry| view.sees(entry.value))
    }

    /// Every row of a kind that belongs to the principal's own project.
    pub fn mine<T: Resource>(&self) -> impl Iterator<Item = Entry<'a, T>> + use<'a, T> {
        let realm = self.who.project_id().map(Realm::project);
        let snapshot = self.snapshot;
        realm.into_iter().flat_map(move |realm| snapshot.within::<T>(&realm).collect::<Vec<_>>())
    }
}
