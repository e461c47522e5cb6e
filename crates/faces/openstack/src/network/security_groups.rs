//! `/security-groups`

use model::{Direction, Index, Object, Port, RbacPolicy, Realm, Resource, SecurityGroup, SecurityGroupRule, Time};
use serde_json::{Map, Value, json};

use super::ask::{Ask, Plan};
use super::attrs::{Attr, Body, DESCRIPTION, Is, NAME, free, shown};
use super::noun::{Look, Noun, render, standard};
use super::tags;
use super::trouble::Trouble;

const ATTRS: &[Attr] = &[
    shown("id"),
    free("name", NAME),
    free("description", DESCRIPTION),
    free("stateful", Is::Bool),
    free("tags", Is::TextList).once(),
    shown("security_group_rules"),
    shown("shared"),
];

/// The name of the group that every project has.
const DEFAULT: &str = "default";

impl Noun for SecurityGroup {
    const ONE: &'static str = "security_group";
    const MANY: &'static str = "security_groups";

    fn attrs() -> &'static [Attr] {
        ATTRS
    }

    fn show(look: &Look<'_>, value: &Self, into: &mut Map<String, Value>) {
        let rules = look.rows.find::<SecurityGroupRule>(Index::Owner, &value.id).map(|rule| render(look, rule));
        into.insert("shared".into(), json!(look.view().is_given(value)));
        into.insert("stateful".into(), json!(value.stateful));
        into.insert("security_group_rules".into(), json!(rules.collect::<Vec<_>>()));
    }

    standard!();

    fn before_list(plan: &mut Plan, ask: &Ask) -> Result<(), Trouble> {
        if let Some(project) = ask.who.project_id() {
            default_group(plan, project, ask.now);
        }
        Ok(())
    }

    fn create(plan: &mut Plan, ask: &Ask, project: String, body: &Body) -> Result<Self, Trouble> {
        let name = body.text("name").unwrap_or_default();
        not_default(&name)?;
        default_group(plan, &project, ask.now);
        let group = SecurityGroup {
            description: body.text("description").unwrap_or_default(),
            stateful: body.bool("stateful").unwrap_or(true),
            tags: tags::checked(body.texts("tags").unwrap_or_default())?,
            ..SecurityGroup::new(uuid::Uuid::new_v4().to_string(), project.clone(), name, ask.now)
        };
        for ipv6 in [false, true] {
            plan.put(SecurityGroupRule::new(
                uuid::Uuid::new_v4().to_string(),
                &group,
                Direction::Egress,
                ipv6,
                ask.now,
            ));
        }
        Ok(group)
    }

    fn update(plan: &mut Plan, _ask: &Ask, value: &mut Self, body: &Body) -> Result<(), Trouble> {
        if let Some(name) = body.text("name").filter(|name| *name != value.name) {
            if value.name == DEFAULT {
                return Err(Trouble::conflict(
                    "SecurityGroupCannotUpdateDefault",
                    "Updating default security group not allowed.",
                ));
            }
            not_default(&name)?;
            value.name = name;
        }
        body.set_text("description", &mut value.description);
        if let Some(stateful) = body.bool("stateful").filter(|stateful| *stateful != value.stateful) {
            check_unused(plan, value)?;
            value.stateful = stateful;
        }
        Ok(())
    }

    fn delete(plan: &mut Plan, ask: &Ask, value: Self) -> Result<(), Trouble> {
        if value.name == DEFAULT && !ask.who.is_admin() {
            return Err(Trouble::conflict(
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

fn check_unused(plan: &Plan, group: &SecurityGroup) -> Result<(), Trouble> {
    let has = |port: &Port| port.security_groups.contains(&group.id);
    let others = is_shared(plan, group) && plan.rows.all::<Port>().any(|port| has(port.value));
    if others || plan.rows.within::<Port>(&group.realm()).any(|port| has(port.value)) {
        let message = format!("Security Group {} in use.", group.id);
        return Err(Trouble::conflict("SecurityGroupInUse", message));
    }
    Ok(())
}

/// Other projects may use the group; as long as they do, the policy stays.
fn is_shared(plan: &Plan, group: &SecurityGroup) -> bool {
    RbacPolicy::about(&plan.rows, &group.key()).next().is_some()
}

fn not_default(name: &str) -> Result<(), Trouble> {
    if name.eq_ignore_ascii_case(DEFAULT) {
        return Err(Trouble::conflict("SecurityGroupDefaultAlreadyExists", "Default security group already exists."));
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

fn put_all<T: Resource>(plan: &mut Plan, rows: impl IntoIterator<Item = T>)
where
    Object: From<T>,
{
    for row in rows {
        plan.put(row);
    }
}
