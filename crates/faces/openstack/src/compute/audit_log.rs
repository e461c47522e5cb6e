//! `os-instance_usage_audit_log`: which hosts have written their usage of a period into a log. Nova writes it only where
//! `instance_usage_audit` is set; here it never is, and this says so. What projects used is told by usage reports.

use model::{Fault, Host, Time};
use serde_json::{Value, json};

use crate::call::{Call, Reply};
use crate::lists::parse_time;

/// `2026-11-01 00:00:00`
fn shown(date: jiff::civil::Date) -> String {
    format!("{date} 00:00:00")
}

/// The last whole month before a moment.
fn log(call: &Call, before: Time) -> Value {
    let end = before.to_zoned(jiff::tz::TimeZone::UTC).date().first_of_month();
    let begin = end.yesterday().map_or(end, jiff::civil::Date::first_of_month);
    let hosts: Vec<&str> = call.snapshot.all::<Host>().map(|host| host.value.name.as_str()).collect();
    json!({
        "hosts_not_run": hosts,
        "log": {},
        "num_hosts": hosts.len(),
        "num_hosts_done": 0,
        "num_hosts_not_run": hosts.len(),
        "num_hosts_running": 0,
        "overall_status": format!("0 of {} hosts done. 0 errors.", hosts.len()),
        "period_beginning": shown(begin),
        "period_ending": shown(end),
        "total_errors": 0,
        "total_instances": 0,
    })
}

/// `GET /os-instance_usage_audit_log`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(json!({"instance_usage_audit_logs": log(&call, call.now)})))
}

/// `GET /os-instance_usage_audit_log/{before}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let text = call.param("before");
    let before = parse_time(text).ok_or_else(|| Fault::Invalid(format!("Invalid timestamp for date {text}")))?;
    Ok(Reply::ok(json!({"instance_usage_audit_log": log(&call, before)})))
}
