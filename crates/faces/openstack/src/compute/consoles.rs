//! Consoles that show a screen or take keys. Nova without proxies for them says of each type that it is unavailable, and so
//! does this cloud: what a guest writes is in its console log.

use model::Fault;
use serde_json::Value;

use super::body::{Fields, bad};
use super::fault::{missing, not_built};
use super::servers::{When, find, status};
use crate::call::{Call, Reply};

/// Protocols, and the first version that knows each.
const PROTOCOLS: &[(&str, (u16, u16))] =
    &[("vnc", (2, 6)), ("spice", (2, 6)), ("serial", (2, 6)), ("rdp", (2, 6)), ("mks", (2, 8))];
const TYPES: &[(&str, (u16, u16))] = &[
    ("novnc", (2, 6)),
    ("xvpvnc", (2, 6)),
    ("spice-html5", (2, 6)),
    ("serial", (2, 6)),
    ("rdp-html5", (2, 6)),
    ("webmks", (2, 8)),
    ("spice-direct", (2, 99)),
];

/// What the actions of before 2.6 may ask for.
const OLD: &[(&str, &[&str])] = &[
    ("os-getVNCConsole", &["novnc", "xvpvnc"]),
    ("os-getSPICEConsole", &["spice-html5"]),
    ("os-getRDPConsole", &["rdp-html5"]),
    ("os-getSerialConsole", &["serial"]),
];

fn one_of<'a>(fields: &Fields<'a>, field: &str, known: &[&str]) -> Result<&'a str, Fault> {
    let value = fields.required(field)?;
    let text = value.as_str().filter(|text| known.contains(text));
    text.ok_or_else(|| bad(field, value, &format!("It is not one of {known:?}")))
}

/// Why there is no console of the server.
fn refuse(call: &Call, verb: &str, kind: &str) -> Result<Reply, Fault> {
    let view = call.view()?;
    let server = find(&view, call.param("id"))?;
    let state = status::state(&call.snapshot, &server);
    When { any_task: true, though_locked: true, ..When::default() }.check(verb, &server, &state, true)?;
    Err(match status::host(&call.snapshot, &server) {
        None => Fault::Conflict(format!("Instance {} is not ready", server.id)),
        Some(_) => Fault::Invalid(format!("Unavailable console type {kind}.")),
    })
}

/// `POST /servers/{id}/remote-consoles`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    find(&call.view()?, call.param("id"))?;
    Fields::new("body", &body)?.only(&["remote_console"])?;
    let fields = Fields::of(&body, "remote_console")?;
    fields.only(&["protocol", "type"])?;
    let known = |all: &[(&'static str, (u16, u16))]| -> Vec<&'static str> {
        all.iter().filter(|(_, since)| call.version >= *since).map(|(name, _)| *name).collect()
    };
    one_of(&fields, "protocol", &known(PROTOCOLS))?;
    let kind = one_of(&fields, "type", &known(TYPES))?;
    refuse(&call, "get_console", kind)
}

/// The actions that ask for a console, until 2.5.
pub fn old(call: &Call, action: &str, body: &Value) -> Result<Reply, Fault> {
    let Some((_, types)) = OLD.iter().find(|(name, _)| *name == action) else { return Err(not_built(action)) };
    let fields = Fields::new(action, body)?;
    fields.only(&["type"])?;
    refuse(call, action, one_of(&fields, "type", types)?)
}

/// `GET /os-console-auth-tokens/{token}`: none was ever given out. Until 2.30 it told of Hyper-V's consoles alone.
pub async fn token(call: Call) -> Result<Reply, Fault> {
    if call.version <= (2, 30) {
        return Err(Fault::Invalid("Until 2.30 only consoles of Hyper-V have tokens; there are none.".into()));
    }
    Err(missing("Token not found"))
}
