//! What the sorts of things in a namespace have in common: each has a name of its own among its kind, and what is protected
//! loses none.

use std::collections::BTreeMap;

use model::{Fault, MetadefNamespace};

use super::{check_unprotected, edit};
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
