//! The store: commits with claims, everything in memory as a cheap snapshot, a watch that resumes. See DESIGN §3.
//!
//! Reads never touch a disk or a network: every process holds all rows, fed by its backend in commit order. What a
//! backend must do is therefore little: take a change whole or refuse it, keep it, and tell everybody in order. An ORM,
//! SQL queries as the interface, and a key-value trait with claims on top were refused: the first two make the in-memory
//! and the etcd backends impossible, the last one puts the claims outside of the transaction.
//!
//! * [`Store`], [`Watch`], [`Leadership`] (`store`, `watch`, `lead`): what everybody else uses
//! * [`Backend`], [`Proposal`], [`Fence`] (`backend`): what a backend implements, and the limits of a change
//! * [`Feed`] (`feed`, `history`): the process's memory, which a backend fills
//! * [`Book`] (`book`): rows and the claims that follow from them, at one revision
//! * `memory`, `sqlite`, `etcd`: the three backends; [`suite`]: what each of them must pass; `newer`: rows of later releases

mod backend;
mod book;
mod etcd;
mod feed;
mod history;
mod lead;
mod memory;
mod newer;
mod sqlite;
mod store;
pub mod suite;
mod watch;

pub use backend::{Backend, Fence, MAX_BYTES, MAX_WRITES, Proposal, StoreFault};
pub use book::Book;
pub use etcd::EtcdTls;
pub use feed::Feed;
pub use history::{Concern, Interest, Weighed};
pub use lead::Leadership;
pub use sqlite::FULL;
pub use store::Store;
pub use watch::Watch;
