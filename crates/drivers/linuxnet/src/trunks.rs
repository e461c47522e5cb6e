//! Trunks: frames with a tag that come from the device of a VM or a pod are those of other ports. Each of these subports is an
//! ordinary wire of its network, with all rules, limits and servers that it would have otherwise; its device is one end of a
//! pair whose other end, the branch, is in the namespace of the trunk's device, on no bridge. A program at the entry of the
//! trunk's device takes tags off and sends the frames through the branches; one at the entry of each branch puts the tag on
//! and sends them to the device. Domains may differ: pairs reach from one namespace into another.
//!
//! What goes to the trunk's device passes its bucket, whatever its tag, beside that of the subport; what comes from it by a tag
//! is held to the subport's limits alone, since it leaves before the device's own way through another.
//!
//! A pair is there as long as the trunk's device. A branch is up only once its program runs, so that nothing of it ever
//! reaches the namespace. What the kernel has is compared with what is wanted, programs by their names.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use crate::bpf::Program;
use crate::making::{Place, View};
use crate::space::{Handles, missing, set};
use crate::{names, remove_link};

/// What became of the subports of a trunk, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    pub active: BTreeSet<String>,
    pub failed: BTreeSet<String>,
}

/// A subport, and the tag of its frames.
struct Branch {
    vlan: u16,
    place: Place,
}

/// Who joins trunks waits for who does.
pub type Turn = Arc<tokio::sync::Mutex<()>>;

/// Joins the subports of the trunk of a port with its device, as far as both are there, and notes what came of it.
pub async fn ensure(view: &View, port_id: &str) {
    let Some(parent) = view.find(port_id).filter(|place| !place.wire.trunk.is_empty()) else { return };
    let branches = parent.wire.trunk.iter();
    let branches: Vec<Branch> =
        branches.filter_map(|(vlan, id)| Some(Branch { vlan: *vlan, place: view.find(id)? })).collect();
    let (joined, trouble) = match join(&parent, &branches).await {
        Ok(done) => done,
        Err(error) => {
            let failed = branches.iter().map(|branch| branch.place.wire.port_id.clone()).collect();
            (Joined { failed, ..Joined::default() }, Some(error))
        }
    };
    view.joined(port_id, joined, trouble.map(|error| words(&error)));
}

fn words(error: &io::Error) -> String {
    let lacks = matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EPERM | libc::ENOSYS));
    let modules = "; the kernel needs bpf, sch_ingress and cls_bpf, and must let root load programs";
    format!("{error}{}", if lacks { modules } else { "" })
}

/// What came of it, and the first thing that went wrong with one of them.
async fn join(parent: &Place, branches: &[Branch]) -> io::Result<(Joined, Option<io::Error>)> {
    let here = &parent.handles;
    let (mut joined, mut trouble) = (Joined::default(), None);
    let Some(device) = here.netlink.link(&parent.wire.device).await? else {
        for branch in branches {
            remove_link(&here.netlink, &names::branch(&branch.place.wire.port_id)).await?;
        }
        return Ok((joined, None));
    };
    let mut ends = BTreeMap::new();
    for branch in branches {
        match pair(here, branch, device.index).await {
            Ok(index) => _ = ends.insert(branch.vlan, index),
            Err(error) => {
                joined.failed.insert(branch.place.wire.port_id.clone());
                trouble = trouble.or(Some(error));
            }
        }
    }
    run(here, device.index, Program::part(&ends)).await?;
    for branch in branches.iter().filter(|branch| ends.contains_key(&branch.vlan)) {
        let wire = &branch.place.wire;
        match plug(&branch.place).await {
            Ok(()) if wire.up && parent.wire.up && device.up => _ = joined.active.insert(wire.port_id.clone()),
            Ok(()) => {}
            Err(error) => {
                joined.failed.insert(wire.port_id.clone());
                trouble = trouble.or(Some(error));
            }
        }
    }
    Ok((joined, trouble))
}

/// Makes the pair of a subport, whose branch sends to the device; the branch's index.
async fn pair(here: &Handles, branch: &Branch, device: u32) -> io::Result<u32> {
    let (wire, there) = (&branch.place.wire, &branch.place.handles);
    let name = names::branch(&wire.port_id);
    let (near, far) = (here.netlink.link(&name).await?, there.netlink.link(&wire.device).await?);
    let link = match near.filter(|_| far.is_some()) {
        Some(link) => link,
        None => {
            // What there is of it belongs to a pair of another trunk, or of the port's time as something else.
            remove_link(&here.netlink, &name).await?;
            remove_link(&there.netlink, &wire.device).await?;
            here.netlink.add_veth(&name, &wire.device, &there.netns, None, wire.mtu).await?;
            here.netlink.link(&name).await?.ok_or_else(|| missing(&name))?
        }
    };
    run(here, link.index, Program::tag(branch.vlan, device)).await?;
    if link.mtu != wire.mtu {
        here.netlink.set_mtu(link.index, wire.mtu).await?;
    }
    if !link.up {
        silence(here, &name).await?;
        here.netlink.set_up(link.index, true).await?;
    }
    Ok(link.index)
}

/// Joins the port's own end to its bridge.
async fn plug(place: &Place) -> io::Result<()> {
    let (wire, there) = (&place.wire, &place.handles);
    let bridge = names::bridge(&place.bridge.network_id);
    let bridge = there.netlink.link(&bridge).await?.ok_or_else(|| missing(&bridge))?;
    let link = there.netlink.link(&wire.device).await?.ok_or_else(|| missing(&wire.device))?;
    let is_new = link.bridge != Some(bridge.index);
    if is_new {
        silence(there, &wire.device).await?;
    }
    there.join(wire, &link, bridge.index).await?;
    if is_new { there.shape_new(wire).await } else { Ok(()) }
}

/// The kernel has nothing to say at either end.
async fn silence(handles: &Handles, device: &str) -> io::Result<()> {
    let settings = [(format!("ipv6/conf/{device}/disable_ipv6"), "1"), (format!("ipv4/conf/{device}/arp_ignore"), "8")];
    handles.netns.run(move || settings.iter().try_for_each(|(setting, value)| set(setting, value))).await
}

/// Has a program look at what comes from a device, unless it does.
async fn run(handles: &Handles, device: u32, program: Program) -> io::Result<()> {
    let name = program.name();
    if handles.netlink.entry(device).await?.program.as_ref() == Some(&name) {
        return Ok(());
    }
    let loaded = driver::on_a_thread(move || program.load()).await?;
    handles.netlink.add_entry(device).await?;
    handles.netlink.run(device, loaded, name).await
}
