//! `/extensions`: what Nova once had as extensions, by their aliases; since 2.1 they are all part of it. Listed are those
//! whose endpoints are here, which is how old clients learn of them.

use model::Fault;
use serde_json::{Value, json};

use super::fault::missing;
use crate::call::{Call, Reply};

/// Alias and name.
const ALL: &[(&str, &str)] = &[
    ("OS-DCF", "DiskConfig"),
    ("OS-EXT-AZ", "ExtendedAvailabilityZone"),
    ("OS-EXT-IMG-SIZE", "ImageSize"),
    ("OS-EXT-IPS", "ExtendedIps"),
    ("OS-EXT-IPS-MAC", "ExtendedIpsMac"),
    ("OS-EXT-SRV-ATTR", "ExtendedServerAttributes"),
    ("OS-EXT-STS", "ExtendedStatus"),
    ("OS-FLV-DISABLED", "FlavorDisabled"),
    ("OS-FLV-EXT-DATA", "FlavorExtraData"),
    ("OS-SCH-HNT", "SchedulerHints"),
    ("OS-SRV-USG", "ServerUsage"),
    ("os-admin-actions", "AdminActions"),
    ("os-aggregates", "Aggregates"),
    ("os-attach-interfaces", "AttachInterfaces"),
    ("os-availability-zone", "AvailabilityZone"),
    ("os-config-drive", "ConfigDrive"),
    ("os-console-output", "ConsoleOutput"),
    ("os-create-backup", "CreateBackup"),
    ("os-deferred-delete", "DeferredDelete"),
    ("os-flavor-access", "FlavorAccess"),
    ("os-flavor-extra-specs", "FlavorExtraSpecs"),
    ("os-flavor-manage", "FlavorManage"),
    ("os-floating-ip-pools", "FloatingIpPools"),
    ("os-floating-ips", "FloatingIps"),
    ("os-hosts", "Hosts"),
    ("os-hypervisors", "Hypervisors"),
    ("os-instance-actions", "InstanceActions"),
    ("os-instance_usage_audit_log", "InstanceUsageAuditLog"),
    ("os-keypairs", "Keypairs"),
    ("os-lock-server", "LockServer"),
    ("os-migrations", "Migrations"),
    ("os-multiple-create", "MultipleCreate"),
    ("os-networks", "Networks"),
    ("os-pause-server", "PauseServer"),
    ("os-personality", "Personality"),
    ("os-quota-class-sets", "QuotaClasses"),
    ("os-quota-sets", "Quotas"),
    ("os-rescue", "Rescue"),
    ("os-security-groups", "SecurityGroups"),
    ("os-server-diagnostics", "ServerDiagnostics"),
    ("os-server-external-events", "ServerExternalEvents"),
    ("os-server-groups", "ServerGroups"),
    ("os-server-password", "ServerPassword"),
    ("os-services", "Services"),
    ("os-shelve", "Shelve"),
    ("os-suspend-server", "SuspendServer"),
    ("os-tenant-networks", "TenantNetworks"),
    ("os-used-limits", "UsedLimits"),
    ("os-user-data", "UserData"),
];

/// Nova's one moment for all of them.
const UPDATED: &str = "2014-12-03T00:00:00Z";

fn shown(alias: &str, name: &str) -> Value {
    json!({"alias": alias, "name": name, "description": "", "links": [], "namespace": "http://docs.openstack.org/compute/ext/fake_xml",
        "updated": UPDATED})
}

/// `GET /extensions`
pub async fn index(_call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(json!({"extensions": ALL.iter().map(|(alias, name)| shown(alias, name)).collect::<Vec<_>>()})))
}

/// `GET /extensions/{alias}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let found = ALL.iter().find(|(alias, _)| *alias == call.param("alias"));
    let (alias, name) = found.ok_or_else(|| missing("The resource could not be found."))?;
    Ok(Reply::ok(json!({"extension": shown(alias, name)})))
}
