//! The store: commits with claims, a snapshot of everything in memory, a watch that resumes. See DESIGN §3.

mod memory;
pub use memory::*;
