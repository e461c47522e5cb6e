//! `braid status` and `braid explain`: questions to the running process.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::paths::Dir;
use crate::{DirArg, Problem, client, say};

#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    dir: DirArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    dir: DirArg,
    /// server, pod, port or host
    kind: String,
    /// The id or name; a pod's namespace may stand before it: default/web
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Asks the process of the folder; an answer that is an error becomes a problem in its words.
pub fn ask(dir: &Dir, path: &str) -> Result<Value, Problem> {
    send(dir, client::get(path)?)
}

/// Asks for an act.
pub fn tell(dir: &Dir, path: &str) -> Result<Value, Problem> {
    send(dir, client::post(path)?)
}

fn send(dir: &Dir, request: http::Request<axum::body::Body>) -> Result<Value, Problem> {
    let answer = crate::small_runtime()?.block_on(client::unix(&dir.control(), request));
    let path = dir.path().display();
    let down = |e| {
        Problem::words(format!("the cloud in {path} is not running ({e}); `braid up --detach --dir {path}` starts it"))
    };
    let answer = answer.map_err(down)?;
    let value = answer.json();
    match value["error"].as_str() {
        Some(error) => Err(Problem::words(error)),
        None => Ok(value),
    }
}

/// Exits with 0 when the cloud is ready and everything is well, with 1 when it is not.
pub fn run(args: &StatusArgs) -> Result<ExitCode, Problem> {
    let dir = Dir::open(&args.dir.dir)?;
    let status = ask(&dir, "/status")?;
    let code = if status["healthy"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if args.json {
        say(format_args!("{status:#}"));
        return Ok(code);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let simulated = if status["simulated"] == true { ", simulated" } else { "" };
    say(format_args!(
        "braid {} at {} (pid {}){simulated}",
        text(&status["version"]),
        text(&status["url"]),
        status["pid"]
    ));
    let ready = match status["ready_ms"].as_u64() {
        Some(ms) => format!("ready after {ms} ms"),
        None => "not ready yet".to_owned(),
    };
    say(format_args!(
        "up for {} s, {ready}, {} MiB of memory, revision {}",
        status["uptime_seconds"], status["memory_mib"], status["revision"]
    ));
    say(format_args!("store: {}", well(&status["store"]["problem"])));
    say(format_args!("planners: {}", if status["plans_here"] == true { "run here" } else { "run in another process" }));
    say(format_args!("disk: {}", well(&status["disk"]["problem"])));
    say(format_args!("addresses: {}", well(&status["addresses"]["problem"])));
    for host in status["hosts"].as_array().into_iter().flatten() {
        say(host_line(host));
        for part in host["parts"].as_array().into_iter().flatten() {
            let note = part["note"].as_str().filter(|note| !note.is_empty()).map(|note| format!(" ({note})"));
            say(format_args!("  {}: {}{}", text(&part["part"]), well(&part["problem"]), note.unwrap_or_default()));
        }
    }
    let counts: Vec<String> =
        status["counts"].as_object().into_iter().flatten().map(|(name, n)| format!("{n} {name}")).collect();
    say(counts.join(", "));
    Ok(code)
}

fn host_line(host: &Value) -> String {
    let text = |field: &str| host[field].as_str().unwrap_or_default().to_owned();
    let (name, vms, pods) = (text("name"), &host["vms"], &host["pods"]);
    match host["heartbeat"].as_str() {
        Some(heartbeat) => format!("host {name}: {vms} VMs ({}), {pods} pods, last seen {heartbeat}", text("accel")),
        None => format!("host {name}: {vms} VMs, {pods} pods, has not reported yet"),
    }
}

fn well(problem: &Value) -> &str {
    match problem.as_str() {
        Some(text) if !text.is_empty() => text,
        _ => "well",
    }
}

pub fn explain(args: &ExplainArgs) -> Result<ExitCode, Problem> {
    let dir = Dir::open(&args.dir.dir)?;
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    if !plain(&args.kind) || !plain(&args.name) || args.name.is_empty() {
        return Err(Problem::words("a kind and an id or name, please: braid explain server vm1"));
    }
    let answer = ask(&dir, &format!("/explain/{}/{}", args.kind, args.name))?;
    if args.json {
        say(format_args!("{answer:#}"));
        return Ok(ExitCode::SUCCESS);
    }
    for line in answer["general"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        say(line);
    }
    for thing in answer["things"].as_array().into_iter().flatten() {
        say(format_args!("{} ({})", thing["name"].as_str().unwrap_or(""), thing["key"].as_str().unwrap_or("")));
        for line in thing["lines"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            say(format_args!("  {line}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::host_line;

    #[test]
    fn hosts_are_lines_also_before_they_report() {
        let host = json!({"name": "a", "vms": 1, "pods": 2, "accel": "tcg", "heartbeat": "2026-11-29T07:48:34Z"});
        assert_eq!(host_line(&host), "host a: 1 VMs (tcg), 2 pods, last seen 2026-11-29T07:48:34Z");
        let silent = json!({"name": "a", "vms": 0, "pods": 0, "accel": "", "heartbeat": null});
        assert_eq!(host_line(&silent), "host a: 0 VMs, 0 pods, has not reported yet");
    }
}
