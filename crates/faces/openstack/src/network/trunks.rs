//! `/trunks`: ports that carry others by tags, the ports that they carry, and what a port shows of it.

use std::collections::BTreeSet;

use gate::Ref;
use model::{Fault, Holder, Network, Port, PortStatus, Resource, SubPort, Trunk, TrunkStatus, VLANS};
use serde_json::{Map, Value, json};

use super::ask::{Ask, Plan};
use super::attrs::{self, Attr, Body, DESCRIPTION, Is, NAME, free, is_uuid, shown_value};
use super::noun::{self, Look, Noun, answer, changeable, referred_own, standard};
use super::ports;
use super::trouble::Trouble;
use crate::call::{Call, Reply};

const ATTRS: &[Attr] = &[
    attrs::shown("id"),
    free("name", NAME),
    free("description", DESCRIPTION),
    free("admin_state_up", Is::Bool),
    free("port_id", Is::Uuid).once().required(),
    free("sub_ports", Is::Any).once(),
    attrs::shown("status"),
];

/// The only sort of tags that there is.
const VLAN: &str = "vlan";
/// The tag is to be that of the subport's network.
const INHERIT: &str = "inherit";
/// Of what networks here are.
const NETWORK_TYPE: &str = "vxlan";

impl Noun for Trunk {
    const ONE: &'static str = "trunk";
    const MANY: &'static str = "trunks";

    fn attrs() -> &'static [Attr] {
        ATTRS
    }

    fn show(look: &Look<'_>, value: &Self, into: &mut Map<String, Value>) {
        into.insert("admin_state_up".into(), json!(value.admin_state_up));
        into.insert("port_id".into(), json!(&*value.port.name));
        into.insert("status".into(), json!(word(value.status(look.rows))));
        into.insert("sub_ports".into(), json!(value.sub_ports.iter().map(show_one).collect::<Vec<_>>()));
    }

    standard!();

    fn create(plan: &mut Plan, ask: &Ask, project: String, body: &Body) -> Result<Self, Trouble> {
        let wanted = match body.value("sub_ports").filter(|given| !given.is_null()) {
            None => Vec::new(),
            Some(given) => read(given).map_err(|reason| Trouble::attribute("sub_ports", reason))?,
        };
        let parent: Port = referred_own(plan, ask, &body.required_reference("port_id")?)?;
        check_unused(plan, &parent)?;
        if !parent.is_plug() {
            return Err(parent_in_use(&parent.id));
        }
        let mut trunk = Self {
            id: uuid::Uuid::new_v4().to_string(),
            project_id: project,
            name: body.text("name").unwrap_or_default(),
            description: body.text("description").unwrap_or_default(),
            port: parent.key(),
            admin_state_up: body.bool("admin_state_up").unwrap_or(true),
            sub_ports: Vec::new(),
            tags: Vec::new(),
            created_at: ask.now,
            updated_at: ask.now,
        };
        // As it is now, it is nobody's but what it says.
        plan.hold::<Port>(&parent.id);
        take(plan, ask, &mut trunk, &wanted)?;
        Ok(trunk)
    }

    fn update(_plan: &mut Plan, _ask: &Ask, value: &mut Self, body: &Body) -> Result<(), Trouble> {
        body.set_text("name", &mut value.name);
        body.set_text("description", &mut value.description);
        body.set_bool("admin_state_up", &mut value.admin_state_up);
        Ok(())
    }

    fn delete(plan: &mut Plan, ask: &Ask, value: Self) -> Result<(), Trouble> {
        manageable(&value)?;
        value.sub_ports.iter().for_each(|sub| release(plan, ask, sub));
        Ok(())
    }
}

fn word(status: TrunkStatus) -> &'static str {
    match status {
        TrunkStatus::Down => "DOWN",
        TrunkStatus::Build => "BUILD",
        TrunkStatus::Active => "ACTIVE",
        TrunkStatus::Degraded => "DEGRADED",
        TrunkStatus::Error => "ERROR",
    }
}

fn show_one(sub: &SubPort) -> Value {
    json!({"port_id": &*sub.port.name, "segmentation_type": VLAN, "segmentation_id": sub.vlan})
}

/// What a port that is a trunk's parent shows of it.
pub fn show_details(look: &Look<'_>, port: &Port, into: &mut Map<String, Value>) {
    let Some(trunk) = Trunk::of_parent(look.rows, &port.id) else { return };
    let one = |sub: &SubPort| {
        let mut shown = show_one(sub);
        shown["mac_address"] = json!(look.rows.at::<Port>(&sub.port).map(|port| &port.value.mac));
        shown
    };
    let sub_ports: Vec<Value> = trunk.value.sub_ports.iter().map(one).collect();
    into.insert("trunk_details".into(), json!({"trunk_id": trunk.value.id, "sub_ports": sub_ports}));
}

/// A port of a trunk is deleted once it is none.
pub fn check_deleted(plan: &Plan, port: &Port) -> Result<(), Trouble> {
    let Some(trunk) = Trunk::with(&plan.rows, &port.id) else { return Ok(()) };
    let (id, trunk) = (&port.id, trunk.value);
    Err(if *trunk.port.name == **id {
        let message = format!("Port {id} is currently a parent port for trunk {}.", trunk.id);
        Trouble::conflict("PortInUseAsTrunkParent", message)
    } else {
        Trouble::conflict("PortInUseAsSubPort", format!("Port {id} is currently a subport for trunk {}.", trunk.id))
    })
}

/// A subport as a request has it.
struct Wanted {
    port: Ref<Port>,
    /// Sort and number of the tag, as far as they were given.
    kind: Option<String>,
    number: Option<Value>,
    /// As it was sent, for messages.
    shown: String,
}

/// Reads a list of subports, or says what is wrong with it. What a tag may be is looked at later.
fn read(given: &Value) -> Result<Vec<Wanted>, String> {
    let list = given.as_array();
    let list =
        list.ok_or_else(|| format!("Invalid data format for subports: '{}' is not a list", shown_value(given)))?;
    if list.len() > usize::from(*VLANS.end()) {
        return Err(format!("a trunk has at most {} subports", VLANS.end()));
    }
    let (mut wanted, mut ids, mut tags) = (Vec::with_capacity(list.len()), BTreeSet::new(), BTreeSet::new());
    for item in list {
        let shown = shown_value(item);
        let fields =
            item.as_object().ok_or_else(|| format!("Invalid data format for subport: '{shown}' is not a dict"))?;
        let id = fields.get("port_id").ok_or("A valid port UUID must be specified")?;
        let id = id.as_str().filter(|id| is_uuid(id));
        let id = id.ok_or_else(|| format!("Invalid UUID for subport: '{}'", shown_value(&item["port_id"])))?;
        if !ids.insert(id) {
            return Err(format!("Non unique UUID for subport: '{id}'"));
        }
        let known = ["port_id", "segmentation_type", "segmentation_id"];
        if let Some(stranger) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("Unrecognized attribute(s) '{stranger}' of a subport"));
        }
        let kind = item["segmentation_type"].as_str().map(str::to_owned);
        let number = Some(item["segmentation_id"].clone()).filter(|number| !number.is_null());
        if kind.as_deref() != Some(INHERIT) {
            if (kind.is_none() || number.is_none()) && fields.len() > 1 {
                return Err(missing(&shown));
            }
            if let Some(number) = &number
                && !tags.insert((kind.clone(), shown_value(number)))
            {
                return Err(format!("Segmentation ID '{}' for '{id}' is not unique", shown_value(number)));
            }
        }
        wanted.push(Wanted { port: Ref::sent(id), kind, number, shown });
    }
    Ok(wanted)
}

fn missing(shown: &str) -> String {
    format!(
        "Invalid subport details '{shown}': missing segmentation information. Must specify both segmentation_id and segmentation_type"
    )
}

/// The tag that a subport is to have.
fn vlan(wanted: &Wanted) -> Result<u16, Trouble> {
    let (kind, number) = match (wanted.kind.as_deref(), &wanted.number) {
        // Networks here have no tags that could be had.
        (Some(INHERIT), _) => (NETWORK_TYPE, &Value::Null),
        (Some(kind), Some(number)) => (kind, number),
        _ => return Err(Trouble::invalid(missing(&wanted.shown))),
    };
    if kind != VLAN {
        return Err(Trouble::invalid(format!("Unknown segmentation_type '{kind}'")));
    }
    let shown = shown_value(number);
    let number = number.as_i64().or_else(|| number.as_str().and_then(|text| text.trim().parse().ok()));
    let number = number.ok_or_else(|| {
        Trouble::invalid(format!("Invalid subport details: segmentation_id '{shown}' is not an integer"))
    })?;
    let fits = u16::try_from(number).ok().filter(|vlan| VLANS.contains(vlan));
    fits.ok_or_else(|| Trouble::invalid(format!("Segmentation ID '{number}' is not in range")))
}

fn parent_in_use(id: &str) -> Trouble {
    let message = format!("Port {id} is currently in use and is not eligible for use as a parent port.");
    Trouble::conflict("ParentPortInUse", message)
}

/// The port takes part in no trunk; the claims of trunks say so too.
fn check_unused(plan: &Plan, port: &Port) -> Result<(), Trouble> {
    match Trunk::with(&plan.rows, &port.id) {
        None => Ok(()),
        Some(trunk) if *trunk.value.port.name == *port.id => Err(parent_in_use(&port.id)),
        Some(_) => Err(Trouble::conflict("TrunkPortInUse", format!("Port {} is in use by another trunk.", port.id))),
    }
}

/// A trunk that is switched off is left as it is.
fn manageable(trunk: &Trunk) -> Result<(), Trouble> {
    match trunk.admin_state_up {
        true => Ok(()),
        false => Err(Trouble::conflict("TrunkDisabled", format!("Trunk {} is currently disabled.", trunk.id))),
    }
}

fn mtu(plan: &Plan, port: &Port) -> Result<u32, Trouble> {
    plan.need::<Network>(&port.network_id).map(|network| network.mtu)
}

/// Adds subports, each of which becomes the trunk's.
fn take(plan: &mut Plan, ask: &Ask, trunk: &mut Trunk, wanted: &[Wanted]) -> Result<(), Trouble> {
    let parent: Port = plan.need(&trunk.port.name)?;
    let most = mtu(plan, &parent)?;
    let mut tags: BTreeSet<u16> = trunk.sub_ports.iter().map(|sub| sub.vlan).collect();
    for one in wanted {
        if one.port.is(&parent.id) {
            return Err(parent_in_use(&parent.id));
        }
        let mut port: Port = referred_own(plan, ask, &one.port)?;
        let own = mtu(plan, &port)?;
        if own > most {
            return Err(Trouble::conflict(
                "SubPortMtuGreaterThanTrunkPortMtu",
                format!(
                    "MTU {own} of subport {} cannot be greater than MTU {most} of trunk {}.",
                    port.id, trunk.port.name
                ),
            ));
        }
        let vlan = vlan(one)?;
        check_unused(plan, &port)?;
        // A text that a user wrote says no more than that the user means the port for something.
        if !port.is_free() || !port.device_id().is_empty() {
            return Err(ports::in_use(&port));
        }
        if !tags.insert(vlan) {
            return Err(Trouble::conflict(
                "DuplicateSubPort",
                format!("segmentation_type {VLAN} and segmentation_id {vlan} already in use on trunk {}.", trunk.id),
            ));
        }
        trunk.sub_ports.push(SubPort { port: port.key(), vlan });
        port.hold(Holder::trunk(trunk));
        port.host.clone_from(&parent.host);
        port.status = PortStatus::Down;
        port.updated_at = ask.now;
        plan.put(port);
    }
    Ok(())
}

/// A port that is no longer a subport is nobody's.
fn release(plan: &mut Plan, ask: &Ask, sub: &SubPort) {
    let Some(mut port) = plan.get::<Port>(&sub.port.name) else { return };
    port.holder = None;
    port.host = None;
    port.status = PortStatus::Down;
    port.updated_at = ask.now;
    plan.put(port);
}

/// `GET /trunks/{id}/get_subports`
pub async fn subports(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let ask = Ask::read(call, false).await?;
        let look = Look { rows: &ask.snapshot, who: &ask.who };
        let trunk = look.get::<Trunk>(ask.param("id"))?;
        let shown: Vec<Value> = trunk.value.sub_ports.iter().map(show_one).collect();
        Ok(Reply::ok(json!({"sub_ports": shown})))
    })
    .await
}

/// `PUT /trunks/{id}/add_subports`
pub async fn add(call: Call) -> Result<Reply, Fault> {
    change(call, "add_subports", |plan, ask, trunk, wanted| {
        // A trunk that cannot be made gets no more to be made.
        let before = trunk.status(&plan.rows);
        take(plan, ask, trunk, wanted)?;
        match before {
            TrunkStatus::Error => {
                let message = "is in error state. Attempt to resolve the error condition before proceeding.";
                Err(Trouble::conflict("TrunkInErrorState", format!("Trunk {} {message}", trunk.id)))
            }
            _ => Ok(()),
        }
    })
    .await
}

/// `PUT /trunks/{id}/remove_subports`
pub async fn remove(call: Call) -> Result<Reply, Fault> {
    change(call, "remove_subports", |plan, ask, trunk, wanted| {
        for one in wanted {
            let at = trunk.sub_ports.iter().position(|sub| one.port.is(&sub.port.name)).ok_or_else(|| {
                let (trunk, port) = (&trunk.id, one.port.named());
                let message = format!("SubPort on trunk {trunk} with parent port {port} could not be found.");
                Trouble::missing("SubPortNotFound", message)
            })?;
            let sub = trunk.sub_ports.remove(at);
            release(plan, ask, &sub);
        }
        Ok(())
    })
    .await
}

/// Changes a trunk by the subports in the body, which are shown as the trunk itself.
async fn change(
    call: Call,
    verb: &str,
    edit: impl Fn(&mut Plan, &Ask, &mut Trunk, &[Wanted]) -> Result<(), Trouble> + Send + Sync,
) -> Result<Reply, Fault> {
    answer(async {
        let ask = Ask::read(call, true).await?;
        let id = ask.param("id").to_owned();
        ask.commit(|plan| {
            let mut trunk = changeable::<Trunk>(plan, &ask, &id, verb)?;
            manageable(&trunk)?;
            let wanted = read(&ask.body["sub_ports"]).map_err(Trouble::invalid)?;
            edit(plan, &ask, &mut trunk, &wanted)?;
            trunk.updated_at = ask.now;
            plan.put(trunk);
            Ok(())
        })
        .await?;
        let rows = ask.store.snapshot();
        let look = Look { rows: &rows, who: &ask.who };
        Ok(Reply::ok(Value::Object(noun::render(&look, look.get::<Trunk>(&id)?))))
    })
    .await
}
