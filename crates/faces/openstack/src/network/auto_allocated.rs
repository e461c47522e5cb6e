//! `/auto-allocated-topology`: the network of a project that has none of its own yet, with subnets from the default pools
//! and a router to the default external network. "Get me a network" of `openstack server create --network auto`.
//!
//! All of it is one commit, so that nobody sees half of it, and of several requests at once one makes it. Refused: a row
//! that says which network it is, which would outlive it; the network says so itself.

use gate::Ref;
use model::{Fault, Network, RbacAction, RbacPolicy, Realm, Resource, Router, Snapshot, Subnet, SubnetPool};
use serde_json::{Value, json};

use super::body::Attributes;
use super::error::NeutronError;
use super::request::{Plan, Request};
use super::resource::{NeutronResource, answer};
use super::{interfaces, routers, sharing, subnetpools};
use crate::call::{Call, Reply};

/// `GET /auto-allocated-topology/{project}`: makes it if it is not there. With `fields=dry-run` it is only asked whether
/// that would go.
pub async fn show(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let project = whose(&request)?;
        let id = if request.queries("fields").any(|field| field == "dry-run") {
            defaults(&request.snapshot)?;
            "dry-run=pass".to_owned()
        } else {
            allocate(&request, &project).await?
        };
        let topology = json!({"id": id, "tenant_id": project, "project_id": project});
        Ok(Reply::ok(json!({"auto_allocated_topology": topology})))
    })
    .await
}

/// `DELETE /auto-allocated-topology/{project}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let project = whose(&request)?;
        request.commit(|plan| remove(plan, &request, &project)).await?;
        Ok(Reply::empty(204))
    })
    .await
}

/// The network of the caller's project, made if it is not there: for Nova.
pub async fn ensure(call: &Call) -> Result<(), Fault> {
    let request = Request::of(call)?;
    let project = request.who.project()?.to_owned();
    allocate(&request, &project).await.map(drop).map_err(NeutronError::into_fault)
}

/// The project of the path; another than the caller's own is an administrator's to ask for.
fn whose(request: &Request) -> Result<String, NeutronError> {
    let own = request.who.project_id();
    match request.param("project") {
        "None" | "null" => own.map(str::to_owned).ok_or_else(|| NeutronError::forbidden("Not authorized.")),
        asked if own == Some(asked) => Ok(asked.to_owned()),
        asked if request.who.is_admin() => {
            let project = request.snapshot.get::<model::Project>(asked).map(|project| project.id.clone());
            project.ok_or_else(|| NeutronError::missing("NotFound", format!("Project {asked} could not be found.")))
        }
        _ => Err(NeutronError::forbidden("Not authorized.")),
    }
}

fn failure(why: &str) -> NeutronError {
    NeutronError::conflict("AutoAllocationFailure", format!("Deployment error: {why}"))
}

/// The external network and the pools of which a topology is made.
fn defaults(rows: &Snapshot) -> Result<(String, Vec<SubnetPool>), NeutronError> {
    let for_all = |key: &model::Key, action| RbacPolicy::is_for_all(rows, key, action);
    let out = rows.all::<Network>().find(|network| network.is_default && network.external);
    let out = out.filter(|network| for_all(&network.row.key, RbacAction::External));
    let out = out.ok_or_else(|| failure("No default router:external network."))?;
    let pools = rows.all::<SubnetPool>().filter(|pool| pool.is_default && for_all(&pool.row.key, RbacAction::Shared));
    let pools: Vec<SubnetPool> = pools.map(|pool| pool.value.clone()).collect();
    if pools.is_empty() { Err(failure("No default subnetpools defined.")) } else { Ok((out.id.clone(), pools)) }
}

fn existing(rows: &Snapshot, project: &str) -> Option<Network> {
    let mut own = rows.within::<Network>(&Realm::project(project));
    own.find(|network| network.auto_allocated).map(|network| network.value.clone())
}

async fn allocate(request: &Request, project: &str) -> Result<String, NeutronError> {
    if let Some(network) = existing(&request.snapshot, project) {
        return Ok(network.id);
    }
    if !(request.who.is_admin() || request.who.is_member()) {
        return Err(NeutronError::policy("rule:get_auto_allocated_topology"));
    }
    let made = request.commit(|plan| match existing(&plan.rows, project) {
        Some(network) => Ok(network.id),
        None => make(plan, request, project),
    });
    made.await
}

fn make(plan: &mut Plan, request: &Request, project: &str) -> Result<String, NeutronError> {
    let (out, pools) = defaults(&plan.rows)?;
    let mut network: Network = create(plan, request, project, &json!({"name": "auto_allocated_network"}))?;
    network.auto_allocated = true;
    plan.put(network.clone());
    let gateway = json!({"name": "auto_allocated_router", "external_gateway_info": {"network_id": out}});
    let router: Router = create(plan, request, project, &gateway)?;
    for pool in pools {
        let version = subnetpools::pool_version(&pool);
        let mut body = json!({"network_id": network.id, "name": format!("auto_allocated_subnet_v{version}"),
            "ip_version": version, "subnetpool_id": pool.id});
        if version == 6 {
            body["ipv6_ra_mode"] = json!("slaac");
            body["ipv6_address_mode"] = json!("slaac");
        }
        let subnet: Subnet = create(plan, request, project, &body)?;
        interfaces::add_by_subnet(plan, request, &router, &Ref::sent(&subnet.id))?;
    }
    Ok(network.id)
}

/// As a request for it would do.
fn create<T: NeutronResource>(
    plan: &mut Plan,
    request: &Request,
    project: &str,
    given: &Value,
) -> Result<T, NeutronError> {
    let body = Attributes::post(T::ATTRS, T::ONE, given, request.who.is_admin())?;
    let value = T::create(plan, request, project.to_owned(), &body)?;
    plan.put(value.clone());
    Ok(value)
}

fn remove(plan: &mut Plan, request: &Request, project: &str) -> Result<(), NeutronError> {
    let Some(network) = existing(&plan.rows, project) else {
        let message = format!("The project {project} has no auto-allocated topology.");
        return Err(NeutronError::missing("AutoAllocatedTopologyNotFound", message));
    };
    let own = plan.rows.within::<Router>(&Realm::project(project)).map(|router| router.value.clone());
    let joins = |router: &Router| routers::interfaces(plan, router).iter().any(|port| port.network_id == network.id);
    let routers: Vec<Router> = own.filter(joins).collect();
    for router in routers {
        for port in routers::interfaces(plan, &router).into_iter().filter(|port| port.network_id == network.id) {
            for fixed in &port.fixed_ips {
                interfaces::check_unneeded(plan, &router, &fixed.subnet_id)?;
            }
            plan.remove(&port.key());
        }
        // One that somebody led on to other networks stays.
        if routers::interfaces(plan, &router).is_empty() {
            gone(plan, request, router)?;
        } else {
            plan.put(Router { updated_at: request.now, ..router });
        }
    }
    gone(plan, request, network)
}

fn gone<T: NeutronResource>(plan: &mut Plan, request: &Request, value: T) -> Result<(), NeutronError> {
    let key = value.key();
    T::delete(plan, request, value)?;
    sharing::remove_about(plan, &key);
    plan.remove(&key);
    Ok(())
}
