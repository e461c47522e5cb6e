//! `/address-groups`: lists of addresses to which rules of security groups refer.

use std::collections::BTreeSet;

use model::{AddressGroup, Fault, Index, SecurityGroupRule};
use serde_json::{Map, Value, json};

use super::ask::{Ask, Plan};
use super::attrs::{self, Attr, Body, DESCRIPTION, Is, NAME, free, python_list, shown_value};
use super::cidr::Cidr;
use super::noun::{self, Look, Noun, Standard, answer, changeable};
use super::trouble::Trouble;
use crate::call::{Call, Reply};

const ATTRS: &[Attr] = &[
    attrs::shown("id"),
    free("name", NAME),
    free("description", DESCRIPTION),
    free("addresses", Is::Any).once(),
    attrs::shown("shared"),
];

impl Noun for AddressGroup {
    const ONE: &'static str = "address_group";
    const MANY: &'static str = "address_groups";

    fn attrs() -> &'static [Attr] {
        ATTRS
    }

    fn show(look: &Look<'_>, value: &Self, into: &mut Map<String, Value>) {
        into.insert("shared".into(), json!(look.view().is_given(value)));
        into.insert("addresses".into(), json!(value.addresses));
    }

    fn standard(&self) -> Standard<'_> {
        Standard {
            id: &self.id,
            project_id: &self.project_id,
            name: Some(&self.name),
            description: &self.description,
            tags: None,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }

    fn updated_mut(&mut self) -> &mut model::Time {
        &mut self.updated_at
    }

    fn create(_plan: &mut Plan, ask: &Ask, project: String, body: &Body) -> Result<Self, Trouble> {
        let addresses = body.value("addresses").filter(|given| !given.is_null());
        Ok(Self {
            id: uuid::Uuid::new_v4().to_string(),
            project_id: project,
            name: body.text("name").unwrap_or_default(),
            description: body.text("description").unwrap_or_default(),
            addresses: shown(addresses.map(addresses_of).transpose()?.unwrap_or_default())?,
            created_at: ask.now,
            updated_at: ask.now,
        })
    }

    fn update(_plan: &mut Plan, _ask: &Ask, value: &mut Self, body: &Body) -> Result<(), Trouble> {
        body.set_text("name", &mut value.name);
        body.set_text("description", &mut value.description);
        Ok(())
    }

    fn delete(plan: &mut Plan, _ask: &Ask, value: Self) -> Result<(), Trouble> {
        // The claims of the rules say so too, for a rule that is made meanwhile.
        if plan.rows.find::<SecurityGroupRule>(Index::Owner, &value.id).next().is_some() {
            let message = format!("Address group {} is in use on one or more security group rules.", value.id);
            return Err(Trouble::conflict("AddressGroupInUse", message));
        }
        Ok(())
    }
}

/// The ranges of a request, each once.
fn addresses_of(given: &Value) -> Result<BTreeSet<Cidr>, Trouble> {
    let list = given.as_array();
    let list =
        list.ok_or_else(|| Trouble::attribute("addresses", format!("'{}' is not a list.", shown_value(given))))?;
    few(list.len())?;
    let one = |item: &Value| {
        let bad = || Trouble::attribute("addresses", format!("'{}' is not a valid IP subnet.", shown_value(item)));
        let text = item.as_str().filter(|text| text.contains('/'));
        text.and_then(|text| Cidr::parse(text).ok()).ok_or_else(bad)
    };
    list.iter().map(one).collect()
}

fn few(count: usize) -> Result<(), Trouble> {
    match count > model::MAX_ADDRESSES {
        true => Err(Trouble::attribute(
            "addresses",
            format!("an address group has at most {} addresses.", model::MAX_ADDRESSES),
        )),
        false => Ok(()),
    }
}

fn shown(ranges: BTreeSet<Cidr>) -> Result<Vec<String>, Trouble> {
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
            return Err(Trouble::bad(
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
            return Err(Trouble::missing(
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
    edit: impl Fn(&AddressGroup, &BTreeSet<Cidr>) -> Result<BTreeSet<Cidr>, Trouble> + Send + Sync,
) -> Result<Reply, Fault> {
    answer(async {
        let ask = Ask::read(call, true).await?;
        let given = ask.body.get("addresses");
        let given = addresses_of(given.ok_or_else(|| Trouble::attribute("addresses", "it is not specified."))?)?;
        let id = ask.param("id").to_owned();
        ask.commit(|plan| {
            let mut group = changeable::<AddressGroup>(plan, &ask, &id, verb)?;
            group.addresses = shown(edit(&group, &given)?)?;
            group.updated_at = ask.now;
            plan.put(group);
            Ok(())
        })
        .await?;
        noun::shown::<AddressGroup>(&ask, &id)
    })
    .await
}
