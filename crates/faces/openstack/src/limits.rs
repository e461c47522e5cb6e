//! Limits of a project as quota APIs show and set them, whichever service's: a limit is a part of one row, `model::Quota`,
//! what is counted is counted by claims, and which of them an API shows follows from the services' declarations.

use model::quota::{self, Limited};
use model::{Kind, Quota, QuotaClass, Snapshot};
use store::Store;

use crate::service::{Quotas, Service};

/// The limits that the API of a service shows.
pub fn shown_by(service: &Service) -> impl Iterator<Item = &'static Limited> {
    let (own, shows) = (service.kinds, service.quotas);
    let others = |kind: &Kind| {
        let mut services = crate::SERVICES.iter();
        !services.any(|other| other.quotas == Quotas::Own && other.kinds.contains(kind))
    };
    let kinds = Kind::ALL.iter().filter(move |kind| match shows {
        Quotas::Elsewhere => false,
        Quotas::Own => own.contains(kind),
        Quotas::All => own.contains(kind) || others(kind),
    });
    kinds.flat_map(|kind| kind.quotas())
}

/// The limits of a project: its row, or what a new project has.
pub fn of(snapshot: &Snapshot, project: &str) -> Quota {
    snapshot.get::<Quota>(project).map_or_else(|| fresh(snapshot, project), |entry| entry.value.clone())
}

/// What a new project has.
pub fn fresh(snapshot: &Snapshot, project: &str) -> Quota {
    Quota { defaults: QuotaClass::limits(snapshot), ..Quota::new(project) }
}

/// How much of a limit is in use, in the API's units.
pub fn used(store: &Store, project: &str, limited: &Limited) -> u64 {
    store.pool(&quota::pool(project, limited.name)).used.div_ceil(limited.scale)
}

/// A limit on the wire: -1 is unlimited.
pub fn number(limit: Option<u64>) -> i64 {
    limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX))
}
