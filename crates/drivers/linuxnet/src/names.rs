//! What things are called on the host. The kernel allows a device's name 15 characters.

/// The first characters of an id that go into a device's name, as in [`model::hostnet::Wire::device`].
const HEAD: usize = 11;
/// The length of a domain's id in a namespace's name.
const ID: usize = 13;

fn head(id: &str) -> &str {
    id.get(..HEAD).unwrap_or(id)
}

/// A network's bridge, in the namespace.
pub fn bridge(network_id: &str) -> String {
    format!("br{}", head(network_id))
}

/// A network's tunnel to other hosts, in the namespace.
pub fn tunnel(network_id: &str) -> String {
    format!("vx{}", head(network_id))
}

/// A router's link to the external network, in the namespace.
pub fn uplink(router_id: &str) -> String {
    format!("up{}", head(router_id))
}

/// An external network's bridge, in the host's namespace.
pub fn external(prefix: &str, network_id: &str) -> String {
    format!("{prefix}b{}", short(&[network_id]))
}

/// The other end of a router's link, in the host's namespace.
pub fn uplink_peer(prefix: &str, domain_id: &str, router_id: &str) -> String {
    format!("{prefix}u{}", short(&[domain_id, router_id]))
}

/// Eight characters that stand for ids where there is no room for them.
fn short(ids: &[&str]) -> String {
    // FNV-1a: names must not change with a release of the compiler, or running devices would not be found again.
    let bytes = ids.iter().flat_map(|id| id.bytes().chain([0]));
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

/// Whether a device in the host's namespace was made under this prefix; another cloud's longer prefix is not taken for it.
pub fn is_host_device(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| {
        rest.len() == 9 && rest.starts_with(['b', 'u']) && rest[1..].bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Whether a namespace was made under this prefix.
pub fn is_namespace(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.len() == ID)
}

/// Whether a device in a namespace is of the kinds that this driver makes.
pub fn is_ours(device: &str) -> bool {
    ["br", "vx", "up", "tap", "vth", "ifb", "spi", BRANCH].iter().any(|kind| device.starts_with(kind))
}

/// The host's table of rules.
pub fn host_table(prefix: &str) -> String {
    format!("{}host", prefix.replace('-', "_"))
}

/// A pod's device, in the namespace.
pub fn veth(port_id: &str) -> String {
    format!("vth{}", head(port_id))
}

/// The device through which what comes from a port is led, in the namespace.
pub fn turn(port_id: &str) -> String {
    format!("ifb{}", head(port_id))
}

/// How the names of [`branch`]es begin.
pub const BRANCH: &str = "spt";

/// The end of a subport's pair that is joined with the device of its trunk, by Neutron's name for it. The other is the port's
/// own device.
pub fn branch(port_id: &str) -> String {
    format!("{BRANCH}{}", head(port_id))
}

/// A namespace's name is a file's name.
pub fn is_path(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Names go into rules and paths: letters, digits, `-`, `_`, and no longer than the kernel allows.
pub fn is_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_tell_clouds_apart() {
        let id = "0f47ac10-b58c-4372-a567-0e02b2c3d479";
        for name in [
            bridge(id),
            tunnel(id),
            uplink(id),
            turn(id),
            branch(id),
            external("braid-", id),
            uplink_peer("braid-", id, id),
        ] {
            assert!(is_name(&name), "{name}");
        }
        assert!(is_host_device("br", &external("br", id)));
        assert!(!is_host_device("br", &external("brb", id)));
        assert!(!is_name("tap\"; drop") && !is_name("") && !is_name("-f"));
    }
}
