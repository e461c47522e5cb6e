//! The SQL: three tables' worth of it. Rows are JSON, so that a row written by an older release is read by serde's rules
//! and a person can look at it with the sqlite3 program.
//!
//! A commit is one append to the *log*; the rows are kept as they were before the log begins, and brought forward when
//! its oldest part is forgotten, many commits at once. A commit therefore writes one page or two, however many trees of
//! rows there were, a row that changes often is written into them once, and the log is the history that Kubernetes clients,
//! which resume their watches by revision, need after an upgrade of one second. Keeping the rows current in every commit,
//! with what they were before beside them, was refused after measuring: it wrote five pages a commit.

use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::{Committed, Key, Object, Revision, Row, Write};
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};

use crate::{Book, MAX_WRITES, Proposal, newer};

/// Says that a database is Braid's: "brai".
const APPLICATION: i32 = 0x6272_6169;

/// The version of the tables. A newer one is refused; older ones would be brought forward here.
const SCHEMA: i32 = 2;

/// The number of a line of the log is its commit's revision times this, plus its place in the commit.
const PLACES: i64 = MAX_WRITES as i64;

/// The write-ahead log keeps this much of the disk when it is done: room for commits (deletions, say) on a full disk.
const LOG_BYTES: i64 = 4 << 20;

const TABLES: &str = "
    -- Rows as they were before the log begins.
    CREATE TABLE row (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        object TEXT NOT NULL,
        created INTEGER NOT NULL,
        modified INTEGER NOT NULL
    ) STRICT;
    -- What each commit wrote; no object: it deleted the row. id = revision * 4096 + place.
    CREATE TABLE log (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        object TEXT
    ) STRICT;
";

/// What went wrong with the database.
#[derive(Debug)]
pub enum DiskError {
    Sql(rusqlite::Error),
    File(io::Error),
    Content(String),
}

impl From<rusqlite::Error> for DiskError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl DiskError {
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
    /// Bytes of the database that are kept free: room for rows on a full disk.
    spare: i64,
}

impl Disk {
    /// Opens the database, or makes it. Nobody but the owner may read it: it holds password hashes and secrets.
    pub fn open(path: &Path, spare: u32) -> Result<Self, DiskError> {
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        let private = file.and_then(|file| file.set_permissions(std::fs::Permissions::from_mode(0o600)));
        private.map_err(DiskError::File)?;
        let mut sql = Connection::open(path)?;
        sql.busy_timeout(Duration::from_secs(3))?;
        // One process, no shared memory file: whoever opens the database next waits until it is closed.
        sql.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        let mode: String = sql.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            return Err(DiskError::Content(format!("the file system allows no write-ahead log, only {mode}")));
        }
        sql.pragma_update(None, "synchronous", "FULL")?;
        sql.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        sql.pragma_update(None, "cache_size", -8192)?;
        sql.set_prepared_statement_cache_capacity(16);
        prepare(&mut sql)?;
        let mut disk = Self { sql, spare: spare.into() };
        let _ = std::fs::remove_file(room(path));
        if let Err(error) = disk.take_spare() {
            tracing::warn!("nothing is kept for when the disk is full: {}", error.text(path));
        }
        Ok(disk)
    }

    /// Takes free pages for the database, if it has few, and room for the write-ahead log: a table that is dropped at once.
    /// In two transactions: pages that one takes and frees are never written, and so take no room on the disk.
    fn take_spare(&mut self) -> Result<(), DiskError> {
        self.sql.execute_batch("DROP TABLE IF EXISTS spare")?;
        if self.spare == 0 {
            return Ok(());
        }
        let take = |bytes: i64| {
            let table = format!("CREATE TABLE spare AS SELECT zeroblob({bytes}) AS bytes; DROP TABLE spare");
            self.sql.execute_batch(&format!("{table}; PRAGMA wal_checkpoint(RESTART)"))
        };
        let log = self.spare.min(LOG_BYTES);
        let all = if self.free()? < self.spare / 2 { take(self.spare) } else { take(log) };
        Ok(all.or_else(|_| take(log))?)
    }

    /// Later there may be fewer free pages; on a disk that is nearly full it has to do with what there is.
    fn spare_again(&mut self) {
        if self.free().is_ok_and(|free| free < self.spare / 2) {
            let _ = self.take_spare();
        }
    }

    /// Bytes of free pages.
    fn free(&self) -> Result<i64, DiskError> {
        let read = |name: &str| self.sql.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok(read("freelist_count")? * read("page_size")?)
    }

    /// Writes a group of commits, durably or not at all, and forgets history up to `trim`.
    pub fn write<'a>(
        &mut self,
        group: impl Iterator<Item = (&'a Proposal, &'a Committed)>,
        trim: Option<Revision>,
    ) -> Result<(), DiskError> {
        let transaction = self.sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (proposal, commit) in group {
            append(&transaction, proposal, commit)?;
        }
        if let Some(revision) = trim {
            bring_forward(&transaction, revision)?;
        }
        // Dropped without a commit it rolls back.
        transaction.commit()?;
        if trim.is_some() {
            self.spare_again();
        }
        Ok(())
    }

    /// Forgets the history up to and including a revision.
    pub fn trim(&mut self, revision: Revision) -> Result<(), DiskError> {
        let transaction = self.sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
        bring_forward(&transaction, revision)?;
        Ok(transaction.commit()?)
    }

    /// Brings everything from the write-ahead log into the database and syncs it.
    pub fn checkpoint(&self) -> Result<(), DiskError> {
        let busy: i64 = self.sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy == 0 { Ok(()) } else { Err(DiskError::Content("the log could not be written back".into())) }
    }

    pub fn load(&self) -> Result<Loaded, DiskError> {
        let mut query = self.sql.prepare("SELECT key, object, created, modified FROM row")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let rows = rows.map(|row| decode(row?)).filter_map(Result::transpose);
        let rows: Vec<Row> = rows.collect::<Result<_, DiskError>>()?;
        let oldest: Option<i64> = self.sql.query_row("SELECT min(id) FROM log", [], |row| row.get(0))?;
        let complete_after = oldest.map_or(0, |id| (id / PLACES) as Revision - 1);
        let mut book = Book::load(rows, complete_after);
        if book.revision() != complete_after {
            return Err(DiskError::Content("a row is newer than the beginning of the log".into()));
        }
        let commits = self.replay(&mut book)?;
        Ok(Loaded { book, complete_after, commits })
    }

    /// Applies the log to the rows from before it, commit by commit.
    fn replay(&self, book: &mut Book) -> Result<Vec<Arc<Committed>>, DiskError> {
        let mut query = self.sql.prepare("SELECT id, key, object FROM log ORDER BY id")?;
        let mut lines = query.query([])?;
        let (mut commits, mut writes, mut revision) = (Vec::new(), Vec::new(), 0);
        while let Some(line) = lines.next()? {
            let next = (line.get::<_, i64>(0)? / PLACES) as Revision;
            if next != revision && !writes.is_empty() {
                commits.push(Arc::new(book.follow(revision, &std::mem::take(&mut writes))));
            }
            revision = next;
            writes.extend(read(book, &line.get::<_, String>(1)?, line.get(2)?)?);
        }
        if !writes.is_empty() {
            commits.push(Arc::new(book.follow(revision, &writes)));
        }
        // The last commits may have been of rows that are unknown here.
        book.snapshot.set_revision(revision);
        Ok(commits)
    }
}

/// The file that stands for the write-ahead log, which goes with the connection.
fn room(path: &Path) -> PathBuf {
    path.with_extension("room")
}

/// Keeps room for the log of whoever opens the database next, should the disk be full by then.
pub fn keep_room(path: &Path, spare: u32) {
    let keep = || {
        let mut file =
            std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(room(path))?;
        file.write_all(&vec![0; i64::from(spare).min(LOG_BYTES) as usize])
    };
    if keep().is_err() {
        let _ = std::fs::remove_file(room(path));
    }
}

fn prepare(sql: &mut Connection) -> Result<(), DiskError> {
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
            return Err(DiskError::Content(text));
        }
        _ => return Err(DiskError::Content("it is the database of something else".into())),
    }
    Ok(transaction.commit()?)
}

fn append(sql: &Connection, proposal: &Proposal, commit: &Committed) -> Result<(), DiskError> {
    let mut insert = sql.prepare_cached("INSERT INTO log (id, key, object) VALUES (?1, ?2, ?3)")?;
    for (place, (event, object)) in commit.events.iter().zip(&proposal.rows).enumerate() {
        insert.execute(params![commit.revision as i64 * PLACES + place as i64, event.key.to_string(), object])?;
    }
    Ok(())
}

/// Brings the rows forward by the log up to and including a revision, and cuts that part of the log off.
fn bring_forward(sql: &Connection, revision: Revision) -> Result<(), DiskError> {
    let end = (revision as i64 + 1) * PLACES;
    let mut lines = sql.prepare_cached("SELECT id / ?2, key, object FROM log WHERE id < ?1 ORDER BY id")?;
    let mut put = sql.prepare_cached(
        "INSERT INTO row (key, object, created, modified) VALUES (?1, ?2, ?3, ?3)
         ON CONFLICT (key) DO UPDATE SET object = excluded.object, modified = excluded.modified",
    )?;
    let mut delete = sql.prepare_cached("DELETE FROM row WHERE key = ?1")?;
    let mut lines = lines.query(params![end, PLACES])?;
    while let Some(line) = lines.next()? {
        let (key, object) = (line.get_ref(1)?, line.get_ref(2)?);
        let changed = match object {
            rusqlite::types::ValueRef::Null => delete.execute(params![text(key)?])?,
            object => put.execute(params![text(key)?, text(object)?, line.get::<_, i64>(0)?])?,
        };
        if changed != 1 {
            return Err(DiskError::Content(format!("the log deletes {}, which is not there", text(key)?)));
        }
    }
    sql.prepare_cached("DELETE FROM log WHERE id < ?1")?.execute([end])?;
    Ok(())
}

fn text(value: rusqlite::types::ValueRef<'_>) -> Result<&str, DiskError> {
    value.as_str().map_err(|e| DiskError::Content(e.to_string()))
}

/// A line of the log as the write that it was, on top of the book; `None`: of a row that is unknown here.
fn read(book: &Book, key: &str, object: Option<String>) -> Result<Option<Write>, DiskError> {
    let Some(key) = parse(key)? else { return Ok(None) };
    let before = book.snapshot.row(&key).map(|row| row.modified);
    match (object, before) {
        (None, Some(expected)) => Ok(Some(Write::Delete { key, expected })),
        (None, None) => Err(DiskError::Content(format!("the log deletes {key}, which is not there"))),
        (Some(object), before) => {
            let object = content(&key, &object)?;
            Ok(Some(match before {
                None => Write::Create(object),
                Some(expected) => Write::Update { object, expected },
            }))
        }
    }
}

fn decode((key, object, created, modified): (String, String, i64, i64)) -> Result<Option<Row>, DiskError> {
    let Some(key) = parse(&key)? else { return Ok(None) };
    let object = content(&key, &object)?;
    Ok(Some(Row { key, object, created: created as Revision, modified: modified as Revision }))
}

fn content(key: &Key, object: &str) -> Result<Object, DiskError> {
    let wrong =
        |e: serde_json::Error| DiskError::Content(format!("{key} was written by a newer release or is damaged: {e}"));
    let object = serde_json::from_str::<Object>(object).map_err(wrong)?.upgraded();
    if object.key() == *key {
        Ok(object)
    } else {
        Err(DiskError::Content(format!("{key} holds the row of {}", object.key())))
    }
}

fn parse(key: &str) -> Result<Option<Key>, DiskError> {
    newer::known(key).map_err(DiskError::Content)
}
