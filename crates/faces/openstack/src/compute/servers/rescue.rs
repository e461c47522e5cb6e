//! Rescue: a server boots from another image, with its own disk as the second one, until it is unrescued.

use model::machine::Machine;
use model::{Fault, Kind, Server, Source};
use serde_json::{Value, json};

use super::{When, act, requests};
use crate::call::{Call, Reply};
use crate::compute::body::Fields;
use crate::compute::schema::{Is, Schema, property};

const fn when(vm_states: &'static [&'static str]) -> When {
    When { vm_states, tasks: &[], any_task: false, though_locked: false }
}

pub const RESCUE: Schema<Server> = Schema {
    name: "rescue",
    properties: &[requests::ADMIN_PASS, property("rescue_image_ref", Is::Any).refers_to(&[(Kind::Image, r#""$""#)])],
};

/// `rescue`
pub async fn rescue(call: &Call, value: &Value) -> Result<Reply, Fault> {
    let none = serde_json::Map::new();
    let fields = match value {
        Value::Null => Fields { name: "rescue", map: &none },
        value => Fields::new("rescue", value)?,
    };
    let given = RESCUE.take(call.version, &fields)?;
    let password = requests::admin_pass(given.text("adminPass"));
    let image = given.get("rescue_image_ref");
    act(call, "rescue", when(&["active", "stopped", "error"]), |server, subject| {
        let mut from = server.clone();
        if let Some(image) = image {
            from.image_id = Some(requests::boot_image(&subject.view, image, &server.flavor)?.id.clone());
        }
        let source = Source::of(subject.snapshot, &from);
        let unfit = |why| Fault::Invalid(format!("Cannot rescue instance {}: {why}", server.id));
        let source = source.map_err(unfit)?;
        Machine::of(&source.hardware, &server.flavor).map_err(unfit)?;
        server.rescue = Some(source);
        server.admin_pass = Some(password.clone());
        server.forced_state = None;
        server.power = true;
        Ok(())
    })
    .await?;
    Ok(Reply::ok(json!({"adminPass": password})))
}

/// `unrescue`
pub async fn unrescue(call: &Call) -> Result<Reply, Fault> {
    // Also what could not be rescued comes back.
    act(call, "unrescue", when(&["rescued", "error"]), |server, _| {
        if server.rescue.is_none() {
            return Err(Fault::Conflict(format!("Cannot 'unrescue' instance {} while it is not rescued", server.id)));
        }

        server.rescue = None;
        Ok(())
    })
    .await?;
    Ok(Reply::empty(202))
}
