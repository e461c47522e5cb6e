//! What planners make is shown to those whom a cluster asks before it is committed, like what people make: a policy that holds for
//! people's pods and not for those of their Deployments is none. Planners wait for nobody; the loop around them does, of each
//! change by itself. What controllers change or delete later is theirs, and of the events that they tell nobody is asked.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use gate::Identity;
use model::{Change, Cluster, KubeObject, Object, Snapshot, Write};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{Author, Review, ask, matching};
use crate::authz::{Grant, Subject};
use crate::kube::Kube;

/// An object that may not be made, and why.
#[derive(Debug)]
pub struct Unadmitted {
    pub object: Arc<KubeObject>,
    pub why: String,
}

/// How many objects of one change are shown at once.
const AT_ONCE: usize = 8;

fn made(change: &Change) -> impl Iterator<Item = &Arc<KubeObject>> {
    change.writes.iter().filter_map(|write| match write {
        Write::Create(Object::KubeObject(object)) if !object.is("", "events") => Some(object),
        _ => None,
    })
}

impl Kube {
    /// Whether anybody may have to be asked about a change that a planner made.
    pub fn asks(&self, rows: &Snapshot, change: &Change) -> bool {
        // What one change makes is of one cluster.
        made(change).next().is_some_and(|object| matching::configurations(&object.cluster_id, rows).next().is_some())
    }

    /// Shows what a controller wants to make to everybody whom the cluster asks. The first alone: if it is denied, so are the
    /// others in all likelihood, and nobody is asked a thousand times. All must have answered within a time.
    pub async fn admit(
        &self,
        rows: &Snapshot,
        change: &Change,
        controller: &str,
        within: Duration,
    ) -> Result<(), Unadmitted> {
        let made: Vec<Arc<KubeObject>> = made(change).cloned().collect();
        let end = Instant::now() + within;
        let (first, rest) = made.split_at(made.len().min(1));
        for some in [first].into_iter().chain(rest.chunks(AT_ONCE)) {
            let mut answers = Vec::with_capacity(some.len());
            for object in some {
                answers.push(self.admitted(rows, object, controller));
            }
            let late = |_| Unadmitted {
                object: some[0].clone(),
                why: format!("the cluster's webhooks did not answer for all within {within:?}"),
            };
            timeout_at(end, join_all(answers)).await.map_err(late)?.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    async fn admitted(&self, rows: &Snapshot, object: &Arc<KubeObject>, controller: &str) -> Result<(), Unadmitted> {
        let Some(cluster) = rows.get::<Cluster>(&object.cluster_id) else { return Ok(()) };
        let (cluster, kinds) = (cluster.value, self.kinds(cluster.value));
        let Some(kind) = kinds.stored(&object.group, &object.resource) else { return Ok(()) };
        let who = Subject {
            identity: Identity::Certificate,
            user: format!("system:serviceaccount:kube-system:{controller}"),
            uid: String::new(),
            groups: ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"]
                .map(str::to_owned)
                .to_vec(),
            grant: Grant::Nothing,
            is_lent: false,
        };
        let credential = controller.into();
        let author = Author { kube: self, cluster, who: &who, credential: &credential, kinds: &kinds, kind };
        let review = Review {
            operation: "CREATE",
            subresource: "",
            name: object.name.clone(),
            namespace: object.namespace.clone(),
            of: None,
            object: object.body.clone(),
            old: Value::Null,
        };
        let asked = matching::asked(&author, rows, &review);
        let denied =
            |failure: crate::fault::Failure| Unadmitted { object: object.clone(), why: failure.message().to_owned() };
        if asked.is_empty() { Ok(()) } else { ask(&author, &asked, &review, false).await.map(drop).map_err(denied) }
    }
}
