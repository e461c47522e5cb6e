//! A program that loads rules and hangs holds up the domain whose rules they are, and nothing else.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use driver::{Attach, NetDriver};
use model::hostnet::Plug;
use model::wanted::Nic;

mod support;
use support::*;

/// In the place of nft: hangs as long as the file is there, with rules that speak of the MAC.
fn hanging(dir: &Path, mac: &str) {
    let real = sh("command -v nft").trim().to_owned();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = -f ] || exec {real} \"$@\"\nrules=$(mktemp {0}/rules.XXXXXX)\ncat >$rules\n\
         if grep -q {mac} $rules; then while [ -e {0}/hang ]; do sleep 0.05; done; fi\nexec {real} \"$@\" <$rules\n",
        dir.display()
    );
    let path = dir.join("nft");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn nic(wire: &model::hostnet::Wire) -> Nic {
    let device = wire.device.clone();
    Nic { port_id: wire.port_id.clone(), mac: wire.mac.clone(), mtu: wire.mtu, device, namespace: String::new() }
}

#[test]
#[allow(unsafe_code)]
fn rules_that_hang_hold_up_one_domain() {
    if !able() {
        return;
    }
    let bin = tempfile::tempdir().unwrap();
    let late = wire(1, 6, Plug::Tap, Some(egress()));
    hanging(bin.path(), &late.mac);
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap());
    // SAFETY: the only test of this process, and no other thread runs yet.
    unsafe { std::env::set_var("PATH", path) };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let lab = Lab::new();
        let (first, other) = (wire(1, 5, Plug::Tap, Some(egress())), wire(2, 5, Plug::Tap, Some(egress())));
        let before = network(vec![domain(1, vec![bridge(1, vec![first.clone()])]), domain(2, vec![bridge(2, vec![])])]);
        lab.apply(&before).await;

        std::fs::write(bin.path().join("hang"), "").unwrap();
        let wanted = network(vec![
            domain(1, vec![bridge(1, vec![first.clone(), late.clone()])]),
            domain(2, vec![bridge(2, vec![other.clone()])]),
        ]);
        for pass in ["first", "second"] {
            let seen = lab.net.apply(&wanted, NOW).await.unwrap();
            assert_eq!(seen.late.len(), 1, "{pass} pass: {:?}", seen.late);
            assert!(seen.late[0].contains(&domain(1, vec![]).namespace(&lab.prefix)), "{:?}", seen.late);
        }
        let _other = lab.net.attach(&nic(&other)).await.expect("a new port of another domain is plugged");
        let _first = lab.net.attach(&nic(&first)).await.expect("so is one of the same whose rules are in force");
        let refused = lab.net.attach(&nic(&late)).await;
        assert!(refused.is_err(), "no port is plugged before its rules are in force");
        let active = |seen: &driver::SeenNetwork, id: &str| seen.wires.iter().any(|w| w.port_id == id && w.active);
        let seen = lab.net.apply(&wanted, NOW).await.unwrap();
        assert!(active(&seen, &other.port_id) && !active(&seen, &late.port_id), "{seen:?}");

        std::fs::remove_file(bin.path().join("hang")).unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let seen = loop {
            let seen = lab.net.apply(&wanted, NOW).await.unwrap();
            if seen.late.is_empty() {
                break seen;
            }
            assert!(std::time::Instant::now() < end, "still late after 60 s: {:?}", seen.late);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        assert!(active(&seen, &first.port_id) && active(&seen, &other.port_id), "{seen:?}");
        let _late = lab.net.attach(&nic(&late)).await.expect("its rules are in force now");
        assert_eq!(lab.net.health().await.problem, "");
    });
}
