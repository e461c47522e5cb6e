//! Everything that reads what a stranger sent, as functions of bytes, and seeds from which to begin. `tests/hostile.rs`
//! plays a bounded number of mutations of a fixed seed with every `make test`; `make fuzz` plays others for as long as one
//! likes.
//!
//! The faces are asked as a whole, by requests, so that what is tested is what is reached: paths, queries, selectors,
//! patches, protobuf, tokens, digests. An input is bad news when something panics, when the answer is a 500, or when it
//! takes too long. Coverage-guided fuzzing was refused for `make test`: it needs another build of every crate.

pub mod faces;
pub mod mutate;

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
    Target { name: "dns", read: dns, seeds: dns_seeds, runs: 10_000 },
    Target { name: "dhcp", read: dhcp, seeds: dhcp_seeds, runs: 10_000 },
    Target { name: "dhcp6", read: dhcp6, seeds: dhcp6_seeds, runs: 10_000 },
    Target { name: "qcow2", read: qcow2, seeds: qcow2_seeds, runs: 2000 },
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

fn dns(input: &[u8]) -> Result<(), String> {
    driver_linuxnet::hostile::dns(input);
    Ok(())
}

/// `web-1.demo.internal A`, its reverse, and one with EDNS.
fn dns_seeds() -> Vec<Vec<u8>> {
    let head = |questions: u8, more: u8| vec![0x12, 0x34, 1, 0, 0, questions, 0, 0, 0, 0, 0, more];
    let name = |labels: &[&str]| -> Vec<u8> {
        let mut bytes: Vec<u8> = labels.iter().flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).collect();
        bytes.push(0);
        bytes
    };
    let a = [head(1, 0), name(&["web-1", "demo", "internal"]), vec![0, 1, 0, 1]].concat();
    let reverse = [head(1, 0), name(&["5", "0", "0", "10", "in-addr", "arpa"]), vec![0, 12, 0, 1]].concat();
    let edns = vec![0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let any = [head(1, 1), name(&["web-1"]), vec![0, 255, 0, 1], edns].concat();
    vec![a, reverse, any]
}

fn dhcp(input: &[u8]) -> Result<(), String> {
    driver_linuxnet::hostile::dhcp(input);
    Ok(())
}

/// A discover and a request of the port 02:00:00:00:00:05.
fn dhcp_seeds() -> Vec<Vec<u8>> {
    let message = |options: &[u8]| -> Vec<u8> {
        let mut bytes = vec![0; 240];
        bytes[..8].copy_from_slice(&[1, 1, 6, 0, 1, 2, 3, 4]);
        bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 5]);
        bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
        bytes.extend(options);
        bytes.push(255);
        bytes
    };
    vec![
        message(&[53, 1, 1, 55, 4, 1, 3, 6, 121, 12, 3, b'a', b'b', b'c']),
        message(&[53, 1, 3, 50, 4, 10, 0, 0, 5, 54, 4, 10, 0, 0, 1, 61, 7, 1, 2, 0, 0, 0, 0, 5]),
    ]
}

fn dhcp6(input: &[u8]) -> Result<(), String> {
    driver_linuxnet::hostile::dhcp6(input);
    Ok(())
}

/// A solicit, a request, a confirm and a question for information of the same port.
fn dhcp6_seeds() -> Vec<Vec<u8>> {
    let client = [0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 5];
    let server = [0, 2, 0, 10, 0, 3, 0, 1, 2, 0xaa, 0, 0, 0, 1];
    let association = [0, 3, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut believed = [0, 3, 0, 40, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 24].to_vec();
    believed.extend([0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
    let wanted = [0, 6, 0, 4, 0, 23, 0, 24];
    let message = |kind: u8, options: &[&[u8]]| [&[kind, 1, 2, 3], &options.concat()[..]].concat();
    vec![
        message(1, &[&client, &association, &wanted]),
        message(3, &[&client, &server, &association]),
        message(4, &[&client, &believed]),
        message(11, &[&client, &wanted]),
    ]
}

fn qcow2(input: &[u8]) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    std::fs::write(file.path(), input).map_err(|e| e.to_string())?;
    driver_qemu::hostile::image_header(file.path());
    Ok(())
}

fn qcow2_seeds() -> Vec<Vec<u8>> {
    let mut header = vec![0; 104];
    header[..8].copy_from_slice(&[b'Q', b'F', b'I', 0xfb, 0, 0, 0, 3]);
    header[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
    let short = header[..71].to_vec();
    vec![header, short, Vec::new()]
}

#[cfg(test)]
mod tests {
    use driver_linuxnet::hostile;

    use super::*;

    /// Otherwise mutations would never reach what answers.
    #[test]
    fn what_guests_ask_is_answered() {
        assert!(dns_seeds().iter().all(|seed| !hostile::dns(seed).is_empty()));
        assert!(dhcp_seeds().iter().all(|seed| hostile::dhcp(seed).is_some()));
        assert!(dhcp6_seeds().iter().all(|seed| hostile::dhcp6(seed).is_some()));
    }
}
