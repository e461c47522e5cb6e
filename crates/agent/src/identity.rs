//! For which cloud, and as which of its hosts, a folder is kept. A host that is given the store of another cloud, an older
//! copy of its own, or another name finds nobody who wants what runs there, and would remove all of it within seconds; so it
//! compares first, does nothing where they differ, and asks a person.
//!
//! An older copy is known by a number that both sides count up at each report: the host's own row cannot be behind what the
//! host has written to it. Refused: comparing revisions of the store, which an old copy passes again while others write to
//! it; and a check at the start of the process alone, which another process's store would escape.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::host_report::of_another;
use model::host_view::HostView;
use serde::{Deserialize, Serialize};

use crate::Agent;

/// The file in the host's folder.
const FILE: &str = "identity.json";

/// Whose a folder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    /// [`model::Setting::cloud_id`].
    cloud: String,
    host: String,
    /// How often the host had reported when this was written.
    reports: u64,
}

/// What an agent knows of its folder.
#[derive(Default)]
pub(crate) struct Standing(Mutex<Known>);

#[derive(Default)]
struct Known {
    compared: bool,
    folder: Option<Identity>,
    question: Option<String>,
}

impl Standing {
    // Whoever panicked under this lock left it whole.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the host does nothing, as it was last found.
    pub(crate) fn question(&self) -> Option<String> {
        self.known().question.clone()
    }

    /// Whether nothing may be done: also before the two were compared for the first time.
    pub(crate) fn holds(&self) -> bool {
        let known = self.known();
        !known.compared || known.question.is_some()
    }
}

/// Whether the agent may act by these rows; if not, why, in words. What changed is logged.
pub(crate) async fn question(agent: &Agent, view: &HostView) -> Option<String> {
    let question = compare(agent, view).await.err();
    let mut known = agent.inner.standing.known();
    known.compared = true;
    if known.question != question {
        let host = &agent.config().host;
        match &question {
            Some(words) => tracing::error!(host, "nothing is done on this host: {words}"),
            None => tracing::info!(host, "the host goes on"),
        }
        known.question.clone_from(&question);
        agent.report_soon();
    }
    question
}

async fn compare(agent: &Agent, view: &HostView) -> Result<(), String> {
    let store = of_store(agent, view)?;
    let known = agent.inner.standing.known().folder.clone();
    let folder = match known {
        Some(folder) => Some(folder),
        None => read(&file(agent))?,
    };
    match folder {
        Some(folder) => {
            agree(&folder, &store)?;
            agent.inner.standing.known().folder = Some(folder);
            Ok(())
        }
        None if view.host.as_ref().is_none_or(|host| host.status.heartbeat.is_none()) && is_used(agent).await => {
            Err(format!(
                "{} has VMs or pods, and this cloud has never had a host there; start with the store that they are of",
                agent.config().dir.display()
            ))
        }
        None => adopt(agent, store),
    }
}

/// What the store says that the folder should be.
fn of_store(agent: &Agent, view: &HostView) -> Result<Identity, String> {
    let cloud = view.cloud.clone().ok_or("the store has no identity yet")?;
    Ok(Identity { cloud, host: agent.config().host.clone(), reports: view.reports() })
}

fn agree(folder: &Identity, store: &Identity) -> Result<(), String> {
    if folder.cloud != store.cloud {
        return Err(format!(
            "this folder is of the cloud {}, and the store is of the cloud {}; start with the right --store or --dir",
            folder.cloud, store.cloud
        ));
    }
    if folder.host != store.host {
        let (words, old) = (of_another(&folder.host), &folder.host);
        return Err(format!("{words}{}; start with --host-name {old}", store.host));
    }
    if folder.reports > store.reports {
        return Err(format!(
            "the store is older than this host: it knows {} of {} reports; put the newer store back",
            store.reports, folder.reports
        ));
    }
    Ok(())
}

/// The folder has something that somebody may want. What is not known counts as something.
async fn is_used(agent: &Agent) -> bool {
    let vms = agent.drivers().vm.list().await.map_or(true, |vms| !vms.is_empty());
    vms || std::fs::read_dir(agent.config().dir.join("pods")).is_ok_and(|mut pods| pods.next().is_some())
}

/// From now on the folder is of this cloud and this host.
fn adopt(agent: &Agent, identity: Identity) -> Result<(), String> {
    write(&file(agent), &identity).map_err(|e| format!("cannot write {}: {e}", file(agent).display()))?;
    agent.inner.standing.known().folder = Some(identity);
    Ok(())
}

/// A person has said that the folder belongs to this store all the same.
pub(crate) fn confirm(agent: &Agent, view: &HostView) -> Result<(), String> {
    adopt(agent, of_store(agent, view)?)
}

/// The store has this report of the host.
pub(crate) fn reported(agent: &Agent, reports: u64) -> std::io::Result<()> {
    let folder = agent.inner.standing.known().folder.clone();
    let Some(folder) = folder.filter(|folder| folder.reports < reports) else { return Ok(()) };
    let folder = Identity { reports, ..folder };
    write(&file(agent), &folder)?;
    agent.inner.standing.known().folder = Some(folder);
    Ok(())
}

fn file(agent: &Agent) -> PathBuf {
    agent.config().dir.join(FILE)
}

/// A file that cannot be understood is not taken for none.
fn read(file: &Path) -> Result<Option<Identity>, String> {
    let bad = |e: &dyn std::fmt::Display| format!("{} cannot be read: {e}", file.display());
    match std::fs::read(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(bad(&e)),
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| bad(&e)),
    }
}

fn write(file: &Path, identity: &Identity) -> std::io::Result<()> {
    let new = file.with_extension("new");
    file.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    let mut out = std::fs::File::create(&new)?;
    out.write_all(&serde_json::to_vec(identity)?)?;
    // A lost count does no harm, a lost name does.
    if !file.exists() {
        out.sync_all()?;
    }
    std::fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cloud: &str, host: &str, reports: u64) -> Identity {
        Identity { cloud: cloud.into(), host: host.into(), reports }
    }

    #[test]
    fn a_folder_serves_its_own_cloud_host_and_past() {
        let folder = identity("a", "h", 7);
        assert_eq!(agree(&folder, &folder), Ok(()));
        assert_eq!(agree(&folder, &identity("a", "h", 8)), Ok(()), "the last report was not noted here");
        for (other, words) in [
            (identity("b", "h", 9), "of the cloud a, and the store is of the cloud b"),
            (identity("a", "i", 9), "--host-name h"),
            (identity("a", "h", 6), "the store is older than this host"),
        ] {
            let why = agree(&folder, &other).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn a_damaged_file_is_not_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("identity.json");
        assert_eq!(read(&file), Ok(None));
        write(&file, &identity("a", "h", 1)).unwrap();
        assert_eq!(read(&file), Ok(Some(identity("a", "h", 1))));
        std::fs::write(&file, "").unwrap();
        assert!(read(&file).is_err());
    }
}
