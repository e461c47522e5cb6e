//! What a kind is called. Refusals need no more of a kind than this, so it stands below both: a kind that knew refusals
//! which knew kinds could be neither made at run time nor looked up in one cluster.

/// The names of a kind, and whether its objects are in namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
    /// The kind of its lists.
    pub list: String,
    pub plural: String,
    pub singular: String,
    pub short: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
}

/// The name of a resource with its group, as messages have it: `deployments.apps`.
pub fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

/// `apps/v1`, or `v1` of the core group.
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

impl Names {
    /// `deployments.apps`.
    pub fn qualified(&self) -> String {
        qualified(&self.group, &self.plural)
    }

    /// `apps/v1`.
    pub fn api_version(&self) -> String {
        group_version(&self.group, &self.version)
    }
}
