//! What becomes of a host's report: changes of rows that are that host's to write, and of no others. Whatever a report names
//! that is not there, or is not this host's any more, is passed over: it says how things were a moment ago.

mod image;
mod pod;

use std::collections::BTreeMap;

use model::host_report::{Heard, HostReport, Report, of_another};
use model::{
    Aggregate, Change, Fault, Host, HostStatus, Index, Kind, Port, PortStatus, Server, Snapshot, Time, Vm, VmStatus,
    node,
};

/// What a report changes, and what its host is told of that.
pub fn change(rows: &Snapshot, host: &str, report: &Report, now: Time) -> Result<(Change, Heard), Fault> {
    let change = match report {
        Report::Host(report) => return Ok(counted(rows, host, report, now)),
        Report::Holds(parts) => holds(rows, host, parts),
        Report::Ports(plugged) => ports(rows, host, plugged),
        Report::Vm { id, status } => vm(rows, host, id, status, now),
        Report::Pod { uid, status, news } => pod::status(rows, host, uid, status, news, now),
        Report::PodGone { uid, news } => pod::gone(rows, host, uid, news, now),
        Report::Saving { image } => image::begun(rows, host, image, now),
        Report::Saved { image, bytes } => image::made(rows, host, image, bytes, now),
        Report::NotSaved { image, why } => image::given_up(rows, host, image, why),
        Report::Password { port, password } => password_of(rows, host, port, password)?,
    };
    let wrote = !change.is_empty();
    Ok((change, Heard { wrote, reports: None }))
}

/// The host's row, if there is anything new or the report is to be counted.
fn counted(rows: &Snapshot, name: &str, report: &HostReport, now: Time) -> (Change, Heard) {
    let mut change = Change::new();
    let Some(host) = rows.get::<Host>(name) else { return (change, Heard::default()) };
    let before = host.value;
    let mut value = Host { endpoint: report.endpoint.clone(), ..before.clone() };
    let HostStatus { heartbeat, reports, turned, .. } = before.status.clone();
    let zone = Aggregate::zone_of(rows, name).to_owned();
    let reserved_for = Aggregate::reserved_for(rows, name);
    value.status =
        HostStatus { heartbeat, reports, turned, zone, reserved_for, silent: false, ..report.status.clone() };
    for row in rows.all::<Host>().filter(|row| is_mistaken(row, name)) {
        change.delete(row);
    }
    if value == *before && change.is_empty() && !report.counts && heartbeat.is_some() {
        return (change, Heard::default());
    }
    value.status.heartbeat = Some(now);
    value.status.reports += 1;
    node::turn(&mut value, before, now);
    let heard = Heard { wrote: true, reports: Some(value.status.reports) };
    change.update(host, value);
    (change, heard)
}

/// A host that never was: this host's folder under a name that it was started with by mistake.
fn is_mistaken(row: &Host, host: &str) -> bool {
    let asked = |words: &String| words.starts_with(&of_another(host));
    row.name != host && row.status.heartbeat.is_none() && row.status.parts.iter().any(|(_, words)| asked(words))
}

/// Without a heartbeat, so that nothing new is placed there.
fn holds(rows: &Snapshot, host: &str, parts: &[(String, String)]) -> Change {
    let mut change = Change::new();
    if let Some(host) = rows.get::<Host>(host).filter(|host| host.status.parts != parts) {
        change.edit(host, |host| host.status.parts = parts.to_vec());
    }
    change
}

fn ports(rows: &Snapshot, host: &str, plugged: &BTreeMap<String, PortStatus>) -> Change {
    let mut change = Change::new();
    for port in rows.find::<Port>(Index::Host, host) {
        let status = plugged.get(&port.id).copied().unwrap_or(PortStatus::Down);
        if port.status != status {
            change.edit(port, |port| port.status = status);
        }
    }
    change
}

fn vm(rows: &Snapshot, host: &str, id: &str, status: &VmStatus, now: Time) -> Change {
    let mut change = Change::new();
    if let Some(vm) = rows.get::<Vm>(id).filter(|vm| vm.host.as_deref() == Some(host)) {
        let since = if vm.status.phase == status.phase { status.since } else { Some(now) };
        let status = VmStatus { since, ..status.clone() };
        if vm.status != status {
            change.edit(vm, |vm| vm.status = status);
        }
    }
    change
}

/// The password is kept once, until a user takes it away.
fn password_of(rows: &Snapshot, host: &str, port: &str, password: &str) -> Result<Change, Fault> {
    let row = rows.get::<Port>(port).filter(|port| port.host.as_deref() == Some(host));
    let holder = row.and_then(|port| port.value.holder.as_ref());
    let server = holder.and_then(|holder| rows.at::<Server>(holder.key()));
    let server = server.ok_or_else(|| Fault::not_found(Kind::Port, port))?;
    if server.guest_password.is_some() {
        return Err(Fault::Conflict("There is a password already.\n".into()));
    }
    let mut change = Change::new();
    if !password.is_empty() {
        change.edit(server, |server| server.guest_password = Some(password.to_owned()));
    }
    Ok(change)
}
