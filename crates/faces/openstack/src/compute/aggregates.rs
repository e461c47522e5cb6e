//! Host aggregates: availability zones, hosts reserved for projects, hosts that flavors ask for. What they mean for a host
//! is said in [`model::Aggregates`], for VMs and pods alike.

use std::collections::{BTreeMap, BTreeSet};

use model::{Aggregate, Change, Entry, Fault, Host, Index, Snapshot};
use serde_json::{Value, json};

use super::body::{self, Fields, bad, texts};
use super::fault::{missing, not_built};
use super::schema::{self, Is, Property, Schema, property};
use super::wire::time_micro;
use crate::attrs::{Answers, Attr, Shown, attr};
use crate::call::{Call, Reply};
use crate::json::Json;

/// The most entries of an aggregate's metadata.
const MOST_METADATA: usize = 128;

impl Shown for Aggregate {
    type Of<'a> = &'a Aggregate;
    const ONE: &'static str = "aggregate";
    const ATTRS: &'static [Attr<Self>] = &[
        attr::<Self>("id", |_, aggregate| aggregate.id.parse::<u64>().unwrap_or_default().into()),
        attr::<Self>("uuid", |_, aggregate| (&aggregate.uuid).into()).since(2, 41),
        attr::<Self>("name", |_, aggregate| (&aggregate.name).into()),
        attr::<Self>("availability_zone", |_, aggregate| aggregate.zone().into()),
        // As in Nova, what is new has neither.
        attr::<Self>("hosts", |_, aggregate| Json::list(&aggregate.hosts)).only(Answers::ALL.but(Answers::MADE)),
        attr::<Self>("metadata", |_, aggregate| (&aggregate.metadata).into()).only(Answers::ALL.but(Answers::MADE)),
        attr::<Self>("created_at", |_, aggregate| time_micro(aggregate.created_at).into()),
        attr::<Self>("updated_at", |_, aggregate| aggregate.updated_at.map(time_micro).into()),
        attr::<Self>("deleted", |_, _| false.into()),
        attr::<Self>("deleted_at", |_, _| Json::Null),
    ];
}

fn find<'a>(snapshot: &'a Snapshot, id: &str) -> Result<Entry<'a, Aggregate>, Fault> {
    snapshot.get::<Aggregate>(id).ok_or_else(|| missing(format!("Aggregate {id} could not be found.")))
}

fn reply(call: &Call, aggregate: &Aggregate) -> Reply {
    Reply::ok(json!({"aggregate": Aggregate::shown(call, &aggregate, Answers::ONE)}))
}

/// `GET /os-aggregates`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let mut all: Vec<&Aggregate> = call.snapshot.all::<Aggregate>().map(|aggregate| aggregate.value).collect();
    all.sort_by_key(|aggregate| aggregate.id.parse::<u64>().unwrap_or_default());
    Ok(Reply::ok(
        json!({"aggregates": all.iter().map(|one| Aggregate::shown(&call, one, Answers::LIST)).collect::<Vec<_>>()}),
    ))
}

/// `GET /os-aggregates/{id}`
pub async fn get(call: Call) -> Result<Reply, Fault> {
    Ok(reply(&call, find(&call.snapshot, call.param("id"))?.value))
}

const NAME: Property<Aggregate> =
    property::<Aggregate>("name", Is::Name).put(|aggregate, value| aggregate.name = schema::text(value));
const ZONE: Property<Aggregate> = property::<Aggregate>("availability_zone", Is::Own(zone))
    .nullable()
    .put(|aggregate, value| aggregate.set_zone(schema::text_or_none(value)));

/// What `POST /os-aggregates` says.
pub const NEW: Schema<Aggregate> = Schema { name: "aggregate", properties: &[NAME.required(), ZONE] };
/// What `PUT /os-aggregates/{id}` says.
pub const CHANGE: Schema<Aggregate> = Schema { name: "aggregate", properties: &[NAME, ZONE] };

/// A colon divides a zone from a host in requests.
fn zone(_: (u16, u16), name: &str, value: &Value) -> Result<Value, Fault> {
    match body::name(name, value)? {
        zone if zone.contains(':') => Err(bad(name, value, "It is not the name of a zone")),
        zone => Ok(zone.into()),
    }
}

/// A message before the commit says it worse: names are unique, and a host is in one zone.
fn check(snapshot: &Snapshot, new: &Aggregate) -> Result<(), Fault> {
    if snapshot.find::<Aggregate>(Index::Name, &new.name).any(|other| other.id != new.id) {
        return Err(Fault::Conflict(format!("Aggregate {} already exists.", new.name)));
    }
    for host in new.hosts.iter().filter(|_| new.zone().is_some()) {
        let others = snapshot.find::<Aggregate>(Index::Host, host).filter(|other| other.id != new.id);
        if let Some(zone) = others.filter_map(|other| other.value.zone()).next() {
            return Err(Fault::Conflict(format!(
                "Cannot perform action on aggregate {}. Reason: host {host} is already in availability zone {zone}.",
                new.id
            )));
        }
    }
    Ok(())
}

/// `POST /os-aggregates`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let given = NEW.read(call.version, &body)?;
    let uuid = uuid::Uuid::new_v4().to_string();
    let made = call.cloud.store.transact(|snapshot| {
        let numbers = snapshot.all::<Aggregate>().filter_map(|one| one.id.parse::<u64>().ok());
        let mut aggregate = Aggregate {
            id: (numbers.max().unwrap_or(0) + 1).to_string(),
            uuid: uuid.clone(),
            name: String::new(),
            hosts: BTreeSet::new(),
            metadata: BTreeMap::new(),
            created_at: call.now,
            updated_at: None,
        };
        given.put(&mut aggregate);
        check(snapshot, &aggregate)?;
        let mut change = Change::from(aggregate.clone());
        Aggregate::changed(snapshot, &mut change);
        Ok((change, aggregate))
    });
    let made = made.await?;
    Ok(Reply::ok(json!({"aggregate": Aggregate::shown(&call, &&made, Answers::MADE)})))
}

/// Changes the aggregate of the path.
async fn edit(call: &Call, change: impl Fn(&Snapshot, &mut Aggregate) -> Result<(), Fault>) -> Result<Reply, Fault> {
    let edited = call.cloud.store.transact(|snapshot| {
        let entry = find(snapshot, call.param("id"))?;
        let mut aggregate = entry.value.clone();
        change(snapshot, &mut aggregate)?;
        aggregate.updated_at = Some(call.now);
        check(snapshot, &aggregate)?;
        let mut commit = Change::new();
        commit.update(entry, aggregate.clone());
        Aggregate::changed(snapshot, &mut commit);
        Ok((commit, aggregate))
    });
    Ok(reply(call, &edited.await?))
}

/// `PUT /os-aggregates/{id}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let given = CHANGE.read(call.version, &body)?;
    if !given.has("name") && !given.has("availability_zone") {
        return Err(Fault::Invalid("Invalid input for field/attribute aggregate. Value: {}. {} is too short".into()));
    }
    edit(&call, |_, aggregate| {
        given.put(aggregate);
        Ok(())
    })
    .await
}

/// `DELETE /os-aggregates/{id}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let deleted = call.cloud.store.transact(|snapshot| {
        let entry = find(snapshot, call.param("id"))?;
        if !entry.hosts.is_empty() {
            let id = &entry.id;
            return Err(Fault::Invalid(format!(
                "Cannot perform action 'delete' on aggregate {id}. Reason: Host aggregate is not empty."
            )));
        }
        let mut change = Change::new();
        change.delete(entry);
        Aggregate::changed(snapshot, &mut change);
        Ok((change, ()))
    });
    deleted.await?;
    Ok(Reply::empty(200))
}

/// `POST /os-aggregates/{id}/action`
pub async fn action(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let map = body.as_object().filter(|map| map.len() == 1);
    let Some((verb, value)) = map.and_then(|map| map.iter().next()) else {
        return Err(Fault::Invalid("Malformed request body: exactly one action must be given".into()));
    };
    let fields = Fields::new(verb, value)?;
    let host = || -> Result<String, Fault> {
        fields.only(&["host"])?;
        fields.required("host")?;
        Ok(fields.text("host", 255)?.unwrap_or_default().to_owned())
    };
    match verb.as_str() {
        "add_host" => {
            let host = host()?;
            edit(&call, |snapshot, aggregate| {
                if snapshot.get::<Host>(&host).is_none() {
                    return Err(missing(format!("Compute host {host} could not be found.")));
                }
                match aggregate.hosts.insert(host.clone()) {
                    true => Ok(()),
                    false => Err(Fault::Conflict(format!("Aggregate {} already has host {host}.", aggregate.id))),
                }
            })
            .await
        }
        "remove_host" => {
            let host = host()?;
            edit(&call, |_, aggregate| match aggregate.hosts.remove(&host) {
                true => Ok(()),
                false => Err(missing(format!("Aggregate {} has no host {host}.", aggregate.id))),
            })
            .await
        }
        "set_metadata" => set_metadata(&call, &fields).await,
        other => Err(Fault::Invalid(format!("There is no such action: {other}"))),
    }
}

/// Sets entries; one of null is taken away.
async fn set_metadata(call: &Call, fields: &Fields<'_>) -> Result<Reply, Fault> {
    fields.only(&["metadata"])?;
    let metadata = Fields::new("metadata", fields.required("metadata")?)?;
    let gone = metadata.map.iter().filter(|(_, value)| value.is_null()).map(|(key, _)| key.clone());
    let gone: Vec<String> = gone.collect();
    let kept: serde_json::Map<String, Value> =
        metadata.map.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
    let kept = texts("metadata", &Value::Object(kept))?;
    edit(call, |_, aggregate| {
        aggregate.metadata.extend(kept.clone());
        aggregate.metadata.retain(|key, _| !gone.contains(key));
        match aggregate.metadata.len() > MOST_METADATA {
            true => Err(Fault::Invalid(format!("An aggregate has at most {MOST_METADATA} entries of metadata."))),
            false => Ok(()),
        }
    })
    .await
}

/// `POST /os-aggregates/{id}/images`
pub async fn cache_images(call: Call) -> Result<Reply, Fault> {
    find(&call.snapshot, call.param("id"))?;
    Err(not_built("Caching images on the hosts of an aggregate"))
}
