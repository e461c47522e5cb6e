//! `/address-scopes`, and what they ask of the pools and networks in them.

use model::{AddressScope, Index, Network, RbacAction, RbacPolicy, Resource, Subnet, SubnetPool};
use serde_json::{Map, Value, json};

use super::ask::{Ask, Plan};
use super::attrs::{Attr, Body, Is, NAME, free, shown};
use super::cidr::version;
use super::noun::{Look, Noun, Standard, referred};
use super::rbac_policies;
use super::subnetpools::{pool_version, ranges};
use super::trouble::Trouble;

const ATTRS: &[Attr] = &[
    shown("id"),
    free("name", NAME),
    free("ip_version", Is::Any).once().required(),
    free("shared", Is::Bool).admin_sets(),
];

impl Noun for AddressScope {
    const ONE: &'static str = "address_scope";
    const MANY: &'static str = "address_scopes";
    const PLAIN: bool = true;

    fn attrs() -> &'static [Attr] {
        ATTRS
    }

    fn show(look: &Look<'_>, value: &Self, into: &mut Map<String, Value>) {
        into.insert("ip_version".into(), json!(family(value.ipv6)));
        into.insert("shared".into(), json!(look.view().is_given(value)));
    }

    fn standard(&self) -> Standard<'_> {
        Standard {
            id: &self.id,
            project_id: &self.project_id,
            name: Some(&self.name),
            description: "",
            tags: None,
            created_at: self.updated_at,
            updated_at: self.updated_at,
        }
    }

    fn updated_mut(&mut self) -> &mut model::Time {
        &mut self.updated_at
    }

    fn create(plan: &mut Plan, ask: &Ask, project: String, body: &Body) -> Result<Self, Trouble> {
        let asked = body.value("ip_version").unwrap_or(&Value::Null);
        let ipv6 = match asked.as_i64().or_else(|| asked.as_str().and_then(|text| text.parse().ok())) {
            Some(4) => false,
            Some(6) => true,
            _ => {
                let asked = super::attrs::shown_value(asked);
                return Err(Trouble::attribute("ip_version", format!("'{asked}' is not in [4, 6].")));
            }
        };
        let scope = Self {
            id: uuid::Uuid::new_v4().to_string(),
            project_id: project,
            name: body.text("name").unwrap_or_default(),
            ipv6,
            was_shared: false,
            updated_at: ask.now,
        };
        rbac_policies::give_all(plan, &scope, RbacAction::Shared, body.bool("shared"), ask.now);
        Ok(scope)
    }

    fn update(plan: &mut Plan, ask: &Ask, value: &mut Self, body: &Body) -> Result<(), Trouble> {
        let shared = RbacPolicy::is_for_all(&plan.rows, &value.key(), RbacAction::Shared);
        if shared && body.bool("shared") == Some(false) {
            return Err(Trouble::bad(
                "AddressScopeUpdateError",
                format!("Unable to update address scope {} : Shared address scope can't be unshared.", value.id),
            ));
        }
        body.set_text("name", &mut value.name);
        rbac_policies::give_all(plan, value, RbacAction::Shared, body.bool("shared"), ask.now);
        Ok(())
    }

    fn delete(plan: &mut Plan, _ask: &Ask, value: Self) -> Result<(), Trouble> {
        if plan.rows.find::<SubnetPool>(Index::Owner, &value.id).next().is_some() {
            return Err(Trouble::conflict(
                "AddressScopeInUse",
                format!(
                    "Unable to complete operation on address scope {}. There are one or more subnet pools in use on the address scope.",
                    value.id
                ),
            ));
        }
        Ok(())
    }
}

fn family(ipv6: bool) -> u8 {
    if ipv6 { 6 } else { 4 }
}

/// Puts the pool into the scope that the request names, or into none; what a pool in a scope may not be is refused.
pub fn associate(plan: &mut Plan, ask: &Ask, pool: &mut SubnetPool, body: &Body) -> Result<(), Trouble> {
    let before = pool.address_scope.clone();
    if let Some(given) = body.reference_or_null("address_scope_id") {
        pool.address_scope = match given {
            None => None,
            Some(id) => Some(referred::<AddressScope>(plan, ask, &id)?.key()),
        };
    }
    let moved = pool.address_scope != before;
    let Some(key) = pool.address_scope.clone() else {
        return if moved { check_networks(plan, pool) } else { Ok(()) };
    };
    let Some(mut scope) = plan.rows.at::<AddressScope>(&key).map(|entry| entry.value.clone()) else {
        return Err(super::trouble::not_found(AddressScope::KIND, &key.name));
    };
    if pool_version(pool) != family(scope.ipv6) {
        return Err(Trouble::bad(
            "IllegalSubnetPoolIpVersionAssociationToAddressScope",
            format!(
                "Illegal subnetpool association: subnetpool {} cannot associate with address scope {} because subnetpool ip_version is not {}.",
                pool.id,
                scope.id,
                family(scope.ipv6)
            ),
        ));
    }
    if !moved && body.has("prefixes") && !AddressScope::changes(&Look { rows: &plan.rows, who: &ask.who }, &scope) {
        return Err(Trouble::bad(
            "IllegalSubnetPoolUpdate",
            format!(
                "Illegal subnetpool update : subnetpool {} cannot be updated when associated with shared address scope {}.",
                pool.id, scope.id
            ),
        ));
    }
    if moved || body.has("prefixes") {
        check_apart(plan, pool, &scope)?;
        scope.updated_at = ask.now;
        plan.put(scope);
    }
    if moved { check_networks(plan, pool) } else { Ok(()) }
}

/// No other pool of the scope has one of the pool's addresses.
fn check_apart(plan: &Plan, pool: &SubnetPool, scope: &AddressScope) -> Result<(), Trouble> {
    let own = ranges(pool);
    let mut others = plan.rows.find::<SubnetPool>(Index::Owner, &scope.id).filter(|other| other.value.id != pool.id);
    if others.any(|other| ranges(other.value).iter().any(|theirs| own.iter().any(|range| range.overlaps(theirs)))) {
        return Err(Trouble::conflict(
            "AddressScopePrefixConflict",
            "Failed to associate address scope: subnetpools within an address scope must have unique prefixes.",
        ));
    }
    Ok(())
}

/// The networks that have subnets of the pool have none of another scope.
fn check_networks(plan: &mut Plan, pool: &SubnetPool) -> Result<(), Trouble> {
    let scope = pool.address_scope.as_ref().map(|key| &*key.name);
    let cut: Vec<Subnet> = plan
        .rows
        .all::<Subnet>()
        .map(|subnet| subnet.value)
        .filter(|subnet| subnet.subnetpool_id.as_deref() == Some(&pool.id))
        .cloned()
        .collect();
    for subnet in &cut {
        affine(plan, subnet, scope, Some(&pool.id))?;
        // A subnet that is made meanwhile writes its network.
        plan.hold::<Network>(&subnet.network_id);
    }
    Ok(())
}

/// A subnet has the scope that the others of its network and family have.
pub fn check_subnet(plan: &Plan, subnet: &Subnet) -> Result<(), Trouble> {
    affine(plan, subnet, AddressScope::of_subnet(&plan.rows, subnet), None)
}

fn affine(plan: &Plan, subnet: &Subnet, scope: Option<&str>, pool: Option<&str>) -> Result<(), Trouble> {
    let mut others = plan.rows.find::<Subnet>(Index::Network, &subnet.network_id).map(|other| other.value);
    let odd = |other: &Subnet| {
        other.id != subnet.id
            && version(other.base) == version(subnet.base)
            && (pool.is_none() || other.subnetpool_id.as_deref() != pool)
            && AddressScope::of_subnet(&plan.rows, other) != scope
    };
    if others.any(odd) {
        return Err(Trouble::bad(
            "NetworkAddressScopeAffinityError",
            "Subnets of the same address family hosted on the same network must all participate in the same address scope.",
        ));
    }
    Ok(())
}

/// What a network shows of its scopes.
pub fn show_network(look: &Look<'_>, network: &Network, into: &mut Map<String, Value>) {
    for (name, ipv6) in [("ipv4_address_scope", false), ("ipv6_address_scope", true)] {
        into.insert(name.into(), json!(AddressScope::of_network(look.rows, network, ipv6)));
    }
}
