//! What a query may say. Nova passed over parameters that it did not know, and began to refuse them list by list: most
//! lists with 2.75, everything else that is read with 2.102. Refused was a list of names in each row of the table of
//! endpoints: nearly all of them take none.

use model::{Fault, Flavor, Server};

use crate::attrs::Shown;
use crate::call::Call;
use crate::service::Endpoint;

/// An endpoint whose query says something.
struct Known {
    method: &'static str,
    /// Below `/v2.1/`.
    path: &'static str,
    /// The first version that refuses other parameters.
    since: (u16, u16),
    names: &'static str,
    /// A parameter that came after that, and its first version.
    later: Option<(&'static str, (u16, u16))>,
    /// What is declared as a filter of the list, in a version.
    filters: fn(&str, (u16, u16)) -> bool,
}

/// Since when lists refuse what they do not know.
const LISTS: (u16, u16) = (2, 75);
/// Since when whatever is read refuses it.
const ALL: (u16, u16) = (2, 102);
const NEVER: (u16, u16) = (u16::MAX, u16::MAX);

/// Lists of servers, beside their filters. Most of it names nothing that a server here has; Nova's schema has it all.
const SERVERS: &str = "access_ip_v4 access_ip_v6 all_tenants auto_disk_config block_device_mapping created_at \
    display_description display_name image_ref info_cache kernel_id launched_at limit locked_by marker metadata \
    pci_devices progress ramdisk_id root_device_name security_groups services sort_dir sort_key system_metadata \
    terminated_at";
/// The last two came with 2.80, which refuses no more than 2.59 did.
const MIGRATIONS: &str =
    "changes-since hidden host instance_uuid limit marker migration_type source_compute status project_id user_id";
const FLAVORS: &str = "limit marker sort_dir sort_key";
const HYPERVISORS: &str = "hypervisor_hostname_pattern limit marker with_servers";

const fn known(method: &'static str, path: &'static str, since: (u16, u16), names: &'static str) -> Known {
    Known { method, path, since, names, later: None, filters: |_, _| false }
}

const fn get(path: &'static str, since: (u16, u16), names: &'static str) -> Known {
    known("GET", path, since, names)
}

const KNOWN: &[Known] = &[
    Known { filters: Server::filters_by, ..get("servers", LISTS, SERVERS) },
    Known { filters: Server::filters_by, ..get("servers/detail", LISTS, SERVERS) },
    get("servers/{id}/tags", NEVER, ""),
    get("servers/{id}/tags/{tag}", NEVER, ""),
    Known {
        later: Some(("changes-before", (2, 66))),
        ..get("servers/{id}/os-instance-actions", (2, 58), "changes-since limit marker")
    },
    get("servers/{id}/shares", (2, 97), ""),
    get("servers/{id}/shares/{share}", (2, 97), ""),
    get("servers/{id}/os-volume_attachments", LISTS, "limit offset"),
    get("servers/{id}/os-volume_attachments/{volume}", NEVER, ""),
    Known { filters: Flavor::filters_by, ..get("flavors", LISTS, FLAVORS) },
    Known { filters: Flavor::filters_by, ..get("flavors/detail", LISTS, FLAVORS) },
    get("os-hypervisors", (2, 53), HYPERVISORS),
    get("os-hypervisors/detail", (2, 53), HYPERVISORS),
    get("os-hypervisors/{id}", (2, 53), "with_servers"),
    get("os-keypairs", LISTS, "limit marker user_id"),
    get("os-keypairs/{name}", LISTS, "user_id"),
    known("DELETE", "os-keypairs/{name}", LISTS, "user_id"),
    get("limits", LISTS, "tenant_id"),
    get("os-console-auth-tokens/{token}", (2, 99), ""),
    Known { later: Some(("changes-before", (2, 66))), ..get("os-migrations", (2, 59), MIGRATIONS) },
    get("os-quota-sets/{id}", LISTS, "user_id"),
    known("PUT", "os-quota-sets/{id}", LISTS, "user_id"),
    known("DELETE", "os-quota-sets/{id}", LISTS, "user_id"),
    get("os-quota-sets/{id}/detail", LISTS, "user_id"),
    get("os-quota-sets/{id}/defaults", NEVER, ""),
    get("os-server-groups", LISTS, "all_projects limit offset"),
    get("os-services", LISTS, "binary host"),
    get("os-simple-tenant-usage", LISTS, "detailed end limit marker start"),
    get("os-simple-tenant-usage/{project}", LISTS, "end limit marker start"),
];

/// Refuses a parameter that the endpoint does not know, in the versions that do so.
pub fn check(call: &Call, endpoint: &Endpoint) -> Result<(), Fault> {
    if call.query.is_empty() {
        return Ok(());
    }
    let Some(path) = endpoint.path.strip_prefix("/v2.1/") else { return Ok(()) };
    let listed = KNOWN.iter().find(|known| known.method == endpoint.method.as_str() && known.path == path);
    const PLAIN: &Known = &get("", ALL, "");
    let Known { since, names, later, filters, .. } = match listed {
        Some(known) => known,
        None if endpoint.method == http::Method::GET => PLAIN,
        None => return Ok(()),
    };
    if call.version < *since {
        return Ok(());
    }
    let knows = |name: &str| {
        names.split(' ').any(|known| known == name)
            || later.is_some_and(|(known, first)| known == name && call.version >= first)
            || filters(name, call.version)
            || (*names == SERVERS && name.starts_with('_'))
    };
    match call.query.iter().find(|(name, _)| !knows(name)) {
        Some((name, _)) => {
            Err(Fault::Invalid(format!("Additional properties are not allowed ('{name}' was unexpected)")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::KNOWN;

    #[test]
    fn every_entry_is_an_endpoint() {
        let table = (crate::compute::SERVICE.table)();
        for known in KNOWN {
            let path = format!("/v2.1/{}", known.path);
            let found = table.iter().any(|row| row.method.as_str() == known.method && row.path == path);
            assert!(found, "there is no {} {path}", known.method);
        }
    }
}
