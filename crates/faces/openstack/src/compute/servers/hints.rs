//! Scheduler hints: what `POST /servers` may say of the place of a server beside `availability_zone` and `host`.
//!
//! Ids in them are those of servers and groups of the caller's project, and of nobody else's: Nova asks nobody whose a
//! server is, so that there a hint tells on which host a stranger's runs. Hints that would change nothing are refused, not
//! passed over; Nova keeps them for filters that a cloud may have.

use std::collections::BTreeMap;

use gate::{Ref, View};
use model::{Fault, Server, ServerGroup, Snapshot};
use serde_json::Value;

use crate::compute::body::{Fields, bad, is_uuid};
use crate::compute::fault::{not_built, over};
use crate::compute::quotas;

/// Hints of schedulers that this one is not.
const ABSENT: [&str; 5] = ["query", "build_near_host_ip", "cidr", "target_cell", "different_cell"];
const KNOWN: [&str; 3] = ["group", "same_host", "different_host"];
/// The most servers that one hint names.
const MOST: usize = 100;

/// Hints with all that they name found.
#[derive(Default)]
pub struct Hints {
    pub group: Option<String>,
    pub same_host: Option<Vec<String>>,
    pub different_host: Vec<String>,
    /// As Nova shows them: a list for each.
    pub given: BTreeMap<String, Vec<String>>,
}

/// Reads the hints of a body.
pub fn read(view: &View<'_>, body: &Value) -> Result<Hints, Fault> {
    let hints = body.get("os:scheduler_hints").or_else(|| body.get("OS-SCH-HNT:scheduler_hints"));
    let Some(hints) = hints.filter(|hints| !hints.is_null()) else { return Ok(Hints::default()) };
    let hints = Fields::new("os:scheduler_hints", hints)?;
    if let Some(name) = ABSENT.iter().find(|name| hints.get(name).is_some()) {
        return Err(not_built(&format!("The scheduler hint '{name}'")));
    }
    if let Some(name) =
        hints.map.keys().find(|name| !KNOWN.contains(&name.as_str()) && !ABSENT.contains(&name.as_str()))
    {
        let name: String = name.chars().take(255).collect();
        return Err(not_built(&format!("The scheduler hint '{name}' (there are {})", KNOWN.join(", "))));
    }
    let group = group(view, &hints)?;
    let (same_host, different_host) = (servers(view, &hints, "same_host")?, servers(view, &hints, "different_host")?);
    let lists = [
        ("group", group.clone().map(|id| vec![id])),
        ("same_host", same_host.clone()),
        ("different_host", different_host.clone()),
    ];
    Ok(Hints {
        group,
        // Nothing at all is asked by an empty list.
        same_host: same_host.filter(|ids| !ids.is_empty()),
        different_host: different_host.unwrap_or_default(),
        given: lists.into_iter().filter_map(|(name, ids)| Some((name.to_owned(), ids?))).collect(),
    })
}

/// The server group, if there is still room in it.
fn group(view: &View<'_>, hints: &Fields<'_>) -> Result<Option<String>, Fault> {
    let Some(named) = hints.reference::<ServerGroup>("group")? else { return Ok(None) };
    let group = view.refer(&named).ok().filter(|group| view.owns(group.value));
    let group = group.ok_or_else(|| Fault::Invalid(format!("Instance group {} could not be found.", named.named())))?;
    check_room(view.snapshot, group.value, 1)?;
    Ok(Some(group.id.clone()))
}

/// Refuses more members than a group may have.
fn check_room(snapshot: &Snapshot, group: &ServerGroup, more: u32) -> Result<(), Fault> {
    let limit = quotas::limit(snapshot, &group.project_id, "server_group_members");
    let used = crate::compute::server_groups::members(snapshot, group).len() as u64;
    match limit.is_some_and(|limit| used + u64::from(more) > limit) {
        true => Err(over("server_group_members", more.into(), model::Pool { used, limit })),
        false => Ok(()),
    }
}

impl Hints {
    /// Refuses so many servers if their group has no room for all of them, as Nova does.
    pub fn check_room(&self, snapshot: &Snapshot, count: u32) -> Result<(), Fault> {
        let group = self.group.as_ref().and_then(|id| snapshot.get::<ServerGroup>(id));
        group.map_or(Ok(()), |group| check_room(snapshot, group.value, count))
    }
}

/// The servers that a hint names: one id, or a list of them.
fn servers(view: &View<'_>, hints: &Fields<'_>, hint: &str) -> Result<Option<Vec<String>>, Fault> {
    let Some(value) = hints.get(hint) else { return Ok(None) };
    let one = std::slice::from_ref(value);
    let list = if value.is_string() { one } else { value.as_array().ok_or_else(|| wrong(hint, value))?.as_slice() };
    if list.len() > MOST {
        return Err(Fault::Invalid(format!("The scheduler hint '{hint}' names more than {MOST} servers.")));
    }
    let mut ids = Vec::new();
    for value in list {
        let named =
            value.as_str().filter(|id| is_uuid(id)).map(Ref::<Server>::sent).ok_or_else(|| wrong(hint, value))?;
        let found = view.refer(&named).ok().filter(|server| view.owns(server.value));
        let server = found.ok_or_else(|| Fault::Invalid(format!("Instance {} could not be found.", named.named())))?;
        if !ids.contains(&server.id) {
            ids.push(server.id.clone());
        }
    }
    Ok(Some(ids))
}

fn wrong(hint: &str, value: &Value) -> Fault {
    bad(hint, value, "It is not of type 'string', 'array' of 'uuid'")
}
