//! `/trunks`: ports that carry others by tags, the ports that they carry, and what a port shows of it.

use std::collections::BTreeSet;

use gate::{Ref, View};
use model::{Fault, Kind, Network, Port, PortStatus, Resource, SubPort, Trunk, TrunkStatus, VLANS};
use serde_json::Value;

use super::attrs::{Attr, Is, NAME, field, ruled, shown, standard};
use super::body::{Attributes, is_uuid, shown_value};
use super::error::NeutronError;
use super::list::{self, Rendered};
use super::networks::NETWORK_TYPE;
use super::request::{Plan, Request};
use super::resource::{self, NeutronResource, answer, changeable, referred_own};
use super::uses;
use crate::call::{Call, Reply};
use crate::json::{Json, Named};

/// The only sort of tags that there is.
const VLAN: &str = "vlan";
/// The tag is to be that of the subport's network.
const INHERIT: &str = "inherit";

impl NeutronResource for Trunk {
    const ONE: &'static str = "trunk";
    const MANY: &'static str = "trunks";
    const ATTRS: &'static [Attr<Self>] = standard![
        field!(name: NAME),
        field!(tags),
        field!(admin_state_up: Is::Bool),
        ruled::<Self>("port_id", Is::Uuid(&[Kind::Port]), |_, trunk| (&trunk.port).into()).once().required(),
        ruled::<Self>("sub_ports", Is::Any, |_, trunk| sub_ports_json(trunk)).once(),
        shown::<Self>("status", |view, trunk| word(trunk.status(view.snapshot)).into()),
    ];

    fn create(plan: &mut Plan, request: &Request, project: String, body: &Attributes) -> Result<Self, NeutronError> {
        let wanted = match body.value("sub_ports").filter(|given| !given.is_null()) {
            None => Vec::new(),
            Some(given) => read(given).map_err(|reason| NeutronError::attribute("sub_ports", reason))?,
        };
        let parent: Port = referred_own(plan, request, &body.required_reference("port_id")?)?;
        check_unused(plan, &parent)?;
        if !parent.is_plug() {
            return Err(parent_in_use(&parent.id));
        }
        let mut trunk = body.fill(Self {
            id: uuid::Uuid::new_v4().to_string(),
            project_id: project,
            name: String::new(),
            description: String::new(),
            port: parent.key(),
            admin_state_up: true,
            sub_ports: Vec::new(),
            tags: Vec::new(),
            created_at: request.now,
            updated_at: request.now,
        });
        // As it is now, it is nobody's but what it says.
        plan.hold::<Port>(&parent.id);
        take(plan, request, &mut trunk, &wanted)?;
        Ok(trunk)
    }

    fn delete(plan: &mut Plan, request: &Request, value: Self) -> Result<(), NeutronError> {
        manageable(&value)?;
        value.sub_ports.iter().for_each(|sub| release(plan, request, sub));
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

fn sub_ports_json(trunk: &Trunk) -> Json<'_> {
    Json::list(trunk.sub_ports.iter().map(|sub| {
        Json::object([
            ("port_id", (&sub.port).into()),
            ("segmentation_type", VLAN.into()),
            ("segmentation_id", sub.vlan.into()),
        ])
    }))
}

/// What a port that is a trunk's parent shows of it.
pub fn details<'a>(view: &View<'a>, port: &'a Port) -> Json<'a> {
    let Some(trunk) = Trunk::of_parent(view.snapshot, &port.id) else { return Json::Absent };
    let one = |sub: &'a SubPort| {
        let port = view.snapshot.at::<Port>(&sub.port).map(|port| port.value);
        Json::object([
            ("port_id", (&sub.port).into()),
            ("segmentation_type", VLAN.into()),
            ("segmentation_id", sub.vlan.into()),
            ("mac_address", port.map(|port| &port.mac).into()),
        ])
    };
    let sub_ports = Json::list(trunk.value.sub_ports.iter().map(one));
    Json::object([("trunk_id", (&trunk.value.id).into()), ("sub_ports", sub_ports)])
}

/// A port of a trunk is deleted once it is none.
pub fn check_deleted(plan: &Plan, port: &Port) -> Result<(), NeutronError> {
    let Some(trunk) = Trunk::with(&plan.rows, &port.id) else { return Ok(()) };
    let (id, trunk) = (&port.id, trunk.value);
    Err(if *trunk.port.name == **id {
        let message = format!("Port {id} is currently a parent port for trunk {}.", trunk.id);
        NeutronError::conflict("PortInUseAsTrunkParent", message)
    } else {
        NeutronError::conflict(
            "PortInUseAsSubPort",
            format!("Port {id} is currently a subport for trunk {}.", trunk.id),
        )
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
fn vlan(wanted: &Wanted) -> Result<u16, NeutronError> {
    let (kind, number) = match (wanted.kind.as_deref(), &wanted.number) {
        // Networks here have no tags that could be had.
        (Some(INHERIT), _) => (NETWORK_TYPE, &Value::Null),
        (Some(kind), Some(number)) => (kind, number),
        _ => return Err(NeutronError::invalid(missing(&wanted.shown))),
    };
    if kind != VLAN {
        return Err(NeutronError::invalid(format!("Unknown segmentation_type '{kind}'")));
    }
    let shown = shown_value(number);
    let number = number.as_i64().or_else(|| number.as_str().and_then(|text| text.trim().parse().ok()));
    let number = number.ok_or_else(|| {
        NeutronError::invalid(format!("Invalid subport details: segmentation_id '{shown}' is not an integer"))
    })?;
    let fits = u16::try_from(number).ok().filter(|vlan| VLANS.contains(vlan));
    fits.ok_or_else(|| NeutronError::invalid(format!("Segmentation ID '{number}' is not in range")))
}

fn parent_in_use(id: &str) -> NeutronError {
    let message = format!("Port {id} is currently in use and is not eligible for use as a parent port.");
    NeutronError::conflict("ParentPortInUse", message)
}

/// The port takes part in no trunk; the claims of trunks say so too.
fn check_unused(plan: &Plan, port: &Port) -> Result<(), NeutronError> {
    match Trunk::with(&plan.rows, &port.id) {
        None => Ok(()),
        Some(trunk) if *trunk.value.port.name == *port.id => Err(parent_in_use(&port.id)),
        Some(_) => {
            Err(NeutronError::conflict("TrunkPortInUse", format!("Port {} is in use by another trunk.", port.id)))
        }
    }
}

/// A trunk that is switched off is left as it is.
fn manageable(trunk: &Trunk) -> Result<(), NeutronError> {
    match trunk.admin_state_up {
        true => Ok(()),
        false => Err(NeutronError::conflict("TrunkDisabled", format!("Trunk {} is currently disabled.", trunk.id))),
    }
}

fn mtu(plan: &Plan, port: &Port) -> Result<u32, NeutronError> {
    plan.need::<Network>(&port.network_id).map(|network| network.mtu)
}

/// Adds subports, each of which becomes the trunk's.
fn take(plan: &mut Plan, request: &Request, trunk: &mut Trunk, wanted: &[Wanted]) -> Result<(), NeutronError> {
    let parent: Port = plan.need(&trunk.port.name)?;
    let most = mtu(plan, &parent)?;
    let mut tags: BTreeSet<u16> = trunk.sub_ports.iter().map(|sub| sub.vlan).collect();
    for one in wanted {
        if one.port.is(&parent.id) {
            return Err(parent_in_use(&parent.id));
        }
        let mut port: Port = referred_own(plan, request, &one.port)?;
        let own = mtu(plan, &port)?;
        if own > most {
            return Err(NeutronError::conflict(
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
            return Err(uses::in_use(&port));
        }
        if !tags.insert(vlan) {
            return Err(NeutronError::conflict(
                "DuplicateSubPort",
                format!("segmentation_type {VLAN} and segmentation_id {vlan} already in use on trunk {}.", trunk.id),
            ));
        }
        trunk.sub_ports.push(SubPort { port: port.key(), vlan });
        port.hold(trunk.as_holder());
        port.host.clone_from(&parent.host);
        port.status = PortStatus::Down;
        port.updated_at = request.now;
        plan.put(port);
    }
    Ok(())
}

/// A port that is no longer a subport is nobody's.
fn release(plan: &mut Plan, request: &Request, sub: &SubPort) {
    let Some(mut port) = plan.get::<Port>(&sub.port.name) else { return };
    port.holder = None;
    port.host = None;
    port.status = PortStatus::Down;
    port.updated_at = request.now;
    plan.put(port);
}

/// `GET /trunks/{id}/get_subports`
pub async fn subports(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let view = View::new(&request.snapshot, &request.who);
        let trunk = resource::get::<Trunk>(&view, request.param("id"))?;
        Ok(Reply::ok(Named("sub_ports", sub_ports_json(trunk.value))))
    })
    .await
}

/// `PUT /trunks/{id}/add_subports`
pub async fn add(call: Call) -> Result<Reply, Fault> {
    change(call, "add_subports", |plan, request, trunk, wanted| {
        // A trunk that cannot be made gets no more to be made.
        let before = trunk.status(&plan.rows);
        take(plan, request, trunk, wanted)?;
        match before {
            TrunkStatus::Error => {
                let message = "is in error state. Attempt to resolve the error condition before proceeding.";
                Err(NeutronError::conflict("TrunkInErrorState", format!("Trunk {} {message}", trunk.id)))
            }
            _ => Ok(()),
        }
    })
    .await
}

/// `PUT /trunks/{id}/remove_subports`
pub async fn remove(call: Call) -> Result<Reply, Fault> {
    change(call, "remove_subports", |plan, request, trunk, wanted| {
        for one in wanted {
            let at = trunk.sub_ports.iter().position(|sub| one.port.is(&sub.port.name)).ok_or_else(|| {
                let (trunk, port) = (&trunk.id, one.port.named());
                let message = format!("SubPort on trunk {trunk} with parent port {port} could not be found.");
                NeutronError::missing("SubPortNotFound", message)
            })?;
            let sub = trunk.sub_ports.remove(at);
            release(plan, request, &sub);
        }
        Ok(())
    })
    .await
}

/// Changes a trunk by the subports in the body, which are shown as the trunk itself.
async fn change(
    call: Call,
    verb: &str,
    edit: impl Fn(&mut Plan, &Request, &mut Trunk, &[Wanted]) -> Result<(), NeutronError> + Send + Sync,
) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, true).await?;
        let id = request.param("id").to_owned();
        request
            .commit(|plan| {
                let mut trunk = changeable::<Trunk>(plan, &request, &id, verb)?;
                manageable(&trunk)?;
                let wanted = read(&request.body["sub_ports"]).map_err(NeutronError::invalid)?;
                edit(plan, &request, &mut trunk, &wanted)?;
                trunk.updated_at = request.now;
                plan.put(trunk);
                Ok(())
            })
            .await?;
        let rows = request.store.snapshot();
        let view = View::new(&rows, &request.who);
        let attrs = list::visible(Trunk::ATTRS, request.who.is_admin());
        Ok(Reply::ok(Rendered { view: &view, attrs: &attrs, item: resource::get::<Trunk>(&view, &id)?.into() }))
    })
    .await
}
