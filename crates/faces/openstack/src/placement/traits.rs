//! Traits: those that hosts have by themselves, and custom ones, which operators make and give to hosts so that flavors can
//! ask for them (`trait:CUSTOM_GOLD=required`).

use std::collections::BTreeSet;

use model::{Change, Entry, Fault, Host, Setting, Snapshot};
use serde_json::{Value, json};

use super::fault::missing;
use super::provider::{generation, of_path};
use super::query::read_traits;
use crate::call::{Call, Reply};

/// The setting that holds the custom traits.
const CUSTOM: &str = "custom-traits";

fn is_custom(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    name.len() <= 255 && name.strip_prefix("CUSTOM_").is_some_and(|rest| !rest.is_empty() && rest.chars().all(fine))
}

/// The traits of a host; one that is disabled has the trait by which Nova keeps away from it.
pub fn of(host: &Host) -> BTreeSet<String> {
    let disabled = (!host.enabled).then(|| "COMPUTE_STATUS_DISABLED".to_owned());
    host.traits.iter().cloned().chain(disabled).collect()
}

fn custom(snapshot: &Snapshot) -> BTreeSet<String> {
    let setting = snapshot.get::<Setting>(CUSTOM);
    setting.and_then(|row| serde_json::from_value(row.value.value.clone()).ok()).unwrap_or_default()
}

fn associated(snapshot: &Snapshot) -> BTreeSet<String> {
    snapshot.all::<Host>().flat_map(|host| of(&host)).collect()
}

/// `GET /traits`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    super::query::only(&call, &["name", "associated"])?;
    let on_hosts = associated(&call.snapshot);
    let mut all: Vec<String> = on_hosts.union(&custom(&call.snapshot)).cloned().collect();
    if let Some(filter) = call.query("name") {
        all.retain(read_traits(filter)?);
    }
    if let Some(wanted) = call.query("associated") {
        all.retain(|name| on_hosts.contains(name) != wanted.eq_ignore_ascii_case("false"));
    }
    Ok(Reply::ok(json!({"traits": all})))
}

/// `GET /traits/{name}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let name = call.param("name");
    if associated(&call.snapshot).contains(name) || custom(&call.snapshot).contains(name) {
        return Ok(Reply::empty(204));
    }
    Err(missing(format!("No such trait: {name}.")))
}

/// `PUT /traits/{name}`
pub async fn create(call: Call) -> Result<Reply, Fault> {
    let name = call.param("name");
    if !is_custom(name) {
        return Err(Fault::Invalid(
            "The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix \
             \"CUSTOM_\" and use following characters: \"A\"-\"Z\", \"0\"-\"9\" and \"_\""
                .into(),
        ));
    }
    let made = edit_custom(&call, |_, all| Ok(all.insert(name.to_owned()))).await?;
    let reply = Reply::empty(if made { 201 } else { 204 });
    Ok(reply.with("location", &call.url(&format!("/traits/{name}"))))
}

/// `DELETE /traits/{name}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let name = call.param("name");
    edit_custom(&call, |snapshot, all| {
        let used = associated(snapshot).contains(name);
        match (used, all.remove(name)) {
            (true, true) => Err(Fault::Conflict(format!("The trait {name} is in use by a resource provider."))),
            (true, false) => Err(Fault::Invalid(format!("Cannot delete standard trait {name}."))),
            (false, true) => Ok(true),
            (false, false) => Err(missing(format!("No such trait: {name}."))),
        }
    })
    .await?;
    Ok(Reply::empty(204))
}

/// Changes the set of custom traits; whether it changed.
async fn edit_custom(
    call: &Call,
    mut edit: impl FnMut(&Snapshot, &mut BTreeSet<String>) -> Result<bool, Fault>,
) -> Result<bool, Fault> {
    call.cloud
        .store
        .transact(|snapshot| {
            let mut all = custom(snapshot);
            let changed = edit(snapshot, &mut all)?;
            let row = Setting { name: CUSTOM.into(), value: json!(all) };
            let mut change = Change::new();
            match snapshot.get::<Setting>(CUSTOM) {
                _ if !changed => &mut change,
                Some(old) => change.update(old, row),
                None => change.create(row),
            };
            Ok((change, changed))
        })
        .await
}

/// `GET /resource_providers/{id}/traits`
pub async fn of_provider(call: Call) -> Result<Reply, Fault> {
    let host = of_path(&call, &call.snapshot)?;
    Ok(Reply::ok(show_traits(&host)))
}

fn show_traits(host: &Host) -> Value {
    json!({"resource_provider_generation": generation(host), "traits": of(host)})
}

/// `PUT /resource_providers/{id}/traits`. What a host has by itself it keeps, as Nova's compute service sees to it.
pub async fn replace(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let invalid = |what: &str| Fault::Invalid(format!("JSON does not validate: {what}"));
    let given = body["resource_provider_generation"].as_u64();
    let given = given.ok_or_else(|| invalid("'resource_provider_generation' is a required property"))?;
    let names = body["traits"].as_array().ok_or_else(|| invalid("'traits' is a required property"))?;
    let names: Option<BTreeSet<String>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
    write(&call, given, names.ok_or_else(|| invalid("a trait is not of type 'string'"))?).await
}

/// `DELETE /resource_providers/{id}/traits`
pub async fn clear(call: Call) -> Result<Reply, Fault> {
    let now = generation(&*of_path(&call, &call.snapshot)?);
    write(&call, now, BTreeSet::new()).await?;
    Ok(Reply::empty(204))
}

async fn write(call: &Call, given: u64, names: BTreeSet<String>) -> Result<Reply, Fault> {
    let written = call.cloud.store.transact(|snapshot| {
        let host: Entry<'_, Host> = of_path(call, snapshot)?;
        if generation(&host) != given {
            return Err(Fault::Conflict(
                "Resource provider's generation already changed. Please update the generation and try again.".into(),
            ));
        }
        let known: BTreeSet<String> = associated(snapshot).union(&custom(snapshot)).cloned().collect();
        let unknown: Vec<&str> = names.difference(&known).map(String::as_str).collect();
        if !unknown.is_empty() {
            return Err(Fault::Invalid(format!("No such trait {}.", unknown.join(", "))));
        }
        let mut after = host.value.clone();
        after.traits.retain(|name| !is_custom(name));
        after.traits.extend(names.iter().filter(|name| is_custom(name)).cloned());
        let mut change = Change::new();
        change.update(host, after.clone());
        Ok((change, after))
    });
    Ok(Reply::ok(show_traits(&written.await?)))
}
