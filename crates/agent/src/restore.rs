//! What a person may tell the agent: that it shall go on where it waits, and what shall be given back of what was put aside.

use std::io;

use model::Fault;

use crate::cloud::View;
use crate::pod::{find, volumes};
use crate::trash::{Entry, Sort, Trash};
use crate::work::Left;
use crate::{Agent, Drivers, fault, identity};

impl Agent {
    /// Why the host does nothing, or not all, until a person confirms it.
    pub fn questions(&self) -> Vec<String> {
        self.inner.standing.question().into_iter().chain(self.inner.pruning.question()).collect()
    }

    /// Whether the agent does nothing on its host, since the two may not belong together.
    pub fn holds(&self) -> bool {
        self.inner.standing.holds()
    }

    /// A person has read the questions and wants the host to go on; what was agreed to.
    pub fn confirm(&self) -> Result<Vec<String>, Fault> {
        let questions = self.questions();
        if self.inner.standing.question().is_some() {
            // The revisions of this store may be lower than those by which things were done here.
            let Drivers { vm, pod, net } = self.drivers();
            vm.forget_generations().and(pod.forget_generations()).and(net.forget_generations()).map_err(fault)?;
            identity::confirm(self, &self.cloud().view().host()).map_err(Fault::Unavailable)?;
        }
        self.inner.pruning.confirm();
        self.wake();
        Ok(questions)
    }

    /// Gives back what was put aside, by its name in the trash or its id; what that was.
    pub async fn restore(&self, name: &str) -> Result<String, Fault> {
        if self.holds() {
            let why = self.inner.standing.question().unwrap_or_default();
            return Err(Fault::conflict(format!("nothing is done on this host: {why}")));
        }
        let found = Trash::of(&self.config().dir).find(name);
        let entry = found.ok_or_else(|| Fault::invalid(format!("nothing called {name} was put aside")))?;
        let (sort, id) = (entry.about.sort, &entry.about.id);
        let view = self.cloud().fresh().await?;
        if !is_wanted(&*view, sort, id) {
            let path = entry.content();
            let text = format!("{sort} {id} is in no row of the store, it would only be put aside again");
            return Err(Fault::conflict(format!("{text}; its files are in {}", path.display())));
        }
        match sort {
            Sort::Vm => self.drivers().vm.give_back(id, &entry.content(), view.generation()).await.map_err(fault)?,
            Sort::Pod => give_pod(self, id, &entry).await?,
        }
        destroy(&entry)?;
        self.wake();
        Ok(format!("{sort} {id}"))
    }
}

/// Destroys for good what was put aside long ago, and more if room is short.
pub(crate) async fn tidy(agent: &Agent) -> Result<Left, Fault> {
    let (trash, now, keep) = (Trash::of(&agent.config().dir), agent.now(), agent.config().keep_aside);
    let tidied = tokio::task::spawn_blocking(move || trash.tidy(now, keep, || trash.is_short())).await;
    let destroyed = tidied.map_err(io::Error::other).flatten();
    for name in destroyed.map_err(|e| Fault::Unavailable(format!("emptying the trash: {e}")))? {
        tracing::info!(host = agent.config().host, "{name}, which was put aside, is destroyed");
    }
    Ok(Left::Settled)
}

fn is_wanted(view: &dyn View, sort: Sort, id: &str) -> bool {
    match sort {
        Sort::Vm => view.vm(id).is_some_and(|of| !of.vm.deleting),
        Sort::Pod => view.pod(id).is_some_and(|of| !of.pod.deleting()),
    }
}

/// The volumes of a pod, unless it runs with others.
async fn give_pod(agent: &Agent, uid: &str, entry: &Entry) -> Result<(), Fault> {
    if find::seen(agent, uid).await?.is_some() {
        let path = entry.content();
        let text = format!("pod {uid} runs with other volumes by now; the old ones are in {}", path.display());
        return Err(Fault::conflict(text));
    }
    volumes::give_back(agent, uid, &entry.content()).await
}

fn destroy(entry: &Entry) -> Result<(), Fault> {
    entry.destroy().map_err(|e: io::Error| Fault::Unavailable(format!("removing {}: {e}", entry.name)))
}
