//! The planners as `braid` runs them, and what comes of them: which pods and servers have a host by now.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use face_kube::Kube;
use model::{Event, Object, Row};
use store::{Concern, Interest, Store};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::timeout;

/// All that is asked for at once is placed within so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often it is said how far it is.
const SAID: Duration = Duration::from_secs(5);

/// Without a commit for so long nothing more comes.
const QUIET: Duration = Duration::from_millis(300);

/// What gets a host.
const PLACED: Interest = Interest::Concern(Concern { name: "placed", rule: is_placed });

pub struct Cloud {
    pub store: Store,
    placed: watch::Receiver<usize>,
    expected: usize,
}

impl Cloud {
    /// Plans from now on.
    pub fn new(store: Store, kube: Kube, threads: &Runtime) -> Result<Self, Box<dyn Error>> {
        let mut watch = store.watch_part(store.snapshot().revision(), PLACED)?;
        let (count, placed) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                match watch.next().await {
                    Ok(commits) => {
                        let events = commits.iter().flat_map(|commit| &commit.events);
                        count.send_modify(|count| *count += events.filter(|event| is_placed(event)).count());
                    }
                    Err(fault) => return eprintln!("what has a host is not counted any more: {fault}"),
                }
            }
        });
        let (progress, rows) = (placed.clone(), store.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SAID).await;
                eprintln!("{} have a host, {:?}", *progress.borrow(), rows.counters());
            }
        });
        threads.spawn(::planners::run(store.clone(), kube, Arc::new(AtomicBool::new(false))));
        Ok(Self { store, placed, expected: 0 })
    }

    /// Waits until so many more have a host.
    pub async fn places(&mut self, more: usize) -> Result<(), Box<dyn Error>> {
        self.expected += more;
        let expected = self.expected;
        let placed =
            timeout(PATIENCE, self.placed.wait_for(|placed| *placed >= expected)).await.map(|placed| placed.is_ok());
        let there = *self.placed.borrow();
        match placed {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{there} have a host, of more it is not known").into()),
            Err(_) => Err(format!("{there} of {expected} have a host after {PATIENCE:?}").into()),
        }
    }

    /// Waits until nothing more comes of what was done.
    pub async fn rest(&self) {
        let mut revision = 0;
        while std::mem::replace(&mut revision, self.store.snapshot().revision()) != revision {
            tokio::time::sleep(QUIET).await;
        }
    }
}

/// Whether an event gives a pod or a VM its host.
fn is_placed(event: &Event) -> bool {
    let placed = |row: &Option<Arc<Row>>| match row.as_ref().map(|row| &row.object) {
        Some(Object::KubeObject(object)) => object.is_pod() && object.body["spec"]["nodeName"].is_string(),
        Some(Object::Vm(vm)) => vm.host.is_some(),
        _ => false,
    };
    placed(&event.after) && !placed(&event.before)
}
