//! Ranges of addresses that this machine uses already. A cloud whose external network lies in one of them, another cloud's
//! say, takes its traffic away or loses its own, in silence; so that is refused or said.

use std::net::Ipv4Addr;

/// Where a range leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub base: Ipv4Addr,
    pub prefix: u8,
    pub device: String,
}

/// All routes of this machine for IPv4 but the default ones; none where there is no such list.
pub fn routes() -> Vec<Route> {
    parse(&std::fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// The kernel writes addresses as numbers in the machine's own order of bytes.
fn parse(table: &str) -> Vec<Route> {
    let address = |hex: &str| u32::from_str_radix(hex, 16).ok().map(|number| u32::from_be_bytes(number.to_ne_bytes()));
    let route = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (base, mask) = (address(words.get(1)?)?, address(words.get(7)?)?);
        Some(Route { base: base.into(), prefix: mask.leading_ones() as u8, device: (*words.first()?).to_owned() })
    };
    table.lines().skip(1).filter_map(route).filter(|route| route.prefix > 0).collect()
}

/// The first route of somebody else's device that shares addresses with a range. Devices of ours begin with `ours`.
pub fn overlapping<'a>(range: (Ipv4Addr, u8), routes: &'a [Route], ours: &str) -> Option<&'a Route> {
    let shares = |route: &&Route| {
        let common = u32::from(range.1.min(route.prefix));
        let differ = u32::from(range.0) ^ u32::from(route.base);
        common == 0 || differ >> (32 - common) == 0
    };
    routes.iter().filter(|route| !route.device.starts_with(ours)).find(shares)
}

/// What is wrong with a range on this machine, in words.
pub fn problem(range: (Ipv4Addr, u8), routes: &[Route], ours: &str) -> Option<String> {
    overlapping(range, routes, ours).map(|Route { base, prefix, device }| {
        let (own, bits) = range;
        format!(
            "the addresses {own}/{bits} of the external network are also this machine's {base}/{prefix} on {device}"
        )
    })
}

/// The first range for an external network that nobody uses: 172.24.4.0/24, as OpenStack's own trials have it, or one of the
/// next.
pub fn free(routes: &[Route], ours: &str) -> Option<(Ipv4Addr, u8)> {
    (4..=254)
        .map(|third| (Ipv4Addr::new(172, 24, third, 0), 24))
        .find(|range| overlapping(*range, routes, ours).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
bab12-ex1\t000418AC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
tun0\t000518AC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn a_range_in_use_is_found_and_a_free_one_chosen() {
        let routes = parse(TABLE);
        let range = |third, prefix| (Ipv4Addr::new(172, 24, third, 0), prefix);
        assert_eq!(routes.len(), 3, "without the default route");
        assert_eq!(routes[0], Route { base: Ipv4Addr::new(192, 0, 2, 0), prefix: 24, device: "eth0".into() });
        assert_eq!(overlapping(range(4, 24), &routes, "bffff-").unwrap().device, "bab12-ex1");
        assert_eq!(overlapping(range(4, 28), &routes, "bffff-").unwrap().device, "bab12-ex1");
        assert_eq!(overlapping(range(0, 16), &routes, "bffff-").unwrap().device, "bab12-ex1");
        assert_eq!(overlapping(range(4, 24), &routes, "bab12-"), None, "our own device");
        assert_eq!(overlapping(range(4, 23), &routes, "bab12-").unwrap().device, "tun0");
        assert_eq!(free(&routes, "bab12-"), Some(range(4, 24)));
        assert_eq!(free(&routes, "bffff-"), Some(range(6, 24)));
        assert_eq!(free(&parse("h\nt 00000000 0 0 0 0 0 00000080\nt 00000080 0 0 0 0 0 00000080"), "b"), None);
        let words = problem(range(4, 24), &routes, "bffff-").unwrap();
        assert!(words.contains("172.24.4.0/24 on bab12-ex1"), "{words}");
    }
}
