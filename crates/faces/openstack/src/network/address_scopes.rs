//! `/address-scopes`, and what they ask of the pools and networks in them.

use gate::View;
use model::{AddressScope, Index, Network, RbacAction, RbacPolicy, Resource, Subnet, SubnetPool};
use serde_json::Value;

use super::attrs::{Attr, Is, NAME, field, owned, ruled};
use super::body::Attributes;
use super::cidr::version;
use super::error::NeutronError;
use super::request::{Plan, Request};
use super::resource::{NeutronResource, referred};
use super::sharing;
use super::subnetpools::{pool_version, ranges};

impl NeutronResource for AddressScope {
    const ONE: &'static str = "address_scope";
    const MANY: &'static str = "address_scopes";
    const ATTRS: &'static [Attr<Self>] = owned![
        field!(name: NAME),
        ruled::<Self>("ip_version", Is::Any, |_, scope| family(scope.ipv6).into()).once().required(),
        ruled::<Self>("shared", Is::Bool, |view, scope| view.is_given(scope).into()).admin_sets(),
    ];

    fn create(plan: &mut Plan, request: &Request, project: String, body: &Attributes) -> Result<Self, NeutronError> {
        let asked = body.value("ip_version").unwrap_or(&Value::Null);
        let ipv6 = match asked.as_i64().or_else(|| asked.as_str().and_then(|text| text.parse().ok())) {
            Some(4) => false,
            Some(6) => true,
            _ => {
                let asked = super::body::shown_value(asked);
                return Err(NeutronError::attribute("ip_version", format!("'{asked}' is not in [4, 6].")));
            }
        };
        let scope = body.fill(Self {
            id: uuid::Uuid::new_v4().to_string(),
            project_id: project,
            name: String::new(),
            ipv6,
            was_shared: false,
            updated_at: request.now,
        });
        sharing::give_all(plan, &scope, RbacAction::Shared, body.bool("shared"), request.now);
        Ok(scope)
    }

    fn update(plan: &mut Plan, request: &Request, value: &mut Self, body: &Attributes) -> Result<(), NeutronError> {
        let shared = RbacPolicy::is_for_all(&plan.rows, &value.key(), RbacAction::Shared);
        if shared && body.bool("shared") == Some(false) {
            return Err(NeutronError::bad(
                "AddressScopeUpdateError",
                format!("Unable to update address scope {} : Shared address scope can't be unshared.", value.id),
            ));
        }
        sharing::give_all(plan, value, RbacAction::Shared, body.bool("shared"), request.now);
        Ok(())
    }

    fn delete(plan: &mut Plan, _ask: &Request, value: Self) -> Result<(), NeutronError> {
        if plan.rows.find::<SubnetPool>(Index::Owner, &value.id).next().is_some() {
            return Err(NeutronError::conflict(
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
pub fn associate(
    plan: &mut Plan,
    request: &Request,
    pool: &mut SubnetPool,
    body: &Attributes,
) -> Result<(), NeutronError> {
    let before = pool.address_scope.clone();
    if let Some(given) = body.reference_or_null("address_scope_id") {
        pool.address_scope = match given {
            None => None,
            Some(id) => Some(referred::<AddressScope>(plan, request, &id)?.key()),
        };
    }
    let moved = pool.address_scope != before;
    let Some(key) = pool.address_scope.clone() else {
        return if moved { check_networks(plan, pool) } else { Ok(()) };
    };
    let Some(mut scope) = plan.rows.at::<AddressScope>(&key).map(|entry| entry.value.clone()) else {
        return Err(super::error::not_found(AddressScope::KIND, &key.name));
    };
    if pool_version(pool) != family(scope.ipv6) {
        return Err(NeutronError::bad(
            "IllegalSubnetPoolIpVersionAssociationToAddressScope",
            format!(
                "Illegal subnetpool association: subnetpool {} cannot associate with address scope {} because subnetpool ip_version is not {}.",
                pool.id,
                scope.id,
                family(scope.ipv6)
            ),
        ));
    }
    if !moved && body.has("prefixes") && !AddressScope::changes(&View::new(&plan.rows, &request.who), &scope) {
        return Err(NeutronError::bad(
            "IllegalSubnetPoolUpdate",
            format!(
                "Illegal subnetpool update : subnetpool {} cannot be updated when associated with shared address scope {}.",
                pool.id, scope.id
            ),
        ));
    }
    if moved || body.has("prefixes") {
        check_apart(plan, pool, &scope)?;
        scope.updated_at = request.now;
        plan.put(scope);
    }
    if moved { check_networks(plan, pool) } else { Ok(()) }
}

/// No other pool of the scope has one of the pool's addresses.
fn check_apart(plan: &Plan, pool: &SubnetPool, scope: &AddressScope) -> Result<(), NeutronError> {
    let own = ranges(pool);
    let mut others = plan.rows.find::<SubnetPool>(Index::Owner, &scope.id).filter(|other| other.value.id != pool.id);
    if others.any(|other| ranges(other.value).iter().any(|theirs| own.iter().any(|range| range.overlaps(theirs)))) {
        return Err(NeutronError::conflict(
            "AddressScopePrefixConflict",
            "Failed to associate address scope: subnetpools within an address scope must have unique prefixes.",
        ));
    }
    Ok(())
}

/// The networks that have subnets of the pool have none of another scope.
fn check_networks(plan: &mut Plan, pool: &SubnetPool) -> Result<(), NeutronError> {
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
pub fn check_subnet(plan: &Plan, subnet: &Subnet) -> Result<(), NeutronError> {
    affine(plan, subnet, AddressScope::of_subnet(&plan.rows, subnet), None)
}

fn affine(plan: &Plan, subnet: &Subnet, scope: Option<&str>, pool: Option<&str>) -> Result<(), NeutronError> {
    let mut others = plan.rows.find::<Subnet>(Index::Network, &subnet.network_id).map(|other| other.value);
    let odd = |other: &Subnet| {
        other.id != subnet.id
            && version(other.base) == version(subnet.base)
            && (pool.is_none() || other.subnetpool_id.as_deref() != pool)
            && AddressScope::of_subnet(&plan.rows, other) != scope
    };
    if others.any(odd) {
        return Err(NeutronError::bad(
            "NetworkAddressScopeAffinityError",
            "Subnets of the same address family hosted on the same network must all participate in the same address scope.",
        ));
    }
    Ok(())
}
