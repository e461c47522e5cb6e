//! Planners: pure functions from a snapshot to changes. They know no store, clock or network; a loop commits each change
//! and plans again when one is refused.

mod fit;
pub mod hostnet;
pub mod kube;
pub mod port;
pub mod schedule;
pub mod server;
