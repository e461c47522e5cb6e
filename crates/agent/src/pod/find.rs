//! Finding what the runtime has of pods. At the bottom, for all that is done with a pod begins here.

use driver::{SeenContainer, SeenPod};
use model::Fault;

use crate::{Agent, fault};

/// The pod as the runtime has it.
pub async fn seen(agent: &Agent, uid: &str) -> Result<Option<SeenPod>, Fault> {
    agent.drivers().pod.look(uid).await.map_err(fault)
}

/// The newest attempt of a container.
pub fn newest<'a>(seen: Option<&'a SeenPod>, name: &str) -> Option<&'a SeenContainer> {
    seen?.containers.iter().filter(|c| c.name == name).max_by_key(|c| c.attempt)
}
