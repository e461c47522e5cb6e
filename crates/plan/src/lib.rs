//! Planners: pure functions from what is there to changes. They know no store, clock or network; a loop keeps an [`Agenda`]
//! of what is to be planned, commits each change and plans again when one is refused.

mod agenda;
mod fit;
pub mod host_report;
pub mod host_view;
pub mod hostnet;
pub mod kube;
mod planner;
pub mod port;
mod refused;
pub mod schedule;
pub mod server;
mod silence;

pub use agenda::{Agenda, is_news};
pub use planner::{Plan, Planner, Rows, Seen, Step, Touched};
pub use refused::{denied, refused};
pub use silence::silent;

/// All planners, in the order in which a new thing passes them.
pub const PLANNERS: &[Planner] = &[
    kube::namespace::PLANNER,
    kube::deployment::PLANNER,
    kube::replicaset::PLANNER,
    kube::cronjob::PLANNER,
    kube::job::PLANNER,
    kube::taint::PLANNER,
    server::PLANNER,
    schedule::PLANNER,
    port::PLANNER,
    kube::endpointslice::PLANNER,
    kube::garbage::PLANNER,
    kube::definition::PLANNER,
    kube::event::PLANNER,
];
