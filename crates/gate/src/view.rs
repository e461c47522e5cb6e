//! What a principal can see of a snapshot. Faces look things up here and nowhere else, so that "not yours" and "not
//! there" are the same answer everywhere.

use model::{Entry, Fault, RbacAction, RbacPolicy, Realm, Resource, Snapshot};

use crate::Principal;

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
