//! What the sorts of things in a namespace have in common: each has a name of its own among its kind, and what is protected
//! loses none.

use std::collections::BTreeMap;

use gate::{Principal, View};
use model::{Change, Entry, Fault, MetadefNamespace, Snapshot};

use crate::call::{Call, Reply};
use crate::image::fault::missing;

/// One sort of things in a namespace.
pub struct Part<T> {
    /// What one of them is.
    pub one: &'static str,
    /// The same where a name is taken.
    pub taken: &'static str,
    /// Where they are.
    pub all: fn(&mut MetadefNamespace) -> &mut BTreeMap<String, T>,
}

impl<T> Part<T> {
    /// There is none of this name.
    pub fn absent(&self, namespace: &str, name: &str) -> Fault {
        let one = self.one;
        missing(format!("The metadata definition {one} with name={name} was not found in namespace={namespace}."))
    }

    /// Adds one under a name that is free.
    pub fn add(&self, namespace: &mut MetadefNamespace, name: &str, value: T) -> Result<(), Fault> {
        let all = (self.all)(namespace);
        if all.contains_key(name) {
            let (taken, namespace) = (self.taken, &namespace.name);
            return Err(Fault::Conflict(format!(
                "A {taken} with name={name} already exists in namespace={namespace}."
            )));
        }
        all.insert(name.to_owned(), value);
        Ok(())
    }

    /// Takes one out.
    pub fn take(&self, namespace: &mut MetadefNamespace, name: &str) -> Result<T, Fault> {
        (self.all)(namespace).remove(name).ok_or_else(|| self.absent(&namespace.name, name))
    }

    /// `DELETE .../{name}`
    pub async fn delete(&self, call: Call) -> Result<Reply, Fault> {
        let name = call.param("name");
        edit(&call, |namespace| {
            self.take(namespace, name)?;
            check_unprotected(namespace, self.one, name)
        })
        .await?;
        Ok(Reply::empty(204))
    }

    /// `DELETE` of them all.
    pub async fn delete_all(&self, call: Call) -> Result<Reply, Fault> {
        edit(&call, |namespace| {
            (self.all)(namespace).clear();
            check_unprotected(namespace, "namespace", &namespace.name)
        })
        .await?;
        Ok(Reply::empty(204))
    }
}

/// The namespace with this name if the caller may know of it; else it does not exist.
pub fn find<'a>(snapshot: &'a Snapshot, who: &'a Principal, name: &str) -> Result<Entry<'a, MetadefNamespace>, Fault> {
    let found = View::new(snapshot, who).get::<MetadefNamespace>(name);
    found.map_err(|_| missing(format!("Metadata definition namespace={name} was not found.")))
}

/// The namespace of the path.
pub fn of_path<'a>(call: &'a Call) -> Result<Entry<'a, MetadefNamespace>, Fault> {
    find(&call.snapshot, call.who()?, call.param("namespace"))
}

/// Changes what is in the namespace of the path; what `change` answers is given back.
pub async fn edit<T>(call: &Call, change: impl Fn(&mut MetadefNamespace) -> Result<T, Fault>) -> Result<T, Fault> {
    let (who, name) = (call.who()?, call.param("namespace"));
    call.cloud
        .store
        .transact(|snapshot| {
            let entry = find(snapshot, who, name)?;
            let mut namespace = entry.value.clone();
            let answer = change(&mut namespace)?;
            check_bounds(&namespace)?;
            let mut commit = Change::new();
            commit.update(entry, namespace);
            Ok((commit, answer))
        })
        .await
}

/// Refuses a namespace that holds too much.
pub fn check_bounds(namespace: &MetadefNamespace) -> Result<(), Fault> {
    let over = |what: &str, attempted: usize, maximum: usize| {
        Fault::TooLarge(format!(
            "The limit has been exceeded on the number of allowed metadata definition {what}. Attempted: {attempted}, \
             Maximum: {maximum}"
        ))
    };
    let counts = [
        ("objects", namespace.objects.len()),
        ("properties", namespace.properties.len()),
        ("tags", namespace.tags.len()),
        ("resource types", namespace.resource_types.len()),
    ];
    if let Some((what, count)) = counts.into_iter().find(|(_, count)| *count > MetadefNamespace::MOST_WITHIN) {
        return Err(over(what, count, MetadefNamespace::MOST_WITHIN));
    }
    let size = serde_json::to_vec(namespace).map_or(usize::MAX, |bytes| bytes.len());
    if size > MetadefNamespace::LARGEST {
        return Err(over("bytes in one namespace", size, MetadefNamespace::LARGEST));
    }
    Ok(())
}

/// Refuses to delete something of a protected namespace.
pub fn check_unprotected(namespace: &MetadefNamespace, what: &str, name: &str) -> Result<(), Fault> {
    match namespace.protected {
        true => Err(Fault::Forbidden(format!("Metadata definition {what} {name} is protected and cannot be deleted."))),
        false => Ok(()),
    }
}
