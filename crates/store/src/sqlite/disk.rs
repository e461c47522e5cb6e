//! The SQL: three tables' worth of it. Rows are JSON, so that a row written by an older release is read by serde's rules
//! and a person can look at it with the sqlite3 program.
//!
//! The history is kept on disk as the rows *before* each commit. From them and the rows of now, walked backwards, every
//! kept commit is told as it was. It is there so that Kubernetes clients, which resume their watches by revision, need not
//! list everything anew after an upgrade of one second; without it every restart would be a stampede.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::{Committed, Event, Key, Object, Revision, Row, Write};
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};

use crate::{Book, MAX_WRITES, Proposal};

/// Says that a database is Braid's: "brai".
const APPLICATION: i32 = 0x6272_6169;

/// The version of the tables. A newer one is refused; older ones would be brought forward here.
const SCHEMA: i32 = 1;

/// The number of a history line is its commit's revision times this, plus its place in the commit.
const PLACES: i64 = MAX_WRITES as i64;

/// The write-ahead log keeps this much of the disk when it is done: room for commits (deletions, say) on a full disk.
const LOG_BYTES: i64 = 4 << 20;

const TABLES: &str = "
    CREATE TABLE row (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        object TEXT NOT NULL,
        created INTEGER NOT NULL,
        modified INTEGER NOT NULL
    ) STRICT;
    -- What each commit found: the row as it was, or nothing where it made one. id = revision * 4096 + place.
    CREATE TABLE history (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        object TEXT,
        created INTEGER,
        modified INTEGER
    ) STRICT;
";

/// What went wrong with the database.
#[derive(Debug)]
pub enum Trouble {
    Sql(rusqlite::Error),
    File(io::Error),
    Content(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl Trouble {
    /// The disk is full: nothing was written, and the connection is as good as before.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Sql(e) if e.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }

    pub fn text(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Sql(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                format!("{path} is in use by another process")
            }
            Self::Sql(e) if e.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
                format!("{path} is not a database")
            }
            Self::Sql(e) => format!("{path}: {e}"),
            Self::File(e) => format!("{path}: {e}"),
            Self::Content(text) => format!("{path}: {text}"),
        }
    }
}

/// What a database holds.
pub struct Loaded {
    pub book: Book,
    pub complete_after: Revision,
    pub commits: Vec<Arc<Committed>>,
}

/// An open database.
pub struct Disk {
    sql: Connection,
}

impl Disk {
    /// Opens the database, or makes it. Nobody but the owner may read it: it holds password hashes and secrets.
    pub fn open(path: &Path) -> Result<Self, Trouble> {
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        let private = file.and_then(|file| file.set_permissions(std::fs::Permissions::from_mode(0o600)));
        private.map_err(Trouble::File)?;
        let mut sql = Connection::open(path)?;
        sql.busy_timeout(Duration::from_secs(3))?;
        // One process, no shared memory file: whoever opens the database next waits until it is closed.
        sql.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        let mode: String = sql.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            return Err(Trouble::Content(format!("the file system allows no write-ahead log, only {mode}")));
        }
        sql.pragma_update(None, "synchronous", "FULL")?;
        sql.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        sql.pragma_update(None, "cache_size", -8192)?;
        sql.set_prepared_statement_cache_capacity(16);
        prepare(&mut sql)?;
        Ok(Self { sql })
    }

    /// Writes a group of commits, durably or not at all, and forgets history up to `trim`.
    pub fn write<'a>(
        &mut self,
        group: impl Iterator<Item = (&'a Proposal, &'a Committed)>,
        trim: Option<Revision>,
    ) -> Result<(), Trouble> {
        let transaction = self.sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (proposal, commit) in group {
            write_one(&transaction, proposal, commit)?;
        }
        if let Some(revision) = trim {
            trim_in(&transaction, revision)?;
        }
        // Dropped without a commit it rolls back.
        Ok(transaction.commit()?)
    }

    /// Forgets the history up to and including a revision.
    pub fn trim(&mut self, revision: Revision) -> Result<(), Trouble> {
        Ok(trim_in(&self.sql, revision)?)
    }

    /// Brings everything from the write-ahead log into the database and syncs it.
    pub fn checkpoint(&self) -> Result<(), Trouble> {
        let busy: i64 = self.sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy == 0 { Ok(()) } else { Err(Trouble::Content("the log could not be written back".into())) }
    }

    pub fn load(&self) -> Result<Loaded, Trouble> {
        let newest: Option<i64> = self.sql.query_row("SELECT max(id) FROM history", [], |row| row.get(0))?;
        let oldest: Option<i64> = self.sql.query_row("SELECT min(id) FROM history", [], |row| row.get(0))?;
        let revision = |id: Option<i64>| id.map_or(0, |id| (id / PLACES) as Revision);
        let mut query = self.sql.prepare("SELECT key, object, created, modified FROM row")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let rows: Vec<Row> = rows.map(|row| decode(row?)).collect::<Result<_, Trouble>>()?;
        let book = Book::load(rows, revision(newest));
        if book.revision() != revision(newest) {
            return Err(Trouble::Content("a row is newer than the newest commit".into()));
        }
        let commits = self.history(&book)?;
        Ok(Loaded { book, complete_after: revision(oldest).saturating_sub(1), commits })
    }

    fn history(&self, book: &Book) -> Result<Vec<Arc<Committed>>, Trouble> {
        let mut query = self.sql.prepare("SELECT id, key, object, created, modified FROM history ORDER BY id DESC")?;
        let mut lines = query.query([])?;
        let mut later: HashMap<Key, Option<Arc<Row>>> = HashMap::new();
        let mut commits: Vec<Committed> = Vec::new();
        while let Some(line) = lines.next()? {
            let revision = (line.get::<_, i64>(0)? / PLACES) as Revision;
            let key: Key = parse(&line.get::<_, String>(1)?)?;
            let before = match line.get::<_, Option<String>>(2)? {
                Some(object) => Some(Arc::new(decode((key.to_string(), object, line.get(3)?, line.get(4)?))?)),
                None => None,
            };
            let after = match later.insert(key.clone(), before.clone()) {
                Some(row) => row,
                None => book.snapshot.row(&key).cloned(),
            };
            if after.as_ref().is_some_and(|row| row.modified != revision) {
                return Err(Trouble::Content(format!("the history of {key} does not lead to its row")));
            }
            if commits.last().is_none_or(|commit| commit.revision != revision) {
                commits.push(Committed { revision, events: Vec::new() });
            }
            if let Some(commit) = commits.last_mut() {
                commit.events.push(Event { key, before, after });
            }
        }
        commits.reverse();
        let in_order = |mut commit: Committed| {
            commit.events.reverse();
            Arc::new(commit)
        };
        Ok(commits.into_iter().map(in_order).collect())
    }
}

fn prepare(sql: &mut Connection) -> Result<(), Trouble> {
    let transaction = sql.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let read = |name: &str| transaction.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (read("application_id")?, read("user_version")?);
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, version, tables) {
        (0, 0, 0) => {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", SCHEMA)?;
        }
        (APPLICATION, SCHEMA, _) => {}
        (APPLICATION, newer, _) => {
            let text = format!("its tables are of version {newer}, this release knows {SCHEMA}");
            return Err(Trouble::Content(text));
        }
        _ => return Err(Trouble::Content("it is the database of something else".into())),
    }
    Ok(transaction.commit()?)
}

fn write_one(sql: &Connection, proposal: &Proposal, commit: &Committed) -> Result<(), Trouble> {
    let revision = commit.revision as i64;
    for (place, (write, row)) in proposal.change.writes.iter().zip(&proposal.rows).enumerate() {
        let (line, key) = (revision * PLACES + place as i64, write.key().to_string());
        sql.prepare_cached(
            "INSERT INTO history (id, key, object, created, modified)
             SELECT ?1, ?2, row.object, row.created, row.modified FROM (SELECT 1) LEFT JOIN row ON row.key = ?2",
        )?
        .execute(params![line, key])?;
        let written = match write {
            Write::Create(_) => sql
                .prepare_cached("INSERT INTO row (key, object, created, modified) VALUES (?1, ?2, ?3, ?3)")?
                .execute(params![key, row, revision])?,
            Write::Update { expected, .. } => sql
                .prepare_cached("UPDATE row SET object = ?2, modified = ?3 WHERE key = ?1 AND modified = ?4")?
                .execute(params![key, row, revision, *expected as i64])?,
            Write::Delete { expected, .. } => sql
                .prepare_cached("DELETE FROM row WHERE key = ?1 AND modified = ?2")?
                .execute(params![key, *expected as i64])?,
        };
        if written != 1 {
            return Err(Trouble::Content(format!("{key} is not on the disk as it is in memory")));
        }
    }
    Ok(())
}

fn trim_in(sql: &Connection, revision: Revision) -> rusqlite::Result<()> {
    sql.execute("DELETE FROM history WHERE id < ?1", [(revision as i64 + 1) * PLACES])?;
    Ok(())
}

fn decode((key, object, created, modified): (String, String, i64, i64)) -> Result<Row, Trouble> {
    let wrong =
        |e: serde_json::Error| Trouble::Content(format!("{key} was written by a newer release or is damaged: {e}"));
    let content: Object = serde_json::from_str(&object).map_err(wrong)?;
    let row = Row { key: parse(&key)?, object: content, created: created as Revision, modified: modified as Revision };
    if row.object.key() == row.key {
        Ok(row)
    } else {
        Err(Trouble::Content(format!("{key} holds the row of {}", row.object.key())))
    }
}

fn parse(key: &str) -> Result<Key, Trouble> {
    key.parse().map_err(|e: model::BadKey| Trouble::Content(e.to_string()))
}
