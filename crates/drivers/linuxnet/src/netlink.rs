//! A connection to the kernel's tables of one namespace: links, addresses, routes. Its socket is made in the namespace
//! and stays there; requests go through it from any thread.

mod tc;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{
    BridgePortState, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVeth, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder,
};

use crate::netns::Netns;
use driver::address::{Mac, base};

pub use tc::{Bucket, Entry, Shaped};

/// A device as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// The bridge to which it belongs.
    pub bridge: Option<u32>,
    pub up: bool,
    pub mtu: u32,
    pub mac: Vec<u8>,
    /// As a port of a bridge, it gets back what it sent, if that is where it shall go.
    pub hairpin: bool,
    /// As a port of a bridge, it carries packets.
    pub forwarding: bool,
}

/// A route that this driver made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub destination: IpAddr,
    pub prefix: u8,
    pub gateway: IpAddr,
}

/// An entry of a VXLAN's table: where a MAC lives. The zero MAC stands for all that are not known.
pub type Remote = (Mac, IpAddr);

/// The kernel's tables of one namespace.
pub struct Netlink {
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        // The task holds the socket, and the socket holds the namespace.
        self.connection.abort();
    }
}

fn failed(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

/// Already so is as good as done.
fn unless(result: Result<(), rtnetlink::Error>, fine: io::ErrorKind) -> io::Result<()> {
    match result.map_err(failed) {
        Err(error) if error.kind() == fine => Ok(()),
        // ESRCH and EADDRNOTAVAIL are how routes and addresses say that they are not there.
        Err(error)
            if fine == io::ErrorKind::NotFound
                && matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV | libc::EADDRNOTAVAIL)) =>
        {
            Ok(())
        }
        other => other,
    }
}

impl Netlink {
    /// Connects to the namespace's kernel tables.
    pub async fn open(netns: &Netns) -> io::Result<Netlink> {
        let (connection, handle, _) = netns.run(rtnetlink::new_connection).await?;
        Ok(Netlink { handle, connection: tokio::spawn(connection) })
    }

    pub async fn links(&self) -> io::Result<Vec<Link>> {
        let request = self.handle.link().get();
        let mut dump = request.set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]).execute();
        let mut links = Vec::new();
        while let Some(message) = dump.try_next().await.map_err(failed)? {
            links.push(read_link(&message));
        }
        Ok(links)
    }

    pub async fn link(&self, name: &str) -> io::Result<Option<Link>> {
        let found = self.handle.link().get().match_name(name.to_owned()).execute().try_next().await;
        match found.map_err(failed) {
            Ok(message) => Ok(message.as_ref().map(read_link)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn add_bridge(&self, name: &str, mac: Option<Mac>, mtu: u32) -> io::Result<()> {
        let mut bridge = LinkBridge::new(name).mcast_snooping(false).forward_delay(0).mtu(mtu);
        if let Some(mac) = mac {
            bridge = bridge.address(mac.0.to_vec());
        }
        unless(self.handle.link().add(bridge.build()).execute().await, io::ErrorKind::AlreadyExists)
    }

    /// Makes a pair: one end here, the other in another namespace.
    pub async fn add_veth(&self, name: &str, peer: &str, netns: &Netns, mac: Option<Mac>, mtu: u32) -> io::Result<()> {
        let fd = netns.fd()?;
        let mut far = LinkMessageBuilder::<LinkUnspec>::new().name(peer).mtu(mtu).setns_by_fd(fd.as_raw_fd());
        if let Some(mac) = mac {
            far = far.address(mac.0.to_vec());
        }
        let near = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name)
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far.build())));
        self.handle.link().add(near.build()).execute().await.map_err(failed)
    }

    /// Makes a VXLAN device in another namespace whose packets leave through this one.
    pub async fn add_vxlan(&self, name: &str, vni: u32, mtu: u32, netns: &Netns) -> io::Result<()> {
        let fd = netns.fd()?;
        let vxlan = LinkVxlan::new(name, vni).port(4789).learning(false).mtu(mtu).setns_by_fd(fd.as_raw_fd());
        self.handle.link().add(vxlan.build()).execute().await.map_err(failed)
    }

    pub async fn remove(&self, index: u32) -> io::Result<()> {
        unless(self.handle.link().del(index).execute().await, io::ErrorKind::NotFound)
    }

    async fn change(&self, message: LinkMessage) -> io::Result<()> {
        self.handle.link().change(message).execute().await.map_err(failed)
    }

    /// Moves a device to another namespace. It is down there, and on no bridge.
    pub async fn move_to(&self, index: u32, netns: impl AsFd) -> io::Result<()> {
        let fd = netns.as_fd().as_raw_fd();
        self.change(LinkUnspec::new_with_index(index).setns_by_fd(fd).build()).await
    }

    pub async fn set_up(&self, index: u32, up: bool) -> io::Result<()> {
        let message = LinkUnspec::new_with_index(index);
        self.change(if up { message.up() } else { message.down() }.build()).await
    }

    pub async fn set_mtu(&self, index: u32, mtu: u32) -> io::Result<()> {
        self.change(LinkUnspec::new_with_index(index).mtu(mtu).build()).await
    }

    pub async fn set_mac(&self, index: u32, mac: Mac) -> io::Result<()> {
        self.change(LinkUnspec::new_with_index(index).address(mac.0.to_vec()).build()).await
    }

    pub async fn set_bridge(&self, index: u32, bridge: u32) -> io::Result<()> {
        self.change(LinkUnspec::new_with_index(index).controller(bridge).build()).await
    }

    pub async fn set_hairpin(&self, index: u32) -> io::Result<()> {
        let port = LinkBridgePort::new(index).hairpin(true).build();
        self.handle.link().set_port(port).execute().await.map_err(failed)
    }

    /// All addresses with the device's index, but those that the kernel gives itself.
    pub async fn addresses(&self) -> io::Result<Vec<(u32, IpAddr, u8)>> {
        let mut dump = self.handle.address().get().execute();
        let mut addresses = Vec::new();
        while let Some(message) = dump.try_next().await.map_err(failed)? {
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            let any = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            });
            let Some(address) = local.or(any) else { continue };
            let link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
            if !address.is_loopback() && !link_local {
                addresses.push((message.header.index, address, message.header.prefix_len));
            }
        }
        Ok(addresses)
    }

    pub async fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let mut request = self.handle.address().add(index, address, prefix);
        if address.is_ipv6() {
            // Addresses are given out once by the store; asking the wire first would only cost a second.
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        unless(request.execute().await, io::ErrorKind::AlreadyExists)
    }

    pub async fn remove_address(&self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let message = self.handle.address().add(index, address, prefix).message_mut().clone();
        unless(self.handle.address().del(message).execute().await, io::ErrorKind::NotFound)
    }

    /// The routes through a gateway that were set by hand or by this driver.
    pub async fn routes(&self) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for ipv6 in [false, true] {
            let mut query = RouteMessage::default();
            query.header.address_family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
            let mut dump = self.handle.route().get(query).execute();
            while let Some(message) = dump.try_next().await.map_err(failed)? {
                let header = &message.header;
                if header.protocol == RouteProtocol::Static && header.table == RouteHeader::RT_TABLE_MAIN {
                    routes.extend(read_route(&message, ipv6));
                }
            }
        }
        Ok(routes)
    }

    pub async fn add_route(&self, route: &Route) -> io::Result<()> {
        unless(self.handle.route().add(route_message(route)?).execute().await, io::ErrorKind::AlreadyExists)
    }

    pub async fn remove_route(&self, route: &Route) -> io::Result<()> {
        unless(self.handle.route().del(route_message(route)?).execute().await, io::ErrorKind::NotFound)
    }

    /// The table of a VXLAN device.
    pub async fn remotes(&self, index: u32) -> io::Result<Vec<Remote>> {
        let mut query = self.handle.neighbours().get();
        query = query.set_address_family(AddressFamily::Bridge);
        let mut dump = query.execute();
        let mut remotes = Vec::new();
        while let Some(message) = dump.try_next().await.map_err(failed)? {
            if message.header.ifindex != index {
                continue;
            }
            let (mut mac, mut host) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    NeighbourAttribute::LinkLayerAddress(bytes) => {
                        mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac);
                    }
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => host = Some((*address).into()),
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => host = Some((*address).into()),
                    _ => {}
                }
            }
            if let (Some(mac), Some(host)) = (mac, host) {
                remotes.push((mac, host));
            }
        }
        Ok(remotes)
    }

    pub async fn add_remote(&self, index: u32, (mac, host): Remote) -> io::Result<()> {
        let request = self.handle.neighbours().add_bridge(index, &mac.0).destination(host);
        let mut request = request.state(NeighbourState::Permanent).flags(NeighbourFlags::Own);
        if mac.0 == [0; 6] {
            // The zero MAC may lead to many hosts: append, do not replace.
            request.message_mut().header.state = NeighbourState::Permanent;
            return self.append_remote(request.message_mut().clone()).await;
        }
        request.replace().execute().await.map_err(failed)
    }

    async fn append_remote(&self, message: rtnetlink::packet_route::neighbour::NeighbourMessage) -> io::Result<()> {
        use futures_util::StreamExt;
        use rtnetlink::packet_core::{
            NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
        };
        use rtnetlink::packet_route::RouteNetlinkMessage;
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND;
        let mut handle = self.handle.clone();
        let mut answers = handle.request(request).map_err(failed)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                let error = rtnetlink::Error::NetlinkError(error);
                return unless(Err(error), io::ErrorKind::AlreadyExists);
            }
        }
        Ok(())
    }

    pub async fn remove_remote(&self, index: u32, (mac, host): Remote) -> io::Result<()> {
        let request = self.handle.neighbours().add_bridge(index, &mac.0).destination(host);
        let message = request.flags(NeighbourFlags::Own).message_mut().clone();
        unless(self.handle.neighbours().del(message).execute().await, io::ErrorKind::NotFound)
    }
}

fn read_link(message: &LinkMessage) -> Link {
    let mut link =
        Link { index: message.header.index, up: message.header.flags.contains(LinkFlags::Up), ..Link::default() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Controller(index) => link.bridge = Some(*index),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::PortData(InfoPortData::BridgePort(port)) = info {
                        link.hairpin = port.contains(&InfoBridgePort::HairpinMode(true));
                        link.forwarding = port.contains(&InfoBridgePort::State(BridgePortState::Forwarding));
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn read_route(message: &RouteMessage, ipv6: bool) -> Option<Route> {
    let address = |address: &RouteAddress| match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    };
    let (mut destination, mut gateway) = (driver::address::ip(0, ipv6), None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(found) => destination = address(found)?,
            RouteAttribute::Gateway(found) => gateway = address(found),
            _ => {}
        }
    }
    Some(Route { destination, prefix: message.header.destination_prefix_length, gateway: gateway? })
}

fn route_message(route: &Route) -> io::Result<RouteMessage> {
    let builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(base(route.destination, route.prefix), route.prefix)
        .and_then(|builder| builder.gateway(route.gateway));
    builder.map(RouteMessageBuilder::build).map_err(|error| io::Error::other(error.to_string()))
}
