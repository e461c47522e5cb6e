//! What the real services have and this cloud has not: paths at which it says by name what is missing, since "check your
//! spelling" sends people to look for a mistake of theirs.
//!
//! A path is listed with all that is below it. Neutron answers 404 for extensions that are not loaded, by which its
//! clients know it; the others answer 501.

use model::Fault;

/// Paths below a service's prefix, in which `*` is any part, and what would be there.
pub type Absent = &'static [(&'static str, &'static str)];

pub const IDENTITY: Absent = &[
    ("/v3/OS-EP-FILTER", "Filtering the catalog by project (OS-EP-FILTER)"),
    ("/v3/OS-ENDPOINT-POLICY", "Policies of endpoints (OS-ENDPOINT-POLICY)"),
    ("/v3/policies/*/OS-ENDPOINT-POLICY", "Policies of endpoints (OS-ENDPOINT-POLICY)"),
    ("/v3/endpoints/*/OS-ENDPOINT-POLICY", "Policies of endpoints (OS-ENDPOINT-POLICY)"),
    ("/v3/OS-FEDERATION", "Federation (OS-FEDERATION)"),
    ("/v3/auth/OS-FEDERATION", "Federation (OS-FEDERATION)"),
    ("/v3/OS-OAUTH1", "OAuth 1.0a (OS-OAUTH1)"),
    ("/v3/OS-OAUTH2", "OAuth 2.0 (OS-OAUTH2)"),
    ("/v3/OS-REVOKE", "The list of revoked tokens (OS-REVOKE)"),
    ("/v3/OS-SIMPLE-CERT", "Signed tokens (OS-SIMPLE-CERT)"),
    ("/v3/auth/tokens/OS-PKI", "Signed tokens (OS-PKI)"),
    ("/v3/users/*/OS-OAUTH1", "OAuth 1.0a (OS-OAUTH1)"),
    ("/v3/domains/*/config", "Configuration of domains"),
    ("/v3/domains/config/*", "Configuration of domains"),
    ("/v3/limits", "Unified limits (the services keep their own quotas)"),
    ("/v3/registered_limits", "Unified limits (the services keep their own quotas)"),
    ("/v3/policies", "Policies, which Keystone itself reads nowhere,"),
    ("/v3/ec2tokens/*", "A signed request by id"),
    ("/v3/s3tokens", "Tokens for S3"),
    ("/v2.0", "The API of version 2, which ended with Queens,"),
];

pub const COMPUTE: Absent = &[
    ("/v2.1/os-assisted-volume-snapshots", "Snapshots of attached volumes"),
    ("/v2.1/os-volumes", "Volumes (Cinder)"),
    ("/v2.1/os-volumes_boot", "Volumes (Cinder)"),
    ("/v2.1/os-snapshots", "Volumes (Cinder)"),
    ("/v2.1/os-baremetal-nodes", "Bare metal (Ironic)"),
];

pub const IMAGE: Absent = &[
    ("/v2/cache", "A cache of images, which are where their bytes are,"),
    ("/v2/cached_images", "A cache of images, which are where their bytes are,"),
    ("/v2/queued_images", "A cache of images, which are where their bytes are,"),
    ("/v2/images/*/locations", "Locations of images elsewhere"),
    ("/v2/info/usage", "A report of usage; Neutron's quotas show `registry_size_total`,"),
    ("/v2/stores", "Several stores"),
    ("/v1", "The API of version 1, which ended with Rocky,"),
];

pub const NETWORK: Absent = &[
    ("/v2.0/bgp-peers", "bgp"),
    ("/v2.0/bgp-speakers", "bgp"),
    ("/v2.0/bgpvpn", "bgpvpn"),
    ("/v2.0/default-security-group-rules", "security-groups-default-rules"),
    ("/v2.0/flavors", "flavors"),
    ("/v2.0/service_profiles", "flavors"),
    ("/v2.0/fwaas", "fwaas_v2"),
    ("/v2.0/lbaas", "lbaasv2"),
    ("/v2.0/local_ips", "local_ip"),
    ("/v2.0/log", "logging"),
    ("/v2.0/metering", "metering"),
    ("/v2.0/ndp_proxies", "l3-ndp-proxy"),
    ("/v2.0/network_segment_ranges", "network-segment-range"),
    ("/v2.0/port_hints", "port-hints"),
    ("/v2.0/qos/policies/*/minimum_bandwidth_rules", "qos-bw-minimum-ingress"),
    ("/v2.0/qos/policies/*/minimum_packet_rate_rules", "qos-pps-minimum"),
    ("/v2.0/qos/policies/*/packet_rate_limit_rules", "qos-pps"),
    ("/v2.0/qos/alias_minimum_bandwidth_rules", "qos-rules-alias"),
    ("/v2.0/qos/alias_minimum_packet_rate_rules", "qos-rules-alias"),
    ("/v2.0/qos/alias_packet_rate_limit_rules", "qos-rules-alias"),
    ("/v2.0/routers/*/conntrack_helpers", "l3-conntrack-helper"),
    ("/v2.0/routers/*/add_external_gateways", "external-gateway-multihoming"),
    ("/v2.0/routers/*/update_external_gateways", "external-gateway-multihoming"),
    ("/v2.0/routers/*/remove_external_gateways", "external-gateway-multihoming"),
    ("/v2.0/routers/*/l3-agents", "l3_agent_scheduler"),
    ("/v2.0/networks/*/dhcp-agents", "dhcp_agent_scheduler"),
    ("/v2.0/agents/*/l3-routers", "l3_agent_scheduler"),
    ("/v2.0/agents/*/dhcp-networks", "dhcp_agent_scheduler"),
    ("/v2.0/ports/*/bindings", "binding-extended"),
    ("/v2.0/segments", "segment"),
    ("/v2.0/sfc", "sfc"),
    ("/v2.0/subnetpools/*/onboard_network_subnets", "subnet_onboard"),
    ("/v2.0/taas", "taas"),
    ("/v2.0/vpn", "vpnaas"),
];

/// How a path that nobody serves is refused.
pub fn refusal(service: &'static str, absent: Absent, path: &str) -> Fault {
    match absent.iter().find(|(pattern, _)| leads(pattern, path)) {
        Some((_, name)) if service == "network" => {
            let what = format!("The resource could not be found. The extension '{name}' is not built in this cloud.");
            Fault::NotFound { what, id: String::new() }
        }
        Some((_, what)) => Fault::NotImplemented(format!("{what} is not built in this cloud.")),
        None => Fault::NotFound { what: "resource".into(), id: path.to_owned() },
    }
}

fn leads(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    pattern.split('/').all(|wanted| parts.next().is_some_and(|part| wanted == "*" || wanted == part))
}
