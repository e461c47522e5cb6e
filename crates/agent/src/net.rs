//! The host's network: compiled from rows, made by the driver, and each port's status written back.

use std::sync::{Arc, PoisonError};

use jiff::SignedDuration;
use model::hostnet::HostNetwork;
use model::wanted::Generation;
use model::{Change, Fault, Index, Port, PortStatus, Snapshot};

use crate::{Agent, fault};

/// The network is made again after this long even if nothing changed, in case somebody meddled with it.
const VERIFY_EVERY: SignedDuration = SignedDuration::from_secs(15);
/// After this long, if something went wrong or is late.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(1);

/// Says that rows changed of which the network may be made.
pub fn stale(agent: &Agent) {
    agent.inner.network.lock().unwrap_or_else(PoisonError::into_inner).stale = true;
}

/// The network that must be made, if it is not what was last made, or that was long ago.
pub fn due(agent: &Agent, snapshot: &Snapshot) -> Option<HostNetwork> {
    let (stale, verify, last) = {
        let applied = agent.inner.network.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |limit| applied.when.is_none_or(|t| agent.now().duration_since(t) >= limit);
        let limit = if applied.problem.is_empty() { VERIFY_EVERY } else { RETRY_AFTER };
        (applied.stale, age(limit), applied.network.clone())
    };
    if !stale && !verify {
        return None;
    }
    let network = plan::hostnet::compile(snapshot, &agent.config().host);
    if *last != network || verify {
        return Some(network);
    }
    agent.inner.network.lock().unwrap_or_else(PoisonError::into_inner).stale = false;
    None
}

/// Makes the network of the rows as they are now.
pub async fn step(agent: &Agent) -> Result<(), Fault> {
    let snapshot = agent.store().snapshot();
    make(agent, plan::hostnet::compile(&snapshot, &agent.config().host), Generation::of(&snapshot)).await
}

/// Makes a network and writes which ports are up.
pub async fn make(agent: &Agent, network: HostNetwork, at: Generation) -> Result<(), Fault> {
    let result = agent.drivers().net.apply(&network, at).await;
    {
        let mut applied = agent.inner.network.lock().unwrap_or_else(PoisonError::into_inner);
        applied.when = Some(agent.now());
        // What is late is asked for again as if it had gone wrong.
        applied.problem = match &result {
            Ok(seen) => seen.late.join("; "),
            Err(why) => why.to_string(),
        };
        if result.is_ok() {
            applied.network = Arc::new(network);
        }
    }
    let seen = result.map_err(fault)?.wires;
    agent.wake();
    let status = |id: &str| match seen.iter().find(|wire| wire.port_id == id) {
        Some(wire) if wire.active => PortStatus::Active,
        Some(wire) if wire.failed => PortStatus::Error,
        _ => PortStatus::Down,
    };
    agent
        .write(|snapshot| {
            let mut change = Change::new();
            for port in snapshot.find::<Port>(Index::Host, &agent.config().host) {
                let status = status(&port.id);
                if port.status != status {
                    change.edit(port, |port| port.status = status);
                }
            }
            Ok(change)
        })
        .await
}

/// Looks again soon: a device was plugged that the last look did not see.
pub fn look_again(agent: &Agent) {
    agent.inner.network.lock().unwrap_or_else(PoisonError::into_inner).when = None;
    agent.wake();
}
