//! The rows that belong to every project from its first commit to its last.

use model::{Change, Direction, Kind, Project, Quota, Realm, SecurityGroup, SecurityGroupRule, Snapshot, Time};

/// A new project with its limits and its default security group, as one change.
pub fn project_rows(project: Project, now: Time) -> Change {
    let mut change = Change::new();
    let group = SecurityGroup {
        id: uuid::Uuid::new_v4().to_string(),
        project_id: project.id.clone(),
        name: "default".into(),
        description: "Default security group".into(),
        stateful: true,
        tags: Vec::new(),
        created_at: now,
        updated_at: now,
    };
    for direction in [Direction::Egress, Direction::Ingress] {
        for ipv6 in [false, true] {
            change.create(SecurityGroupRule {
                id: uuid::Uuid::new_v4().to_string(),
                project_id: project.id.clone(),
                group_id: group.id.clone(),
                direction,
                ipv6,
                protocol: None,
                port_min: None,
                port_max: None,
                remote_ip_prefix: None,
                remote_group_id: (direction == Direction::Ingress).then(|| group.id.clone()),
                description: String::new(),
                created_at: now,
                updated_at: now,
            });
        }
    }
    change.create(Quota::new(project.id.as_str()));
    change.create(project);
    change.create(group);
    change
}

/// What a project can only be deleted without: it takes room on hosts, addresses or disks.
const HOLDING: [Kind; 8] = [
    Kind::Server,
    Kind::Image,
    Kind::Network,
    Kind::Router,
    Kind::FloatingIp,
    Kind::Cluster,
    Kind::OciManifest,
    Kind::Port,
];

/// The rows of a project that take nothing and go with it; or a sentence on what still stands there.
pub fn remains(snapshot: &Snapshot, project_id: &str) -> Result<Change, String> {
    let realm = Realm::project(project_id);
    let mut change = Change::new();
    for row in snapshot.rows().filter(|row| row.key.realm == realm) {
        if HOLDING.contains(&row.key.kind) {
            return Err(format!("{} {}", row.key.kind.as_str(), row.key.name));
        }
        change.writes.push(model::Write::Delete { key: row.key.clone(), expected: row.modified });
    }
    Ok(change)
}
