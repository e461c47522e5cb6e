//! What a server wrote to its serial line, fetched from its host.

use model::{Fault, Host, Vm};
use serde_json::{Value, json};

use super::{When, status};
use crate::call::{Call, Reply};
use crate::compute::body::Fields;

/// The most bytes of a console log that are sent; Nova's own limit.
const MOST: usize = 102_400;

/// `os-getConsoleOutput`
pub async fn output(call: &Call, body: &Value) -> Result<Reply, Fault> {
    let none = serde_json::Map::new();
    let map = body.as_object().unwrap_or(&none);
    let fields = Fields { name: "os-getConsoleOutput", map };
    fields.only(&["length"])?;
    let lines = fields.integer("length", -1, i64::from(i32::MAX))?.and_then(|n| usize::try_from(n).ok());
    let view = call.view()?;
    let server = super::find(&view, call.param("id"))?;
    let state = status::state(&call.snapshot, &server);
    When { any_task: true, though_locked: true, ..When::default() }.check(
        "get_console_output",
        &server,
        &state,
        true,
    )?;
    let not_ready = || Fault::Conflict(format!("Instance {} is not ready", server.id));
    let vm = status::current(&call.snapshot, &server).ok_or_else(not_ready)?;
    let host = vm.host.as_deref().and_then(|name| call.snapshot.get::<Host>(name)).ok_or_else(not_ready)?;
    // Lines are counted here: the host counts bytes.
    let path = format!("/console/{}?length={MOST}", Vm::id(&vm.server_id, vm.incarnation));
    let (code, bytes) = call.cloud.streams.get(&host.endpoint, &path, MOST).await?;
    let text = match code {
        200 => String::from_utf8_lossy(&bytes).into_owned(),
        404 => String::new(),
        _ => return Err(Fault::Unavailable(format!("host {} answered {code} for the console", host.name))),
    };
    let text = match lines {
        Some(lines) => last_lines(&text, lines),
        None => text,
    };
    Ok(Reply::ok(json!({"output": text})))
}

fn last_lines(text: &str, count: usize) -> String {
    let ends = text.ends_with('\n');
    let lines: Vec<&str> = text.lines().collect();
    let mut out = lines[lines.len().saturating_sub(count)..].join("\n");
    if ends && !out.is_empty() {
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn the_last_lines() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last_lines("a\nb", 5), "a\nb");
        assert_eq!(last_lines("a\nb\n", 0), "");
        assert_eq!(last_lines("", 3), "");
    }
}
