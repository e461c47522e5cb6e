//! The host's network: as the cloud wants it, made by the driver, and which ports are plugged reported.

use std::sync::{Arc, PoisonError};

use jiff::SignedDuration;
use model::host_report::Report;
use model::hostnet::HostNetwork;
use model::wanted::Generation;
use model::{Fault, PortStatus};

use crate::{Agent, fault};

/// The network is made again after this long even if nothing changed, in case somebody meddled with it.
const VERIFY_EVERY: SignedDuration = SignedDuration::from_secs(15);
/// After this long, if something went wrong or is late.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(1);

/// Says that rows changed of which the network may be made.
pub fn stale(agent: &Agent) {
    agent.inner.network.lock().unwrap_or_else(PoisonError::into_inner).stale = true;
}

/// Why the network is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Rows changed: it is made if it comes out otherwise than it was last made.
    Changed,
    /// The last time was long ago, or went wrong: it is made in any case.
    Verify,
}

/// Whether the network has to be looked at.
pub fn due(agent: &Agent) -> Option<Due> {
    let applied = agent.inner.network.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = if applied.problem.is_empty() { VERIFY_EVERY } else { RETRY_AFTER };
    match applied.when.is_none_or(|t| agent.now().duration_since(t) >= limit) {
        true => Some(Due::Verify),
        false => applied.stale.then_some(Due::Changed),
    }
}

/// Makes the network of the rows as they are now, as far as it is due. What it is to be is worked out on a thread of its own:
/// that takes longer the larger it is.
pub async fn follow(agent: &Agent, due: Due) -> Result<(), Fault> {
    let last = {
        let mut applied = agent.inner.network.lock().unwrap_or_else(PoisonError::into_inner);
        // What changes from here on is seen the next time.
        applied.stale = false;
        applied.network.clone()
    };
    let view = agent.cloud().view();
    let at = view.generation();
    let compiled = driver::on_a_thread(move || Ok(view.network())).await;
    let network = compiled.map_err(|error| {
        stale(agent);
        Fault::Internal(format!("the host's network was not worked out: {error}"))
    })?;
    if due == Due::Changed && *last == network {
        return Ok(());
    }
    make(agent, network, at).await
}

/// Makes a network and writes which ports are up.
async fn make(agent: &Agent, network: HostNetwork, at: Generation) -> Result<(), Fault> {
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
    let status = |wire: &driver::SeenWire| match wire.active {
        true => Some(PortStatus::Active),
        false => wire.failed.then_some(PortStatus::Error),
    };
    let plugged = seen.iter().filter_map(|wire| Some((wire.port_id.clone(), status(wire)?)));
    agent.report(Report::Ports(plugged.collect())).await.map(drop)
}

/// Looks again soon: a device was plugged that the last look did not see.
pub fn look_again(agent: &Agent) {
    agent.inner.network.lock().unwrap_or_else(PoisonError::into_inner).when = None;
    agent.wake();
}
