//! `/address-groups`: lists of addresses to which rules of security groups refer.

use std::collections::BTreeSet;

use model::{AddressGroup, Fault, Index, SecurityGroupRule};
use serde_json::Value;

use super::attrs::{Attr, Is, NAME, field, ruled, shown, standard};
use super::body::{Attributes, python_list, shown_value};
use super::cidr::Cidr;
use super::error::NeutronError;
use super::request::{Plan, Request};
use super::resource::{self, NeutronResource, answer, changeable};
use crate::call::{Call, Reply};

impl NeutronResource for AddressGroup {
    const ONE: &'static str = "address_group";
    const MANY: &'static str = "address_groups";
    const ATTRS: &'static [Attr<Self>] = standard![
        field!(name: NAME),
        ruled::<Self>("addresses", Is::Any, |_, group| (&group.addresses).into()).once(),
        shown::<Self>("shared", |view, group| view.is_given(group).into()),
    ];

    fn create(_plan: &mut Plan, request: &Request, project: String, body: &Attributes) -> Result<Self, NeutronError> {
        let addresses = body.value("addresses").filter(|given| !given.is_null());
        Ok(body.fill(Self {
            id: uuid::Uuid::new_v4().to_string(),
            project_id: project,
            name: String::new(),
            description: String::new(),
            addresses: texts(addresses.map(addresses_of).transpose()?.unwrap_or_default())?,
            created_at: request.now,
            updated_at: request.now,
        }))
    }

    fn delete(plan: &mut Plan, _ask: &Request, value: Self) -> Result<(), NeutronError> {
        // The claims of the rules say so too, for a rule that is made meanwhile.
        if plan.rows.find::<SecurityGroupRule>(Index::Owner, &value.id).next().is_some() {
            let message = format!("Address group {} is in use on one or more security group rules.", value.id);
            return Err(NeutronError::conflict("AddressGroupInUse", message));
        }
        Ok(())
    }
}

/// The ranges of a request, each once.
fn addresses_of(given: &Value) -> Result<BTreeSet<Cidr>, NeutronError> {
    let list = given.as_array();
    let list =
        list.ok_or_else(|| NeutronError::attribute("addresses", format!("'{}' is not a list.", shown_value(given))))?;
    few(list.len())?;
    let one = |item: &Value| {
        let bad = || NeutronError::attribute("addresses", format!("'{}' is not a valid IP subnet.", shown_value(item)));
        let text = item.as_str().filter(|text| text.contains('/'));
        text.and_then(|text| Cidr::parse(text).ok()).ok_or_else(bad)
    };
    list.iter().map(one).collect()
}

fn few(count: usize) -> Result<(), NeutronError> {
    match count > model::MAX_ADDRESSES {
        true => Err(NeutronError::attribute(
            "addresses",
            format!("an address group has at most {} addresses.", model::MAX_ADDRESSES),
        )),
        false => Ok(()),
    }
}

fn texts(ranges: BTreeSet<Cidr>) -> Result<Vec<String>, NeutronError> {
    few(ranges.len())?;
    Ok(ranges.iter().map(Cidr::to_string).collect())
}

fn of(group: &AddressGroup) -> BTreeSet<Cidr> {
    group.addresses.iter().filter_map(|text| Cidr::parse(text).ok()).collect()
}

/// `PUT /address-groups/{id}/add_addresses`
pub async fn add(call: Call) -> Result<Reply, Fault> {
    change(call, "add_addresses", |group, given| {
        let mut all = of(group);
        let there: Vec<String> = given.intersection(&all).map(Cidr::to_string).collect();
        if !there.is_empty() {
            let there = python_list(there.iter().map(String::as_str));
            return Err(NeutronError::bad(
                "AddressesAlreadyExist",
                format!("Addresses {there} already exist in the address group {}.", group.id),
            ));
        }
        all.extend(given);
        Ok(all)
    })
    .await
}

/// `PUT /address-groups/{id}/remove_addresses`
pub async fn remove(call: Call) -> Result<Reply, Fault> {
    change(call, "remove_addresses", |group, given| {
        let all = of(group);
        let strange: Vec<String> = given.difference(&all).map(Cidr::to_string).collect();
        if !strange.is_empty() {
            let strange = python_list(strange.iter().map(String::as_str));
            return Err(NeutronError::missing(
                "AddressesNotFound",
                format!("Addresses {strange} not found in the address group {}.", group.id),
            ));
        }
        Ok(all.difference(given).copied().collect())
    })
    .await
}

async fn change(
    call: Call,
    verb: &str,
    edit: impl Fn(&AddressGroup, &BTreeSet<Cidr>) -> Result<BTreeSet<Cidr>, NeutronError> + Send + Sync,
) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, true).await?;
        let given = request.body.get("addresses");
        let given = addresses_of(given.ok_or_else(|| NeutronError::attribute("addresses", "it is not specified."))?)?;
        let id = request.param("id").to_owned();
        request
            .commit(|plan| {
                let mut group = changeable::<AddressGroup>(plan, &request, &id, verb)?;
                group.addresses = texts(edit(&group, &given)?)?;
                group.updated_at = request.now;
                plan.put(group);
                Ok(())
            })
            .await?;
        resource::shown::<AddressGroup>(&request, &id)
    })
    .await
}
