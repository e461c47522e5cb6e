//! Servers. What users want is written to the row; what is, is read from the row and its incarnations ([`status`]).

pub mod actions;
pub mod console;
pub mod create;
pub mod diagnostics;
pub mod hints;
pub mod interfaces;
pub mod list;
pub mod log;
pub mod metadata;
pub mod networks;
pub mod password;
pub mod personality;
pub mod remake;
pub mod requests;
pub mod rescue;
pub mod shelve;
pub mod snapshot;
pub mod status;
pub mod tags;
pub mod topology;
pub mod update;
pub mod view;

use gate::View;
use model::{Change, Entry, Fault, Index, Ledger, Server, ServerAction, Snapshot};
use store::Book;

use super::fault::no_server;
use crate::call::Call;
use status::State;

/// The server of the path, if the caller may know of it.
pub fn find<'a>(view: &View<'a>, id: &str) -> Result<Entry<'a, Server>, Fault> {
    view.get::<Server>(id).map_err(|_| no_server(id))
}

/// In which states a verb may begin. Empty: in any.
#[derive(Clone, Copy, Default)]
pub struct When {
    pub vm_states: &'static [&'static str],
    /// Task states besides none in which it may begin.
    pub tasks: &'static [&'static str],
    pub any_task: bool,
    /// A lock does not hold it back.
    pub though_locked: bool,
}

impl When {
    pub fn check(&self, verb: &str, server: &Server, state: &State, admin: bool) -> Result<(), Fault> {
        if server.locked && !self.though_locked && !admin {
            return Err(Fault::Conflict(format!("Instance {} is locked", server.id)));
        }
        if !self.vm_states.is_empty() && !self.vm_states.contains(&state.vm_state) {
            return Err(Fault::Conflict(format!(
                "Cannot '{verb}' instance {} while it is in vm_state {}",
                server.id, state.vm_state
            )));
        }
        if let Some(task) = state.task_state
            && !self.any_task
            && !self.tasks.contains(&task)
        {
            return Err(Fault::Conflict(format!(
                "Cannot '{verb}' instance {} while it is in task_state {task}",
                server.id
            )));
        }
        Ok(())
    }
}

/// A server about to be changed, as of the transaction's snapshot.
pub struct Subject<'a> {
    pub snapshot: &'a Snapshot,
    /// The claims of these rows.
    pub ledger: &'a Ledger,
    pub view: View<'a>,
    pub state: State,
    /// Further rows to write in the same transaction.
    pub change: Change,
}

/// Changes the server of the path by a verb, and logs the verb, in one transaction.
pub async fn act(
    call: &Call,
    verb: &str,
    when: When,
    mut edit: impl FnMut(&mut Server, &mut Subject<'_>) -> Result<(), Fault>,
) -> Result<Server, Fault> {
    let who = call.who()?;
    let id = call.param("id");
    call.cloud
        .store
        .transact_by_book(|Book { snapshot, ledger }| {
            let view = View::new(snapshot, who);
            let entry = find(&view, id)?;
            let state = status::state(snapshot, &entry);
            when.check(verb, &entry, &state, who.is_admin())?;
            let mut server = entry.value.clone();
            let mut subject = Subject { snapshot, ledger, view, state, change: Change::new() };
            edit(&mut server, &mut subject)?;
            server.updated_at = call.now;
            let mut change = subject.change;
            change.update(entry, server.clone());
            if !verb.is_empty() {
                make_room(snapshot, id, &mut change);
                change.create(logged(call, &server, verb)?);
            }
            Ok((change, server))
        })
        .await
}

/// Takes the oldest entries out of a server's log where there is no place for one more.
fn make_room(snapshot: &Snapshot, id: &str, change: &mut Change) {
    /// A log of before there was a limit gets shorter by and by.
    const AT_ONCE: usize = 64;
    let mut all: Vec<Entry<'_, ServerAction>> = snapshot.find::<ServerAction>(Index::Owner, id).collect();
    let excess = (all.len() + 1).saturating_sub(ServerAction::MOST);
    if excess == 0 {
        return;
    }
    all.sort_by_key(|action| (action.start_time, action.row.created));
    for action in all.into_iter().take(excess.min(AT_ONCE)) {
        change.delete(action);
    }
}

/// The log's entry for a verb.
pub fn logged(call: &Call, server: &Server, verb: &str) -> Result<ServerAction, Fault> {
    Ok(ServerAction {
        server_id: server.id.clone(),
        project_id: server.project_id.clone(),
        request_id: call.request_id.clone(),
        user_id: call.who()?.user_id.clone(),
        action: verb.to_owned(),
        start_time: call.now,
        message: None,
    })
}
