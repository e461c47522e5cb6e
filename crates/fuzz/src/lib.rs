//! Everything that reads what a stranger sent, as functions of bytes, and seeds from which to begin. `tests/hostile.rs`
//! plays a bounded number of mutations of a fixed seed with every `make test`; `make fuzz` plays others for as long as one
//! likes.
//!
//! The faces are asked as a whole, by requests, so that what is tested is what is reached: paths, queries, selectors,
//! patches, protobuf, tokens, digests. An input is bad news when something panics, when the answer is a 500, or when it
//! takes too long. Guidance by coverage was refused for `make test`, because it needs another build of every crate;
//! `make fuzz GUIDED=1` has it, see `guided/`.

pub mod faces;
pub mod mutate;
pub mod wire;

use std::time::{Duration, Instant};

/// How long one input may take, on a busy machine.
const LONGEST: Duration = Duration::from_secs(20);

/// One parser, or a face with all of its parsers.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// Reads an input; the error says what is wrong with the reader.
    pub read: fn(&[u8]) -> Result<(), String>,
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many mutations `make test` plays.
    pub runs: u32,
}

pub const TARGETS: &[Target] = &[
    Target { name: "kube", read: faces::kube, seeds: faces::kube_seeds, runs: 2500 },
    Target { name: "openstack", read: faces::openstack, seeds: faces::openstack_seeds, runs: 4000 },
    Target { name: "registry", read: faces::registry, seeds: faces::registry_seeds, runs: 1500 },
    Target { name: "dns", read: wire::dns, seeds: wire::dns_seeds, runs: 10_000 },
    Target { name: "dhcp", read: wire::dhcp, seeds: wire::dhcp_seeds, runs: 10_000 },
    Target { name: "dhcp6", read: wire::dhcp6, seeds: wire::dhcp6_seeds, runs: 10_000 },
    Target { name: "qcow2", read: wire::qcow2, seeds: wire::qcow2_seeds, runs: 2000 },
    Target { name: "qmp", read: wire::qmp, seeds: wire::qmp_seeds, runs: 5000 },
    Target { name: "cni", read: wire::cni, seeds: wire::cni_seeds, runs: 2000 },
    Target { name: "exec", read: wire::exec, seeds: wire::exec_seeds, runs: 10_000 },
    Target { name: "forward", read: wire::forward, seeds: wire::forward_seeds, runs: 10_000 },
];

/// Reads an input and says what was wrong, a panic included.
pub fn read(target: &Target, input: &[u8]) -> Result<(), String> {
    let begun = Instant::now();
    let result = std::panic::catch_unwind(|| (target.read)(input));
    if begun.elapsed() > LONGEST {
        return Err(format!("it took {:?}", begun.elapsed()));
    }
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("it panicked: {}", text.unwrap_or_default()))
    })
}
