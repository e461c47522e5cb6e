//! What the walks over the tables of endpoints have in common.
#![allow(dead_code, reason = "each walk uses its own part of it")]

use face_openstack::table::{Endpoint, Service};
use model::Kind;
use serde_json::json;

use crate::common::{self, Harness};
use crate::rows;

/// What a part of a path in a collection names.
pub fn kind_of(collection: &str) -> Option<Kind> {
    Some(match collection {
        "servers" => Kind::Server,
        "os-server-groups" => Kind::ServerGroup,
        "os-keypairs" => Kind::Keypair,
        "images" => Kind::Image,
        "namespaces" => Kind::MetadefNamespace,
        "networks" | "os-networks" | "os-tenant-networks" => Kind::Network,
        "subnets" => Kind::Subnet,
        "subnetpools" => Kind::SubnetPool,
        "ports" => Kind::Port,
        "routers" => Kind::Router,
        "floatingips" | "os-floating-ips" => Kind::FloatingIp,
        "security-groups" | "os-security-groups" => Kind::SecurityGroup,
        "security-group-rules" | "os-security-group-rules" => Kind::SecurityGroupRule,
        "address-groups" => Kind::AddressGroup,
        "port_forwardings" => Kind::PortForwarding,
        "address-scopes" => Kind::AddressScope,
        "rbac-policies" => Kind::RbacPolicy,
        "policies" => Kind::QosPolicy,
        "trunks" => Kind::Trunk,
        "projects" | "os-simple-tenant-usage" | "auto-allocated-topology" => Kind::Project,
        "users" => Kind::User,
        _ => return None,
    })
}

/// Something of each kind that a project can have.
pub async fn fill_project(cloud: &Harness) {
    let rows = rows::Rows::new(cloud).await;
    let server = json!({"server": {"name": "walked", "imageRef": rows.image, "flavorRef": rows.small}});
    let (_, _, server) = cloud.ok("POST", "/compute/v2.1/servers", &cloud.demo, server).await;
    rows.place(cloud, common::text(&server["server"]["id"]), "node1", model::VmPhase::Running).await;
    let policy = json!({"policy": {"name": "walked", "project_id": cloud.demo_project}});
    cloud.ok("POST", "/network/v2.0/qos/policies", &cloud.admin, policy).await;
    let namespace = json!({"namespace": "walked", "owner": cloud.demo_project});
    cloud.ok("POST", "/image/v2/metadefs/namespaces", &cloud.admin, namespace).await;
    for (path, body) in [
        ("/network/v2.0/networks", json!({"network": {"name": "walked"}})),
        ("/network/v2.0/routers", json!({"router": {"name": "walked"}})),
        ("/network/v2.0/address-groups", json!({"address_group": {"name": "walked", "addresses": ["10.0.0.0/8"]}})),
        ("/network/v2.0/address-scopes", json!({"address_scope": {"name": "walked", "ip_version": 4}})),
        ("/compute/v2.1/os-server-groups", json!({"server_group": {"name": "walked", "policies": ["affinity"]}})),
        ("/compute/v2.1/os-keypairs", json!({"keypair": {"name": "walked"}})),
        ("/image/v2/images", json!({"name": "walked", "disk_format": "raw", "container_format": "bare"})),
    ] {
        let (status, _, answer) = cloud.call("POST", path, &cloud.demo, body).await;
        // 404: that service is not there yet.
        assert!(status == 404 || (200..300).contains(&status), "{path}: {status} {answer}");
        if let Some(id) = answer["network"]["id"].as_str() {
            let subnet = json!({"subnet": {"network_id": id, "ip_version": 4, "cidr": "10.99.0.0/24"}});
            cloud.ok("POST", "/network/v2.0/subnets", &cloud.demo, subnet).await;
            let policy = json!({"object_type": "network", "object_id": id, "action": "access_as_shared",
                "target_tenant": "nobody"});
            cloud.ok("POST", "/network/v2.0/rbac-policies", &cloud.demo, json!({"rbac_policy": policy})).await;
            let port = json!({"port": {"network_id": id}});
            let (_, _, port) = cloud.ok("POST", "/network/v2.0/ports", &cloud.demo, port).await;
            let trunk = json!({"trunk": {"port_id": port["port"]["id"]}});
            cloud.ok("POST", "/network/v2.0/trunks", &cloud.demo, trunk).await;
        }
    }
}

/// The header that asks for a version in which the endpoint exists.
pub fn version_for(service: &Service, endpoint: &Endpoint) -> Vec<(&'static str, String)> {
    let Some(versions) = &service.versions else { return Vec::new() };
    let (major, minor) = endpoint.since.max(versions.min).min(versions.max);
    vec![("openstack-api-version", format!("{} {major}.{minor}", versions.name))]
}
