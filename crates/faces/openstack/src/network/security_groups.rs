//! `/security-groups`

use model::{Direction, Index, Object, Port, RbacPolicy, Realm, Resource, SecurityGroup, SecurityGroupRule, Time};

use super::attrs::{Attr, Is, NAME, field, ruled, shown, standard};
use super::body::Attributes;
use super::error::NeutronError;
use super::request::{Plan, Request};
use super::resource::{NeutronResource, objects};

/// The name of the group that every project has.
const DEFAULT: &str = "default";

impl NeutronResource for SecurityGroup {
    const ONE: &'static str = "security_group";
    const MANY: &'static str = "security_groups";
    const ATTRS: &'static [Attr<Self>] = standard![
        ruled::<Self>("name", NAME, |_, group| (&group.name).into()),
        field!(tags: Is::Tags).once(),
        ruled::<Self>("stateful", Is::Bool, |_, group| group.stateful.into()),
        shown::<Self>("security_group_rules", |view, group| {
            let rules = view.snapshot.find::<SecurityGroupRule>(Index::Owner, &group.id);
            objects(view, rules)
        }),
        shown::<Self>("shared", |view, group| view.is_given(group).into()),
    ];

    fn before_list(plan: &mut Plan, request: &Request) -> Result<(), NeutronError> {
        if let Some(project) = request.who.project_id() {
            default_group(plan, project, request.now);
        }
        Ok(())
    }

    fn create(plan: &mut Plan, request: &Request, project: String, body: &Attributes) -> Result<Self, NeutronError> {
        let name = body.text("name").unwrap_or_default();
        not_default(&name)?;
        default_group(plan, &project, request.now);
        let group = body.fill(SecurityGroup {
            stateful: body.bool("stateful").unwrap_or(true),
            ..SecurityGroup::new(uuid::Uuid::new_v4().to_string(), project.clone(), name, request.now)
        });
        for ipv6 in [false, true] {
            plan.put(SecurityGroupRule::new(
                uuid::Uuid::new_v4().to_string(),
                &group,
                Direction::Egress,
                ipv6,
                request.now,
            ));
        }
        Ok(group)
    }

    fn update(plan: &mut Plan, _ask: &Request, value: &mut Self, body: &Attributes) -> Result<(), NeutronError> {
        if let Some(name) = body.text("name").filter(|name| *name != value.name) {
            if value.name == DEFAULT {
                return Err(NeutronError::conflict(
                    "SecurityGroupCannotUpdateDefault",
                    "Updating default security group not allowed.",
                ));
            }
            not_default(&name)?;
            value.name = name;
        }
        if let Some(stateful) = body.bool("stateful").filter(|stateful| *stateful != value.stateful) {
            check_unused(plan, value)?;
            value.stateful = stateful;
        }
        Ok(())
    }

    fn delete(plan: &mut Plan, request: &Request, value: Self) -> Result<(), NeutronError> {
        if value.name == DEFAULT && !request.who.is_admin() {
            return Err(NeutronError::conflict(
                "SecurityGroupCannotRemoveDefault",
                "Insufficient rights for removing default security group.",
            ));
        }
        let realm = value.realm();
        check_unused(plan, &value)?;
        let shared = is_shared(plan, &value);
        // Rules of other groups that let this one in go with it.
        let rules: Vec<_> = plan
            .rows
            .all::<SecurityGroupRule>()
            .filter(|r| shared || r.row.key.realm == realm)
            .filter(|r| r.value.group_id == value.id || r.value.remote_group_id.as_ref() == Some(&value.id))
            .map(|r| r.row.key.clone())
            .collect();
        for key in rules {
            plan.remove(&key);
        }
        Ok(())
    }
}

fn check_unused(plan: &Plan, group: &SecurityGroup) -> Result<(), NeutronError> {
    let has = |port: &Port| port.security_groups.contains(&group.id);
    let others = is_shared(plan, group) && plan.rows.all::<Port>().any(|port| has(port.value));
    if others || plan.rows.within::<Port>(&group.realm()).any(|port| has(port.value)) {
        let message = format!("Security Group {} in use.", group.id);
        return Err(NeutronError::conflict("SecurityGroupInUse", message));
    }
    Ok(())
}

/// Other projects may use the group; as long as they do, the policy stays.
fn is_shared(plan: &Plan, group: &SecurityGroup) -> bool {
    RbacPolicy::about(&plan.rows, &group.key()).next().is_some()
}

fn not_default(name: &str) -> Result<(), NeutronError> {
    if name.eq_ignore_ascii_case(DEFAULT) {
        return Err(NeutronError::conflict(
            "SecurityGroupDefaultAlreadyExists",
            "Default security group already exists.",
        ));
    }
    Ok(())
}

/// The id of the project's default group, which is made if there is none.
pub fn default_group(plan: &mut Plan, project: &str, now: Time) -> String {
    let realm = Realm::project(project);
    let there = plan.rows.within::<SecurityGroup>(&realm).find(|g| g.value.name == DEFAULT);
    if let Some(group) = there {
        return group.value.id.clone();
    }
    let (group, rules) = model::default_security_group(project, now);
    let id = group.id.clone();
    put_all(plan, [group]);
    put_all(plan, rules);
    id
}

fn put_all<T: Resource + Into<Object>>(plan: &mut Plan, rows: impl IntoIterator<Item = T>) {
    for row in rows {
        plan.put(row);
    }
}
