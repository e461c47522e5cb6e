//! Kinds whose objects are made of other rows when somebody reads them. Of such an object only what the cluster itself says is
//! stored. The verbs see a snapshot in which the objects stand as rows, so that nothing else knows of the difference.

use std::sync::Arc;

use model::{Cluster, Event, Key, Row, Snapshot};
use serde_json::Value;
use store::{Concern, Store};

/// An object as it was before something happened, and as it is.
pub type Turn = [Option<Row>; 2];

/// What stands under some keys, and where nothing does.
pub type Rows = Vec<(Key, Option<Row>)>;

/// The row under a key, as it was then.
pub type Then<'a> = &'a dyn Fn(&Key) -> Option<Arc<Row>>;

/// How the objects of a kind are made.
pub struct Derived {
    /// The rows of a cluster, that of one name or all; none where it does not see what it would be made of.
    pub rows: fn(&Store, &Snapshot, &Cluster, Option<&str>) -> Rows,
    /// Whether a cluster may make an object of this name.
    pub free: fn(&Snapshot, &Cluster, &str) -> bool,
    /// What is stored of a body under a name; all of it where nothing else says anything.
    pub said: fn(&Snapshot, &str, &Value) -> Value,
    /// What wakes those who watch.
    pub news: Concern,
    /// A cluster's object as it was before an event and after it, if the event is about one; of other rows as they were then.
    pub told: fn(&Store, &Cluster, &Event, Then<'_>) -> Option<Turn>,
}
