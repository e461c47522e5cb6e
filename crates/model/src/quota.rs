//! The limits of a project, over VMs and pods together. Use is counted by claims in the commit, never by adding up rows
//! afterwards, so it is always exact.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Key, Kind, Realm, Resource, Snapshot};

/// A resource that can be limited. It stands with the kind of row that claims it ([`Resource::QUOTAS`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// The name in OpenStack's quota APIs.
    pub name: &'static str,
    /// How many units of the pool make one unit of the API: cores are counted in thousandths, since pods ask for parts, and
    /// megabytes of Kubernetes' objects in kilobytes.
    pub scale: u64,
    /// The limit of a new project, in the API's units; `None` is unlimited (-1).
    pub default: Option<u64>,
}

/// Every resource that is counted. Defaults are those of Nova and Neutron, except that containers share them.
pub fn all() -> impl Iterator<Item = &'static Limited> {
    Kind::ALL.iter().flat_map(|kind| kind.quotas())
}

/// The limited resource of this name.
pub fn limited(name: &str) -> Option<&'static Limited> {
    all().find(|l| l.name == name)
}

impl Limited {
    /// One that is counted in the API's units.
    pub const fn new(name: &'static str, default: u64) -> Self {
        Self { name, scale: 1, default: Some(default) }
    }

    /// The same, of which so many units of the pool make one of the API.
    pub const fn scaled(self, scale: u64) -> Self {
        Self { scale, ..self }
    }

    /// An amount of the pool in the API's units, for people: `1.5`.
    pub fn show(&self, amount: u64) -> String {
        match (amount / self.scale, amount % self.scale) {
            (whole, 0) => whole.to_string(),
            (whole, rest) => {
                let thousandths = format!("{:03}", rest * 1000 / self.scale);
                format!("{whole}.{}", thousandths.trim_end_matches('0')).trim_end_matches('.').to_owned()
            }
        }
    }
}

/// The name of the pool from which a project's rows use a resource.
pub fn pool(project: &str, resource: &str) -> String {
    format!("quota/{project}/{resource}")
}

/// The resource that a quota pool is about, if the pool is one.
pub fn resource_of(pool: &str) -> Option<&'static Limited> {
    let mut parts = pool.strip_prefix("quota/")?.rsplitn(2, '/');
    limited(parts.next()?)
}

/// What is said of a use that is beyond a project's limit, in Kubernetes' words; `None` if the pool is no quota.
pub fn exceeded(pool: &str, asked: u64, used: u64, limit: u64) -> Option<String> {
    let resource = resource_of(pool)?;
    let (asked, used, limit) = (resource.show(asked), resource.show(used), resource.show(limit));
    Some(format!("exceeded quota: {}, requested: {asked}, used: {used}, limited: {limit}", resource.name))
}

/// Uses `amount` units of the pool of a project's quota; rows without a project are free.
pub fn uses(project: &str, resource: &str, amount: u64) -> Option<Claim> {
    debug_assert!(limited(resource).is_some(), "unknown quota resource {resource}");
    (!project.is_empty()).then(|| Claim::Use { pool: pool(project, resource), amount })
}

/// The limits of one project. Made with the project, in the same commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    pub project_id: String,
    /// Limits that differ from the default, in the API's units; `None` is unlimited.
    pub limits: BTreeMap<String, Option<u64>>,
    /// The defaults that an administrator set ([`QuotaClass`]), since what a row claims follows from the row alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub defaults: BTreeMap<String, Option<u64>>,
}

/// Nova's quota class `default`: what projects without limits of their own have, where an administrator changed it. A
/// change of it writes the [`Quota`] rows of all projects in one commit, so that none is counted by what was before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuotaClass {
    pub id: String,
    /// In the API's units; `None` is unlimited.
    pub limits: BTreeMap<String, Option<u64>>,
}

impl QuotaClass {
    /// The only class that is in force.
    pub const DEFAULT: &str = "default";

    /// The limits of the class in force.
    pub fn limits(snapshot: &Snapshot) -> BTreeMap<String, Option<u64>> {
        snapshot.get::<Self>(Self::DEFAULT).map(|class| class.limits.clone()).unwrap_or_default()
    }
}

impl Resource for QuotaClass {
    kind!(QuotaClass: of the cloud);
}

impl Quota {
    pub fn new(project_id: impl Into<String>) -> Self {
        Self { project_id: project_id.into(), ..Self::default() }
    }

    /// What was set for the project or, if nothing was, by an administrator for all.
    pub fn stated(&self, name: &str) -> Option<Option<u64>> {
        self.limits.get(name).or_else(|| self.defaults.get(name)).copied()
    }

    /// The limit in force, in the API's units; `None` is unlimited.
    pub fn limit(&self, resource: &Limited) -> Option<u64> {
        self.stated(resource.name).unwrap_or(resource.default)
    }
}

impl Resource for Quota {
    kind!(Quota);
    fn realm(&self) -> Realm {
        Realm::Cloud
    }
    fn name(&self) -> String {
        self.project_id.clone()
    }
    fn claims(&self) -> Vec<Claim> {
        let limits = all().filter_map(|resource| {
            let limit = self.limit(resource)?.saturating_mul(resource.scale);
            Some(Claim::Limit { pool: pool(&self.project_id, resource.name), limit })
        });
        let project = Key::new(Kind::Project, Realm::Cloud, self.project_id.as_str());
        limits.chain([Claim::Needs(project)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_counted_in_one_way() {
        let mut names: Vec<&str> = all().map(|limited| limited.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
    }

    #[test]
    fn parts_of_cores_read_well() {
        let cores = limited("cores").unwrap();
        assert_eq!(cores.show(1000), "1");
        assert_eq!(cores.show(1500), "1.5");
        assert_eq!(cores.show(100), "0.1");
        let megabytes = limited("kube_megabytes").unwrap();
        assert_eq!(megabytes.show(1536), "1.5");
        let size = limited("registry_size_total").unwrap();
        assert_eq!([size.show(3 << 20), size.show(1 << 19), size.show(1)], ["3", "0.5", "0"]);
        assert_eq!(resource_of("quota/p/cores"), Some(cores));
        assert_eq!(resource_of("room/host/cores"), None);
    }
}
