//! Usage reports (`os-simple-tenant-usage`): for how long servers were there within a span of time, by the size that they
//! had then. Nova counts a server by its last size alone, since its last start; here each size counts for the time that it
//! was had ([`ServerUsage`]), so that one server may be listed once for each. Containers are in no report: Nova's has no
//! word for them.

use std::collections::BTreeMap;

use gate::View;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::{Fault, Server, ServerUsage, Snapshot, Time};
use serde_json::{Map, Value, json};

use super::servers::status;
use super::wire::{list, page, time_micro};
use crate::call::{Call, Reply};

/// The span of a report; `stop` is not to come.
struct Span {
    start: Time,
    stop: Time,
}

/// A server in one of its sizes, and until when if that is over.
struct Used {
    usage: ServerUsage,
    state: &'static str,
    over: bool,
}

impl Used {
    fn hours(&self, span: &Span) -> f64 {
        let (from, to) = (self.usage.started.max(span.start), self.usage.ended.min(span.stop));
        to.duration_since(from).as_secs_f64().max(0.0) / 3600.0
    }
}

fn moment(call: &Call, name: &str) -> Result<Option<Time>, Fault> {
    let Some(text) = call.query(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    let found = formats.iter().find_map(|format| DateTime::strptime(format, text).ok());
    let found = found.and_then(|plain| plain.to_zoned(TimeZone::UTC).ok()).map(|zoned| zoned.timestamp());
    found.map(Some).ok_or_else(|| Fault::Invalid("Invalid datetime string: Datetime is in invalid format".into()))
}

fn span(call: &Call) -> Result<Span, Fault> {
    if call.version >= (2, 75)
        && let Some((name, _)) =
            call.query.iter().find(|(n, _)| !["start", "end", "detailed", "limit", "marker"].contains(&n.as_str()))
    {
        return Err(Fault::Invalid(format!("Additional properties are not allowed ('{name}' was unexpected)")));
    }
    let (start, stop) = (moment(call, "start")?, moment(call, "end")?);
    // Without either, the report is of no time at all, as Nova's is.
    if start.unwrap_or(call.now) > stop.unwrap_or(call.now) || (start.is_some() && start == stop) {
        return Err(Fault::Invalid("Invalid start time. The start time cannot occur after the end time.".into()));
    }
    Ok(Span { start: start.unwrap_or(call.now), stop: stop.unwrap_or(call.now).min(call.now) })
}

/// All that was there within the span, of one project or of all, by project and server.
fn used(call: &Call, view: &View<'_>, span: &Span, project: Option<&str>) -> BTreeMap<(String, String), Vec<Used>> {
    let mut all: BTreeMap<(String, String), Vec<Used>> = BTreeMap::new();
    let mut put = |used: Used| {
        if used.usage.started < span.stop && used.usage.ended > span.start {
            all.entry((used.usage.project_id.clone(), used.usage.server_id.clone())).or_default().push(used);
        }
    };
    let ended = |usage: &ServerUsage| Used {
        usage: usage.clone(),
        state: if usage.terminated { "terminated" } else { "resized" },
        over: true,
    };
    match project {
        Some(project) => ServerUsage::of_project(view.snapshot, project).for_each(|usage| put(ended(usage))),
        None => ServerUsage::since(view.snapshot, span.start).for_each(|usage| put(ended(usage))),
    }
    for server in view.all::<Server>().filter(|server| project.is_none_or(|id| server.project_id == id)) {
        let state = |snapshot: &Snapshot| status::state(snapshot, server.value).vm_state;
        let usage = ServerUsage::of(server.value, call.now, false);
        usage.into_iter().for_each(|usage| put(Used { usage, state: state(view.snapshot), over: false }));
    }
    all
}

fn show_server(used: &Used, span: &Span) -> Value {
    let usage = &used.usage;
    json!({
        "instance_id": usage.server_id, "name": usage.name, "tenant_id": usage.project_id, "flavor": usage.flavor,
        "vcpus": usage.vcpus, "memory_mb": usage.ram, "local_gb": usage.disk, "state": used.state,
        "started_at": time_micro(usage.started), "ended_at": used.over.then(|| time_micro(usage.ended)),
        "hours": used.hours(span), "uptime": usage.ended.duration_since(usage.started).as_secs(),
    })
}

fn show_project(project: &str, servers: &[&Used], span: &Span, detailed: bool) -> Value {
    let total = |size: fn(&ServerUsage) -> u64| -> f64 {
        servers.iter().map(|used| used.hours(span) * size(&used.usage) as f64).sum()
    };
    let mut out = json!({
        "tenant_id": project, "start": time_micro(span.start), "stop": time_micro(span.stop),
        "total_hours": total(|_| 1), "total_vcpus_usage": total(|u| u.vcpus), "total_memory_mb_usage": total(|u| u.ram),
        "total_local_gb_usage": total(|u| u.disk),
    });
    if detailed {
        out["server_usages"] = servers.iter().map(|used| show_server(used, span)).collect();
    }
    out
}

/// The report of each project, and whether there are more behind which server. Pages are of servers (2.40).
fn report(call: &Call, project: Option<&str>, detailed: bool) -> Result<(Vec<Value>, Option<String>), Fault> {
    let span = span(call)?;
    let servers: Vec<_> = used(call, &call.view()?, &span, project).into_iter().collect();
    let (servers, next) = if call.version >= (2, 40) {
        let page = page(call, servers, |((_, id), _)| id.clone())?;
        let last = page.items.last().map(|((_, id), _)| id.clone()).filter(|_| page.more);
        (page.items, last)
    } else {
        (servers, None)
    };
    let mut projects: BTreeMap<&str, Vec<&Used>> = BTreeMap::new();
    for ((project, _), sizes) in &servers {
        projects.entry(project).or_default().extend(sizes);
    }
    let shown = projects.iter().map(|(project, servers)| show_project(project, servers, &span, detailed));
    Ok((shown.collect(), next))
}

/// `GET /os-simple-tenant-usage`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let detailed = call.query("detailed") == Some("1");
    let (projects, next) = report(&call, None, detailed)?;
    Ok(Reply::ok(list(&call, "tenant_usages", projects, next)))
}

/// `GET /os-simple-tenant-usage/{project}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let (who, project) = (call.who()?, call.param("project"));
    if !who.is_admin() && who.project_id() != Some(project) {
        return Err(Fault::Forbidden(
            "Policy doesn't allow os_compute_api:os-simple-tenant-usage:show to be performed.".into(),
        ));
    }
    let (projects, next) = report(&call, Some(project), true)?;
    let mut out = list(&call, "tenant_usage", Vec::new(), next);
    out["tenant_usage"] = projects.into_iter().next().unwrap_or_else(|| Value::Object(Map::new()));
    Ok(Reply::ok(out))
}
