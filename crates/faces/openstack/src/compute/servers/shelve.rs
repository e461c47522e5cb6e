//! Shelving: a server's disk is kept as an image, and its room on the host is free until it is unshelved, anywhere. As with
//! Nova's defaults the VM goes as soon as the image is complete, so there is hardly ever anything left to offload.

use model::Fault;
use model::machine::Machine;
use serde_json::Value;

use super::{When, act, remake, snapshot};
use crate::call::{Call, Reply};
use crate::compute::body::Fields;
use crate::compute::fault::not_built;
use crate::compute::hosts;

const fn when(vm_states: &'static [&'static str]) -> When {
    When { vm_states, tasks: &[], any_task: false, though_locked: false }
}

/// `shelve`
pub async fn shelve(call: &Call) -> Result<Reply, Fault> {
    let id = uuid::Uuid::new_v4().to_string();
    act(call, "shelve", when(&["active", "stopped", "paused", "suspended"]), |server, subject| {
        let source = snapshot::source(subject.snapshot, server);
        if source.is_some_and(|s| Machine::of(&s.hardware, &server.flavor).is_ok_and(|machine| machine.tpm.is_some())) {
            let words = format!("Cannot shelve instance {}: the secrets of its virtual TPM would be lost.", server.id);
            return Err(Fault::Conflict(words));
        }
        let name = format!("{}-shelved", server.name);
        let mut image = snapshot::of_server(call, &id, server, subject.snapshot, &name)?;
        // It is the server's, whoever shelves it.
        image.project_id.clone_from(&server.project_id);
        subject.change.create(image);
        server.shelved = Some(id.clone());
        server.paused = false;
        server.suspended = false;
        server.forced_state = None;
        Ok(())
    })
    .await?;
    Ok(Reply::empty(202))
}

/// `shelveOffload`
pub async fn offload(call: &Call) -> Result<Reply, Fault> {
    let when = When { tasks: &["shelving_offloading"], ..when(&["shelved"]) };
    act(call, "shelveOffload", when, |_, _| Ok(())).await?;
    Ok(Reply::empty(202))
}

/// `unshelve`
pub async fn unshelve(call: &Call, value: &Value) -> Result<Reply, Fault> {
    let mut zone = None;
    if !value.is_null() {
        let fields = Fields::new("unshelve", value)?;
        fields.only(if call.version >= (2, 91) { &["availability_zone", "host"] } else { &["availability_zone"] })?;
        if fields.get("host").is_some() {
            return Err(not_built("Unshelving to a host"));
        }
        if let Some(asked) = fields.text("availability_zone", 255)? {
            if !hosts::is_zone(&call.snapshot, asked) {
                return Err(Fault::Invalid("The requested availability zone is not available".into()));
            }
            zone = Some(asked.to_owned());
        }
    }
    act(call, "unshelve", when(&["shelved_offloaded"]), |server, _| {
        remake::next(server, false);
        server.unshelving = server.shelved.take();
        server.power = true;
        if zone.is_some() {
            server.availability_zone.clone_from(&zone);
        }
        Ok(())
    })
    .await?;
    Ok(Reply::empty(202))
}
