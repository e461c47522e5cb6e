//! Fills the process's memory from etcd: loads all rows at one revision, then applies what the watch brings, commit by
//! commit. After a lost connection it resumes; when etcd has compacted what was missed, it loads anew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use model::{Object, Revision, Row, Write};
use tokio::time::sleep;

use super::Shared;
use super::client::pb::{self, event::EventType};
use crate::{Book, StoreFault, Weighed, newer};

/// How many keys are read at once while loading.
const PAGE: i64 = 100;

/// How often etcd's history is cut, and so how old what is cut is at least.
const COMPACT_EVERY: Duration = Duration::from_secs(300);

/// How the watch ended.
enum End {
    /// What is needed next was compacted.
    Compacted,
    Lost(String),
}

impl Shared {
    /// Reads everything at one revision into the memory; returns etcd's revision, behind which to follow.
    pub async fn load(&self) -> Result<Revision, StoreFault> {
        let (book, at) = self.read(0).await?;
        // Watches that end before this revision have missed what nobody can tell any more.
        let newest = book.revision();
        self.feed.reset(book, newest, Vec::new());
        Ok(at)
    }

    /// All rows at a revision of etcd's, 0 being the newest; with that revision.
    pub async fn read(&self, at: Revision) -> Result<(Book, Revision), StoreFault> {
        let (mut newest, mut rows) = (0, Vec::new());
        let at = self.each(self.names.data(), at, |kv| {
            if kv.key == self.names.head() {
                newest = kv.mod_revision as Revision;
            } else if let Some(key) = self.names.row_of(&kv.key)
                && newer::known(key)?.is_some()
            {
                let object = decode(key, &kv.value)?;
                let (created, modified) = (kv.create_revision as Revision, kv.mod_revision as Revision);
                rows.push(Row { key: object.key(), object, created, modified });
            }
            Ok(())
        });
        let at = at.await?;
        Ok((Book::load(rows, newest), at))
    }

    /// Reads a range page by page, all at one revision, which it returns.
    pub async fn each(
        &self,
        (mut key, range_end): (Vec<u8>, Vec<u8>),
        at: Revision,
        mut work: impl FnMut(&pb::KeyValue) -> Result<(), String>,
    ) -> Result<Revision, StoreFault> {
        let mut revision = at as i64;
        loop {
            let page = pb::RangeRequest { key, range_end: range_end.clone(), limit: PAGE, revision };
            let page = self.client.range(page).await?;
            if revision == 0 {
                revision = page.header.map_or(0, |header| header.revision);
            }
            page.kvs.iter().try_for_each(&mut work).map_err(StoreFault::Broken)?;
            match page.kvs.last() {
                Some(last) if page.more => key = [&last.key[..], &[0]].concat(),
                _ => return Ok(revision as Revision),
            }
        }
    }

    /// Follows for ever.
    pub async fn follow(self: Arc<Self>, mut at: Revision) {
        let mut pause = Duration::from_millis(50);
        loop {
            let before = at;
            match self.watch(&mut at).await {
                End::Compacted => {
                    tracing::warn!("etcd has compacted what came after revision {at}; loading everything anew");
                    // Before, so that nobody takes his own commit in the new book for somebody else's; behind, for those
                    // that began meanwhile.
                    self.pending.missed();
                    match self.load().await {
                        Ok(revision) => at = revision,
                        Err(fault) => tracing::warn!("loading from etcd: {fault}"),
                    }
                    self.pending.missed();
                }
                End::Lost(text) => tracing::warn!("etcd's watch ended, trying again: {text}"),
            }
            pause = if at > before { Duration::from_millis(50) } else { (pause * 2).min(Duration::from_secs(2)) };
            sleep(pause).await;
        }
    }

    async fn watch(&self, at: &mut Revision) -> End {
        let mut stream = match self.client.watch(self.names.data(), *at + 1).await {
            Ok(stream) => stream,
            Err(fault) => return End::Lost(fault.to_string()),
        };
        loop {
            let answer = match stream.message().await {
                Ok(Some(answer)) => answer,
                Ok(None) => return End::Lost("the stream ended".into()),
                Err(status) => return End::Lost(status.to_string()),
            };
            if answer.compact_revision > 0 {
                return End::Compacted;
            }
            if answer.canceled {
                return End::Lost(format!("etcd canceled it: {}", answer.cancel_reason));
            }
            if let Err(text) = self.apply(answer.events, at) {
                // Nothing can be skipped: commits build on each other. An operator must look.
                tracing::error!("{text}");
                return End::Lost(text);
            }
        }
    }

    /// Applies events, which are whole commits in order.
    fn apply(&self, events: Vec<pb::Event>, at: &mut Revision) -> Result<(), String> {
        let mut book = self.feed.book();
        let mut commits = Vec::new();
        let mut events = VecDeque::from(events);
        let revision_of = |event: &pb::Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision as Revision);
        while let Some(revision) = events.front().map(&revision_of) {
            let (mut writes, mut is_commit) = (Vec::new(), false);
            while let Some(event) = events.pop_front_if(|event| revision_of(event) == revision) {
                is_commit |= event.kv.as_ref().is_some_and(|kv| kv.key == self.names.head());
                writes.extend(self.write(event, revision)?);
            }
            // One whose rows are all unknown here is a commit, too: others wait for its revision.
            if revision > book.revision() && is_commit {
                commits.push(Weighed::new(Arc::new(book.follow(revision, &writes)), &[]));
            }
            *at = (*at).max(revision);
        }
        if !commits.is_empty() {
            self.feed.publish(&book, commits);
        }
        Ok(())
    }

    fn write(&self, event: pb::Event, revision: Revision) -> Result<Option<Write>, String> {
        let (kind, Some(kv)) = (event.r#type(), event.kv) else { return Ok(None) };
        if kv.key == self.names.head() {
            self.pending.landed(&String::from_utf8_lossy(&kv.value), revision);
            return Ok(None);
        }
        let Some(text) = self.names.row_of(&kv.key) else { return Ok(None) };
        let Some(key) = newer::known(text)? else { return Ok(None) };
        if kind == EventType::Delete {
            return Ok(Some(Write::Delete { key, expected: 0 }));
        }
        let object = decode(text, &kv.value)?;
        Ok(Some(if kv.create_revision == kv.mod_revision {
            Write::Create(object)
        } else {
            Write::Update { object, expected: 0 }
        }))
    }

    /// Cuts etcd's history every few minutes at where it was one turn ago.
    pub async fn compact_regularly(self: Arc<Self>) {
        let mut last = self.feed.revision();
        loop {
            sleep(COMPACT_EVERY).await;
            let now = self.feed.revision();
            if last > 0
                && now > last
                && let Err(fault) = self.client.compact(last).await
            {
                tracing::warn!("compacting etcd at revision {last}: {fault}");
            }
            last = now;
        }
    }
}

fn decode(key: &str, value: &[u8]) -> Result<Object, String> {
    let wrong = |why: String| format!("{key} was written by a newer release or is damaged: {why}");
    let object = serde_json::from_slice::<Object>(value).map_err(|e| wrong(e.to_string()))?.upgraded();
    let of = object.key().to_string();
    if of == key { Ok(object) } else { Err(wrong(format!("it holds the row of {of}"))) }
}
