//! A whole cloud on etcd, as its users see it: it survives its own end and etcd's, and several processes are one cloud.

#![allow(clippy::print_stderr, reason = "the log of a process that a failed test had started")]

mod cloud;
mod outage;
mod processes;
#[allow(dead_code, reason = "the tests of the store use the rest of it")]
#[path = "../../../store/tests/etcd/server.rs"]
mod server;
