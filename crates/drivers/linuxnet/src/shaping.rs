//! How fast ports may be. What goes to a port waits in a token bucket at its device. What comes from it is led through
//! another device of the kernel's, an IFB, which has a bucket too, and goes on from there as if nothing had been: so both
//! directions are queued and dropped at the end of a queue, which TCP takes for what it is. VMs and pods alike.
//!
//! Refused: a policer for what comes from a port (many kernels have none, and a guest's segments of 64 KiB do not fit into
//! a small burst; a bucket cuts them), and shaping at the pod's own end of the pair, where the pod could take it off.

use std::io;

use model::hostnet::{RateLimit, Wire};

use crate::names;
use crate::netlink::{Bucket, Entry, Shaped};
use crate::space::Handles;

/// What an Ethernet frame has beside its packet, with a tag.
const FRAME: u64 = 18;
/// How many packets may wait where little may.
const PACKETS: u64 = 8;
/// For how long the last packet of a full queue waits: one part of a second of this many.
const WAIT: u64 = 20;

/// The bucket for a limit on a device. A whole packet always fits into it.
fn bucket(limit: RateLimit, mtu: u32) -> Bucket {
    let packet = u64::from(mtu) + FRAME;
    let burst = limit.burst.max(packet);
    let queue = (limit.rate / WAIT).max(PACKETS * packet);
    let clipped = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    Bucket { rate: limit.rate, burst: clipped(burst), limit: clipped(burst + queue) }
}

impl Handles {
    /// Makes the limits of a port those of its device, which is there. Only what differs from `found` is touched.
    pub async fn shape(&self, wire: &Wire, index: u32, found: Shaped) -> io::Result<()> {
        let words = |error: io::Error| {
            let why = format!("the limits of the port {} cannot be set: {error}", wire.port_id);
            let modules = "; the kernel needs sch_tbf, sch_ingress, cls_u32, act_mirred and ifb";
            let lacks = matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP));
            io::Error::new(error.kind(), if lacks { format!("{why}{modules}") } else { why })
        };
        self.shape_ingress(wire, index, found).await.map_err(words)?;
        self.shape_egress(wire, index, found).await.map_err(words)
    }

    /// The same for a device that has just come.
    pub async fn shape_new(&self, wire: &Wire) -> io::Result<()> {
        let Some(link) = self.netlink.link(&wire.device).await? else { return Ok(()) };
        let found = self.netlink.shaped().await?;
        self.shape(wire, link.index, found.get(&link.index).copied().unwrap_or_default()).await
    }

    async fn shape_ingress(&self, wire: &Wire, index: u32, found: Shaped) -> io::Result<()> {
        match wire.qos.ingress.map(|limit| bucket(limit, wire.mtu)) {
            Some(wanted) => self.fill(index, wanted, found).await,
            None if found.bucket.is_some() => self.netlink.remove_bucket(index).await,
            None => Ok(()),
        }
    }

    async fn fill(&self, index: u32, wanted: Bucket, found: Shaped) -> io::Result<()> {
        if found.bucket == Some((wanted.rate, wanted.limit)) {
            return Ok(());
        }
        self.netlink.set_bucket(index, wanted).await
    }

    /// First the way that packets shall go, then they are led there; in the other order when it goes (the device itself is
    /// pruned later). The program of a trunk is at the same entry, and stays ([`crate::trunks`]); what has a tag is not led.
    async fn shape_egress(&self, wire: &Wire, index: u32, found: Shaped) -> io::Result<()> {
        let is_trunk = !wire.trunk.is_empty();
        if wire.qos.egress.is_none() && !is_trunk {
            return if found.entry { self.netlink.remove_entry(index).await } else { Ok(()) };
        }
        let entry = if found.entry { self.netlink.entry(index).await? } else { Entry::default() };
        if entry.program.is_some() && !is_trunk {
            self.netlink.remove_program(index).await?;
        }
        let Some(limit) = wire.qos.egress else {
            return if entry.leads.is_some() { self.netlink.remove_lead(index).await } else { Ok(()) };
        };
        let name = names::turn(&wire.port_id);
        if self.netlink.link(&name).await?.is_none() {
            self.netlink.add_ifb(&name).await?;
        }
        let gone = || io::Error::new(io::ErrorKind::NotFound, format!("the device {name} is gone"));
        let turn = self.netlink.link(&name).await?.ok_or_else(gone)?;
        if !turn.up {
            self.netlink.set_up(turn.index, true).await?;
        }
        let shaped = self.netlink.shaped().await?;
        let beyond = shaped.get(&turn.index).copied().unwrap_or_default();
        self.fill(turn.index, bucket(limit, wire.mtu), beyond).await?;
        if entry.leads == Some(turn.index) {
            return Ok(());
        }
        // It leads to a device that is no longer there.
        if entry.leads.is_some() {
            self.netlink.remove_lead(index).await?;
        }
        self.netlink.add_entry(index).await?;
        match self.netlink.lead(index, turn.index).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_fits_into_the_smallest_bucket_and_the_largest_is_a_number() {
        let tiny = bucket(RateLimit { rate: 125, burst: 100 }, 1450);
        assert_eq!((tiny.burst, tiny.limit), (1468, 1468 * 9));
        let rate = u64::from(u32::MAX) * 125;
        let huge = bucket(RateLimit { rate, burst: rate }, 1450);
        assert_eq!((huge.rate, huge.burst, huge.limit), (rate, u32::MAX, u32::MAX));
        let usual = bucket(RateLimit { rate: 125_000, burst: 100_000 }, 1450);
        assert_eq!((usual.burst, usual.limit), (100_000, 111_744));
    }
}
