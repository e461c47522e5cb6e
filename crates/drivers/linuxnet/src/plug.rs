//! The pod's side of a port: a veth whose far end is the pod's interface.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use model::hostnet::{Bridge, Wire};

use crate::names;
use crate::netlink::{Netlink, Route};
use crate::netns::Netns;
use crate::space::{Handles, set};
use driver::address::{Mac, base, ip, number, parse_cidr, range};

const PATIENCE: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(2);

/// Plugs a port into a pod's namespace; what is there already stays.
pub async fn plug(space: &Handles, bridge: &Bridge, wire: &Wire, pod: &Netns, ifname: &str) -> io::Result<()> {
    let inside = Netlink::open(pod).await?;
    let mac = Mac::parse(&wire.mac).ok_or_else(|| io::Error::other(format!("{} is not a MAC", wire.mac)))?;
    let near = space.netlink.link(&wire.device).await?;
    let far = inside.link(ifname).await?;
    let is_plugged = near.is_some() && far.is_some_and(|far| far.mac == mac.0);
    if !is_plugged {
        // A leftover of an earlier sandbox of the pod.
        if let Some(near) = near {
            space.netlink.remove(near.index).await?;
        }
        space.netlink.add_veth(&wire.device, ifname, pod, Some(mac), wire.mtu).await?;
    }
    let gone = || io::Error::other(format!("{} vanished", wire.device));
    let not_yet = || io::Error::new(io::ErrorKind::NotFound, "the bridge of its network is not there yet");
    let joined = space.netlink.link(&names::bridge(&bridge.network_id)).await?.ok_or_else(not_yet)?;
    let near = space.netlink.link(&wire.device).await?.ok_or_else(gone)?;
    space.join(wire, &near, joined.index).await?;
    space.shape_new(wire).await?;
    configure(&inside, bridge, wire, ifname).await?;
    settle(space, wire).await?;
    announce(&inside, pod, mac, ifname).await
}

/// Tells the neighbours where the addresses are now: whoever had one before the pod is remembered with another MAC, by
/// the gateway and by others, and would be sent to for half a minute.
async fn announce(inside: &Netlink, pod: &Netns, mac: Mac, ifname: &str) -> io::Result<()> {
    let settings = [
        (format!("ipv4/conf/{ifname}/arp_notify"), "1"),
        (format!("ipv6/conf/{ifname}/ndisc_notify"), "1"),
        // What it hears of others holds at once, too.
        (format!("ipv4/neigh/{ifname}/locktime"), "0"),
    ];
    pod.run(move || settings.iter().try_for_each(|(setting, value)| set(setting, value))).await?;
    let link = inside.link(ifname).await?.ok_or_else(|| io::Error::other(format!("{ifname} vanished")))?;
    // To be given its own MAC is what makes the kernel announce it.
    inside.set_mac(link.index, mac).await
}

/// Waits until the bridge has noticed that the link is up: before that it drops what the pod sends first.
async fn settle(space: &Handles, wire: &Wire) -> io::Result<()> {
    for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
        if !wire.up || space.netlink.link(&wire.device).await?.is_some_and(|link| link.forwarding) {
            return Ok(());
        }
        tokio::time::sleep(STEP).await;
    }
    Err(io::Error::other(format!("{} is not carried by its bridge", wire.device)))
}

async fn configure(inside: &Netlink, bridge: &Bridge, wire: &Wire, ifname: &str) -> io::Result<()> {
    let (lo, link) = (inside.link("lo").await?, inside.link(ifname).await?);
    let link = link.ok_or_else(|| io::Error::other(format!("{ifname} vanished")))?;
    for link in lo.iter().chain([&link]).filter(|link| !link.up) {
        inside.set_up(link.index, true).await?;
    }
    for (address, prefix) in &wire.addresses {
        inside.add_address(link.index, *address, *prefix).await?;
    }
    for route in routes(bridge, wire) {
        inside.add_route(&route).await?;
    }
    Ok(())
}

/// The default routes and those of the port's subnets.
fn routes(bridge: &Bridge, wire: &Wire) -> Vec<Route> {
    let default = |gateway: IpAddr| Route { destination: ip(0, gateway.is_ipv6()), prefix: 0, gateway };
    let mut routes: Vec<Route> = wire.gateway.map(default).into_iter().collect();
    for scope in &bridge.subnets {
        let (first, last) = range(scope.base, scope.prefix);
        let same_family = wire.addresses.iter().filter(|(address, _)| address.is_ipv6() == scope.base.is_ipv6());
        if !same_family.clone().any(|(address, _)| (first..=last).contains(&number(*address))) {
            continue;
        }
        if let Some(gateway) = scope.gateway
            && !routes.iter().any(|route| route.prefix == 0 && route.gateway.is_ipv6() == gateway.is_ipv6())
        {
            routes.push(default(gateway));
        }
        for (cidr, hop) in &scope.routes {
            if let Some((address, prefix)) = parse_cidr(cidr).filter(|cidr| cidr.0.is_ipv6() == hop.is_ipv6()) {
                routes.push(Route { destination: base(address, prefix), prefix, gateway: *hop });
            }
        }
    }
    routes
}
