//! What a guest's network itself answers: DHCP, router advertisements, DNS, metadata, the API of a cluster. All of it is
//! answered from what the network was last told to be ([`model::hostnet::Domain`]), on sockets in the network's namespace.
//!
//! Whoever makes networks says where a namespace is entered ([`Namespace`]) and which device is a network's ([`Device`]);
//! with which program or kernel part they are made is not known here, so that another engine has the same servers. Refused:
//! dnsmasq and a metadata proxy a network, for their files and processes would have to be kept like the rows.

mod api;
mod dhcp;
mod dhcp6;
mod dns;
mod facts;
#[doc(hidden)]
pub mod hostile;
mod metadata;
mod ra;
mod sample;
mod servers;
mod sockets;

pub use metadata::ADDRESS as METADATA;
pub use servers::{Answers, Device, Namespace, Servers};
