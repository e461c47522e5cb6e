//! The rows that belong to every project from its first commit to its last.

use model::{Change, Expect, Key, Kind, Project, Quota, QuotaClass, RbacPolicy, Realm, Snapshot, Time};

/// A new project with its limits and its default security group, as one change.
pub fn project_rows(project: Project, now: Time) -> Change {
    let mut change = Change::new();
    let (group, rules) = model::default_security_group(&project.id, now);
    for rule in rules {
        change.create(rule);
    }
    change.create(Quota::new(project.id.as_str()));
    change.create(project);
    change.create(group);
    change
}

/// The same in a cloud whose administrator may have set other limits for all; refused if they change meanwhile.
pub fn project_rows_in(snapshot: &Snapshot, project: Project, now: Time) -> Change {
    let mut change = project_rows(project, now);
    for write in &mut change.writes {
        if let model::Write::Create(model::Object::Quota(quota)) = write {
            std::sync::Arc::make_mut(quota).defaults = QuotaClass::limits(snapshot);
        }
    }
    let key = Key::new(Kind::QuotaClass, Realm::Cloud, QuotaClass::DEFAULT);
    let revision = snapshot.row(&key).map(|row| row.modified);
    change.expects.push(Expect { key, revision });
    change
}

/// The rows of a project that take nothing and go with it; or a sentence on what still stands there.
pub fn remains(snapshot: &Snapshot, project_id: &str) -> Result<Change, String> {
    let realm = Realm::project(project_id);
    let mut change = Change::new();
    for row in snapshot.rows().filter(|row| row.key.realm == realm) {
        if row.key.kind.holds() {
            return Err(format!("{} {}", row.key.kind.as_str(), row.key.name));
        }
        change.writes.push(model::Write::Delete { key: row.key.clone(), expected: row.modified });
    }
    // Policies of others, an administrator's, about what goes.
    let about = |policy: &RbacPolicy| policy.object.realm == realm && Realm::project(&policy.project_id) != realm;
    for policy in snapshot.all::<RbacPolicy>().filter(|policy| about(policy.value)) {
        change.delete(policy);
    }
    Ok(change)
}
