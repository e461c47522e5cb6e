//! Lists of servers: filters, sorting, pages.

use std::collections::{BTreeSet, HashSet};

use model::{Aggregate, Fault, Server, Time};
use regex_lite::{Regex, RegexBuilder};
use serde_json::json;

use super::status::{self, State};
use super::view;
use crate::attrs::Answers;
use crate::call::{Call, Reply};
use crate::compute::wire::{page, pages, parse_time};
use crate::json::Json;

/// The most bytes of a compiled pattern.
const LARGEST_PATTERN: usize = 32 << 10;

/// `GET /servers`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    listing(call, |call, item| view::brief(call, item.server, &item.state))
}

/// `GET /servers/detail`
pub async fn index_detail(call: Call) -> Result<Reply, Fault> {
    listing(call, |call, item| view::server(call, &call.snapshot, item.server, &item.state, Answers::LIST))
}

/// A server of which it is already known what it is.
struct Item<'a> {
    server: &'a Server,
    state: State,
}

fn listing(call: Call, show: for<'a> fn(&'a Call, &Item<'a>) -> Json<'a>) -> Result<Reply, Fault> {
    let filters = Filters::read(&call)?;
    let view = call.view()?;
    let all = flag(&call, "all_tenants")?;
    if all && !view.who.is_admin() {
        return Err(Fault::Forbidden(
            "Policy doesn't allow os_compute_api:servers:index:get_all_tenants to be performed.".into(),
        ));
    }
    let rows: Vec<&Server> = if all {
        view.all::<Server>().map(|entry| entry.value).collect()
    } else {
        view.mine::<Server>().map(|entry| entry.value).collect()
    };
    let mut items: Vec<Item<'_>> = rows
        .into_iter()
        .map(|server| Item { server, state: status::state(&call.snapshot, server) })
        .filter(|item| filters.pass(&call, item))
        .collect();
    sort(&call, &mut items)?;
    let page = page(&call, items, |item| item.server.id.clone())?;
    let next = page.more.then(|| page.items.last().map(|item| item.server.id.clone())).flatten();
    let items = page.items.iter().map(|item| show(&call, item)).collect();
    let links = pages(&call.page("servers", next.as_deref()));
    let mut body = vec![("servers", Json::List(items))];
    body.extend(links.iter().map(|(name, links)| (name.as_str(), Json::from(links))));
    Ok(Reply::ok(Json::Object(body)))
}

fn flag(call: &Call, name: &str) -> Result<bool, Fault> {
    match call.query(name).map(str::to_lowercase).as_deref() {
        None => Ok(false),
        Some("" | "1" | "true" | "t" | "yes" | "y" | "on") => Ok(true),
        Some("0" | "false" | "f" | "no" | "n" | "off") => Ok(false),
        Some(other) => Err(Fault::Invalid(format!("Invalid value '{other}' for {name}"))),
    }
}

/// A regular expression, matched anywhere and without regard to case, as by Nova's usual database.
fn pattern(call: &Call, name: &str) -> Result<Option<Regex>, Fault> {
    let Some(text) = call.query(name) else { return Ok(None) };
    let wrong = |why: &str| Fault::Invalid(format!("Invalid input for query parameters {name}. Value: {text}. {why}"));
    if text.len() > 255 {
        return Err(wrong("It is too long"));
    }
    // What a pattern costs on each name grows with its size when it is compiled, and `(a{0,99}){99}` is a short text.
    let pattern = RegexBuilder::new(text).case_insensitive(true).size_limit(LARGEST_PATTERN).build();
    pattern.map(Some).map_err(|_| wrong("It is not a regular expression, or too large a one"))
}

/// What the query asks for.
struct Filters {
    name: Option<Regex>,
    ip: Option<Regex>,
    ip6: Option<Regex>,
    /// vm_states that the statuses asked for stand for; `None`: any.
    statuses: Option<Vec<String>>,
    since: Option<Time>,
    before: Option<Time>,
    deleted: bool,
    /// Fields that must be equal, by the query's names.
    equal: Vec<(String, String)>,
    tags: [HashSet<String>; 4],
}

const STATUSES: &[&str] = &[
    "ACTIVE",
    "BUILD",
    "DELETED",
    "ERROR",
    "HARD_REBOOT",
    "MIGRATING",
    "PASSWORD",
    "PAUSED",
    "REBOOT",
    "REBUILD",
    "RESCUE",
    "RESIZE",
    "REVERT_RESIZE",
    "SHELVED",
    "SHELVED_OFFLOADED",
    "SHUTOFF",
    "SOFT_DELETED",
    "SUSPENDED",
    "UNKNOWN",
    "VERIFY_RESIZE",
];

impl Filters {
    fn read(call: &Call) -> Result<Self, Fault> {
        let moment = |name: &str| match call.query(name) {
            None => Ok(None),
            Some(text) => parse_time(text).map(Some).ok_or_else(|| {
                Fault::Invalid(format!(
                    "Invalid input for query parameters {name}. Value: {text}. '{text}' is not a 'date-time'"
                ))
            }),
        };
        let statuses: BTreeSet<String> = call.queries("status").map(str::to_uppercase).collect();
        let known = |status: &String| STATUSES.contains(&status.as_str());
        let statuses = (!statuses.is_empty()).then(|| statuses.into_iter().filter(known).collect());
        let admin = call.who()?.is_admin();
        let for_all = [
            "image",
            "flavor",
            "reservation_id",
            "tenant_id",
            "project_id",
            "key_name",
            "locked",
            "config_drive",
            "availability_zone",
            "user_id",
            "hostname",
            "uuid",
            "vm_state",
            "task_state",
            "power_state",
            "description",
        ];
        let for_admins = ["host", "node", "launch_index"];
        let fields = for_all.iter().chain(for_admins.iter().filter(|_| admin));
        let equal = fields.filter_map(|name| Some(((*name).to_owned(), call.query(name)?.to_owned()))).collect();
        let tags = ["tags", "tags-any", "not-tags", "not-tags-any"].map(|name| {
            let text = if call.version >= (2, 26) { call.query(name) } else { None };
            text.into_iter().flat_map(|t| t.split(',')).filter(|t| !t.is_empty()).map(str::to_owned).collect()
        });
        Ok(Self {
            name: pattern(call, "name")?,
            ip: pattern(call, "ip")?,
            ip6: pattern(call, "ip6")?,
            statuses,
            since: moment("changes-since")?,
            before: if call.version >= (2, 66) { moment("changes-before")? } else { None },
            deleted: flag(call, "deleted")? || flag(call, "soft_deleted")?,
            equal,
            tags,
        })
    }

    fn pass(&self, call: &Call, item: &Item<'_>) -> bool {
        let server = item.server;
        // Of servers that are gone no row is left, so nothing deleted is ever found.
        !self.deleted
            && self.name.as_ref().is_none_or(|pattern| pattern.is_match(&server.name))
            && self.statuses.as_ref().is_none_or(|all| all.iter().any(|status| status == item.state.status))
            && self.since.is_none_or(|since| server.updated_at >= since)
            && self.before.is_none_or(|before| server.updated_at <= before)
            && self.has_address(call, server)
            && self.has_tags(server)
            && self.equal.iter().all(|(name, value)| equals(call, item, name, value))
    }

    /// Both address filters together mean either.
    fn has_address(&self, call: &Call, server: &Server) -> bool {
        if self.ip.is_none() && self.ip6.is_none() {
            return true;
        }
        let ports = view::ports(&call.snapshot, server);
        ports.iter().flat_map(|port| &port.fixed_ips).any(|fixed| {
            let pattern = if fixed.ip.is_ipv4() { &self.ip } else { &self.ip6 };
            pattern.as_ref().is_some_and(|p| p.is_match(&fixed.ip.to_string()))
        })
    }

    fn has_tags(&self, server: &Server) -> bool {
        // By the server's tags, which are few.
        let shared = |tags: &HashSet<String>| server.tags.iter().filter(|tag| tags.contains(*tag)).count();
        let [all, any, not_all, not_any] = &self.tags;
        shared(all) == all.len()
            && (any.is_empty() || shared(any) > 0)
            && (not_all.is_empty() || shared(not_all) < not_all.len())
            && shared(not_any) == 0
    }
}

fn equals(call: &Call, item: &Item<'_>, name: &str, value: &str) -> bool {
    let server = item.server;
    let truth = |b: bool| {
        matches!(
            (b, value.to_lowercase().as_str()),
            (true, "true" | "1" | "t" | "yes" | "on") | (false, "false" | "0" | "f" | "no" | "off" | "")
        )
    };
    match name {
        "image" => server.image_id.as_deref() == Some(value),
        "flavor" => server.flavor.id == value,
        "reservation_id" => server.reservation_id == value,
        "tenant_id" | "project_id" => server.project_id == value,
        "user_id" => server.user_id == value,
        "key_name" => server.key_name.as_deref() == Some(value),
        "locked" => truth(server.locked),
        "config_drive" => truth(server.config_drive),
        "availability_zone" => {
            let host = status::host(&call.snapshot, server);
            host.is_some_and(|host| Aggregate::zone_of(&call.snapshot, host) == value)
        }
        "hostname" => server.hostname == value,
        "uuid" => server.id == value,
        "vm_state" => item.state.vm_state == value,
        "task_state" => item.state.task_state.unwrap_or("") == value,
        "power_state" => value.parse() == Ok(item.state.power_state),
        "description" => server.description.as_deref().unwrap_or("").contains(value),
        "host" | "node" => status::host(&call.snapshot, server) == Some(value),
        "launch_index" => value.parse() == Ok(server.launch_index),
        _ => true,
    }
}

fn sort(call: &Call, items: &mut [Item<'_>]) -> Result<(), Fault> {
    let mut keys: Vec<(String, bool)> = Vec::new();
    let mut directions = call.queries("sort_dir");
    for key in call.queries("sort_key") {
        let down = match directions.next() {
            None | Some("desc") => true,
            Some("asc") => false,
            Some(other) => {
                return Err(Fault::Invalid(format!("Invalid input for query parameters sort_dir. Value: {other}.")));
            }
        };
        if items.first().is_some_and(|item| field(item, key).is_none()) {
            return Err(Fault::Invalid(format!("Invalid input for query parameters sort_key. Value: {key}.")));
        }
        // What is equal by a key is equal by it the second time, too.
        if keys.iter().all(|(known, _)| known != key) {
            keys.push((key.to_owned(), down));
        }
    }
    if keys.is_empty() {
        keys.push(("created_at".into(), true));
    }
    items.sort_by(|a, b| {
        let by_keys = keys.iter().map(|(key, down)| {
            let order = field(a, key).cmp(&field(b, key));
            if *down { order.reverse() } else { order }
        });
        by_keys.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| b.server.id.cmp(&a.server.id))
    });
    Ok(())
}

/// The text by which a key sorts.
fn field(item: &Item<'_>, key: &str) -> Option<String> {
    let server = item.server;
    Some(match key {
        "uuid" | "id" => server.id.clone(),
        "display_name" => server.name.clone(),
        "created_at" => server.created_at.as_nanosecond().to_string(),
        "updated_at" => server.updated_at.as_nanosecond().to_string(),
        "launched_at" => server.launched_at.map_or_else(String::new, |at| at.as_nanosecond().to_string()),
        "vm_state" => item.state.vm_state.to_owned(),
        "task_state" => item.state.task_state.unwrap_or("").to_owned(),
        "power_state" => item.state.power_state.to_string(),
        "project_id" => server.project_id.clone(),
        "user_id" => server.user_id.clone(),
        "key_name" => server.key_name.clone().unwrap_or_default(),
        "image_ref" => server.image_id.clone().unwrap_or_default(),
        "instance_type_id" => server.flavor.id.clone(),
        "launch_index" => format!("{:010}", server.launch_index),
        "locked" => server.locked.to_string(),
        "config_drive" => server.config_drive.to_string(),
        "display_description" => server.description.clone().unwrap_or_default(),
        "availability_zone" => server.availability_zone.clone().unwrap_or_default(),
        "access_ip_v4" => server.access_ipv4.clone(),
        "access_ip_v6" => server.access_ipv6.clone(),
        "root_device_name" | "host" | "node" | "deleted" | "auto_disk_config" | "progress" | "terminated_at" => {
            String::new()
        }
        _ => return None,
    })
}

/// `GET /servers/{id}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let server = super::find(&view, call.param("id"))?;
    Ok(Reply::ok(
        json!({"server": view::server(&call, &call.snapshot, &server, &status::state(&call.snapshot, &server), Answers::ONE)}),
    ))
}
