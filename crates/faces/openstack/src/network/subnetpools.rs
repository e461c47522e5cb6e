//! `/subnetpools`: prefixes from which subnets are cut.

use model::{Kind, RbacAction, Subnet, SubnetPool};
use serde_json::Value;

use super::address_scopes;
use super::attrs::{Attr, Is, NAME, field, ruled, shown, standard};
use super::body::Attributes;
use super::cidr::{Cidr, address, version, width};
use super::error::NeutronError;
use super::request::{Plan, Request};
use super::resource::NeutronResource;
use super::sharing;

const MAX_PREFIXES: usize = 256;

impl NeutronResource for SubnetPool {
    const ONE: &'static str = "subnetpool";
    const MANY: &'static str = "subnetpools";
    const ATTRS: &'static [Attr<Self>] = standard![
        field!(name: NAME).required(),
        field!(tags: Is::Tags).once(),
        ruled::<Self>("prefixes", Is::TextList, |_, pool| (&pool.prefixes).into()).required(),
        field!(default_prefixlen: Is::Int(0, 128)).get(|_, pool| pool.default_prefixlen.to_string().into()),
        field!(min_prefixlen: Is::Int(0, 128)).get(|_, pool| pool.min_prefixlen.to_string().into()),
        field!(max_prefixlen: Is::Int(0, 128)).get(|_, pool| pool.max_prefixlen.to_string().into()),
        ruled::<Self>("default_quota", Is::Any, |_, pool| pool.default_quota.into()),
        ruled::<Self>("shared", Is::Bool, |view, pool| view.is_given(pool).into()).once().admin_sets(),
        field!(is_default: Is::Bool).admin_sets(),
        ruled::<Self>("address_scope_id", Is::UuidOrNull(&[Kind::AddressScope]), |_, pool| (&pool.address_scope)
            .into()),
        shown::<Self>("ip_version", |_, pool| pool_version(pool).into()),
    ];

    fn create(plan: &mut Plan, request: &Request, project: String, body: &Attributes) -> Result<Self, NeutronError> {
        let prefixes = prefixes(body.texts("prefixes").unwrap_or_default())?;
        let first = prefixes.first().map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |c| c.base);
        let least = if first.is_ipv4() { 8 } else { 64 };
        let min = body.int("min_prefixlen").and_then(|n| u8::try_from(n).ok()).unwrap_or(least);
        let mut pool = body.fill(SubnetPool {
            id: uuid::Uuid::new_v4().to_string(),
            project_id: project,
            name: String::new(),
            description: String::new(),
            prefixes: prefixes.iter().map(Cidr::to_string).collect(),
            default_prefixlen: min,
            min_prefixlen: min,
            max_prefixlen: width(first),
            default_quota: quota(body)?.unwrap_or(None),
            was_shared: false,
            is_default: false,
            address_scope: None,
            tags: Vec::new(),
            created_at: request.now,
            updated_at: request.now,
        });
        check_lengths(&pool)?;
        address_scopes::associate(plan, request, &mut pool, body)?;
        only_default(plan, &pool)?;
        sharing::give_all(plan, &pool, RbacAction::Shared, body.bool("shared"), request.now);
        Ok(pool)
    }

    fn update(plan: &mut Plan, request: &Request, value: &mut Self, body: &Attributes) -> Result<(), NeutronError> {
        if let Some(quota) = quota(body)? {
            value.default_quota = quota;
        }
        if let Some(given) = body.texts("prefixes") {
            let new = prefixes(given)?;
            let kept = |old: &Cidr| new.iter().any(|cidr| cidr.covers(old));
            if !ranges(value).iter().all(kept) {
                return Err(NeutronError::bad(
                    "IllegalSubnetPoolPrefixUpdate",
                    "Illegal update to prefixes: Existing prefixes must be a subset of the new prefixes.",
                ));
            }
            value.prefixes = new.iter().map(Cidr::to_string).collect();
        }
        check_lengths(value)?;
        address_scopes::associate(plan, request, value, body)?;
        only_default(plan, value)
    }

    fn delete(plan: &mut Plan, _ask: &Request, value: Self) -> Result<(), NeutronError> {
        if cuts(plan, &value.id).next().is_some() {
            return Err(NeutronError::bad(
                "SubnetPoolDeleteError",
                "Unable to delete subnet pool: Subnet pool has existing allocations.",
            ));
        }
        Ok(())
    }
}

pub fn ranges(pool: &SubnetPool) -> Vec<Cidr> {
    pool.prefixes.iter().filter_map(|p| Cidr::parse(p).ok()).collect()
}

/// The IP version of a pool's prefixes.
pub fn pool_version(pool: &SubnetPool) -> u8 {
    ranges(pool).first().map_or(4, |cidr| version(cidr.base))
}

/// The subnets that were cut from a pool.
fn cuts<'a>(plan: &'a Plan, pool: &'a str) -> impl Iterator<Item = &'a Subnet> {
    plan.rows.all::<Subnet>().map(|s| s.value).filter(move |s| s.subnetpool_id.as_deref() == Some(pool))
}

/// The prefixes as ranges, sorted; those within others are dropped.
fn prefixes(given: Vec<String>) -> Result<Vec<Cidr>, NeutronError> {
    if given.is_empty() {
        return Err(NeutronError::bad("EmptySubnetPoolPrefixList", "Empty subnet pool prefix list."));
    }
    if given.len() > MAX_PREFIXES {
        return Err(NeutronError::attribute("prefixes", format!("a pool has at most {MAX_PREFIXES} prefixes.")));
    }
    let mut all = Vec::with_capacity(given.len());
    for text in &given {
        let bad = || NeutronError::attribute("prefixes", format!("'{text}' is not a valid IP subnet."));
        all.push(Cidr::parse(text).map_err(|()| bad())?);
    }
    if all.iter().any(|c| c.base.is_ipv4() != all[0].base.is_ipv4()) {
        return Err(NeutronError::bad("PrefixVersionMismatch", "Cannot mix IPv4 and IPv6 prefixes in a subnet pool."));
    }
    all.sort();
    let mut merged: Vec<Cidr> = Vec::with_capacity(all.len());
    for cidr in all {
        if !merged.iter().any(|m| m.covers(&cidr)) {
            merged.push(cidr);
        }
    }
    Ok(merged)
}

fn quota(body: &Attributes) -> Result<Option<Option<u64>>, NeutronError> {
    match body.value("default_quota") {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(value) => {
            let bad = || {
                let shown = super::body::shown_value(value);
                NeutronError::attribute("default_quota", format!("'{shown}' should be non-negative."))
            };
            let number = value.as_u64().or_else(|| value.as_str().and_then(|t| t.parse().ok()));
            number.map(|n| Some(Some(n))).ok_or_else(bad)
        }
    }
}

fn check_lengths(pool: &SubnetPool) -> Result<(), NeutronError> {
    let wide = if pool_version(pool) == 4 { 32 } else { 128 };
    let bounds = |kind: &str, a: u8, base: &str, b: u8| {
        NeutronError::bad("IllegalSubnetPoolPrefixBounds", format!("Illegal prefix bounds: {kind}={a}, {base}={b}."))
    };
    if pool.max_prefixlen > wide {
        return Err(bounds("max_prefixlen", pool.max_prefixlen, "ip_version_max", wide));
    }
    if pool.min_prefixlen > pool.max_prefixlen {
        return Err(bounds("min_prefixlen", pool.min_prefixlen, "max_prefixlen", pool.max_prefixlen));
    }
    if pool.default_prefixlen < pool.min_prefixlen {
        return Err(bounds("default_prefixlen", pool.default_prefixlen, "min_prefixlen", pool.min_prefixlen));
    }
    if pool.default_prefixlen > pool.max_prefixlen {
        return Err(bounds("default_prefixlen", pool.default_prefixlen, "max_prefixlen", pool.max_prefixlen));
    }
    Ok(())
}

fn only_default(plan: &Plan, pool: &SubnetPool) -> Result<(), NeutronError> {
    let rival =
        |other: &SubnetPool| other.is_default && other.id != pool.id && pool_version(other) == pool_version(pool);
    if pool.is_default && plan.rows.all::<SubnetPool>().any(|other| rival(other.value)) {
        return Err(NeutronError::invalid(
            "A default subnetpool for this IP family has already been set. Only one default may exist per IP family",
        ));
    }
    Ok(())
}

/// Cuts a range out of the pool: this one, or the lowest free one of this length. Two cuts at once both write the pool.
pub fn cut(
    plan: &mut Plan,
    request: &Request,
    pool: &SubnetPool,
    project: &str,
    wanted: Option<Cidr>,
    length: Option<u8>,
    ip_version: Option<i64>,
) -> Result<Cidr, NeutronError> {
    if let Some(v) = ip_version
        && v != i64::from(pool_version(pool))
    {
        let message = format!("Cannot allocate IPv{v} subnet from IPv{} subnet pool", pool_version(pool));
        return Err(NeutronError::bad_request("subnets", message));
    }
    let length = wanted.map(|cidr| cidr.prefix).or(length).unwrap_or(pool.default_prefixlen);
    if length < pool.min_prefixlen {
        return Err(NeutronError::bad(
            "MinPrefixSubnetAllocationError",
            format!(
                "Unable to allocate subnet with prefix length {length}, minimum allowed prefix is {}.",
                pool.min_prefixlen
            ),
        ));
    }
    if length > pool.max_prefixlen {
        return Err(NeutronError::bad(
            "MaxPrefixSubnetAllocationError",
            format!(
                "Unable to allocate subnet with prefix length {length}, maximum allowed prefix is {}.",
                pool.max_prefixlen
            ),
        ));
    }
    let taken: Vec<Cidr> = cuts(plan, &pool.id).map(Cidr::of).collect();
    let no_room = |reason: String| {
        NeutronError::conflict("SubnetAllocationError", format!("Failed to allocate subnet: {reason}."))
    };
    let cidr = match wanted {
        Some(cidr) if !ranges(pool).iter().any(|r| r.covers(&cidr)) || taken.iter().any(|t| t.overlaps(&cidr)) => {
            return Err(no_room(format!("Cannot allocate requested subnet {cidr} from the available set of prefixes")));
        }
        Some(cidr) => cidr,
        None => ranges(pool)
            .iter()
            .find_map(|range| lowest_free(range, length, &taken))
            .ok_or_else(|| no_room(format!("Insufficient prefix space to allocate subnet size /{length}")))?,
    };
    if let Some(quota) = pool.default_quota {
        // IPv4 counts addresses, IPv6 networks of 64 bits, as in Neutron.
        let weight = |prefix: u8| {
            let bits = if pool_version(pool) == 4 { 32u8 } else { 64 }.saturating_sub(prefix);
            1u128 << bits
        };
        let used: u128 = cuts(plan, &pool.id).filter(|s| s.project_id == project).map(|s| weight(s.prefix)).sum();
        if used + weight(cidr.prefix) > u128::from(quota) {
            return Err(NeutronError::conflict(
                "SubnetPoolQuotaExceeded",
                "Per-project subnet pool prefix quota exceeded.",
            ));
        }
    }
    let mut pool = pool.clone();
    pool.updated_at = request.now;
    plan.put(pool);
    Ok(cidr)
}

/// The lowest range of this length that none of the taken ones overlaps: behind each collision the search goes on, so
/// it takes at most as many steps as there are ranges taken.
fn lowest_free(range: &Cidr, length: u8, taken: &[Cidr]) -> Option<Cidr> {
    if length < range.prefix {
        return None;
    }
    let step = 1u128.checked_shl(u32::from(width(range.base) - length))?;
    let mut at = range.first();
    loop {
        let candidate = Cidr::new(address(range.base, at), length)?;
        if !range.covers(&candidate) {
            return None;
        }
        match taken.iter().filter(|t| t.overlaps(&candidate)).map(Cidr::last).max() {
            None => return Some(candidate),
            Some(last) => {
                let behind = last.max(candidate.last()).checked_add(1)?;
                at = behind.checked_next_multiple_of(step)?;
                if at > range.last() {
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_range() {
        let cidr = |t: &str| Cidr::parse(t).unwrap();
        let taken = [cidr("10.0.0.0/26"), cidr("10.0.0.128/25")];
        let free = |length| lowest_free(&cidr("10.0.0.0/23"), length, &taken).map(|c| c.to_string());
        assert_eq!(free(26).as_deref(), Some("10.0.0.64/26"));
        assert_eq!(free(25).as_deref(), Some("10.0.1.0/25"));
        assert_eq!(free(24).as_deref(), Some("10.0.1.0/24"));
        assert_eq!(free(23), None);
        assert_eq!(lowest_free(&cidr("255.255.255.0/24"), 24, &[cidr("255.255.255.0/24")]), None);
    }
}
