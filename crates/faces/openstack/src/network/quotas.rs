//! `/quotas`: Neutron's view of a project's limits. Nova's view is of the same row.

use super::body::{boolean, shown_value};
use super::error::NeutronError;
use super::request::Request;
use super::resource::answer;
use model::{Fault, Limited, Project, Quota};
use serde_json::{Map, Value, json};

use crate::call::{Call, Reply};
use crate::limits::{self, number, used};

fn resources() -> impl Iterator<Item = &'static Limited> {
    limits::shown_by(&super::SERVICE)
}

fn shown(quota: &Quota) -> Map<String, Value> {
    resources().map(|resource| (resource.name.to_owned(), json!(number(quota.limit(resource))))).collect()
}

fn of(request: &Request, project: &str) -> Quota {
    request.snapshot.get::<Quota>(project).map_or_else(|| Quota::new(project), |quota| quota.value.clone())
}

/// The project in the path, if the caller may look at its limits.
fn project(request: &Request) -> Result<String, NeutronError> {
    let id = request.param("project").to_owned();
    if request.who.is_admin() || request.who.project_id() == Some(&id) {
        return Ok(id);
    }
    Err(NeutronError::policy("rule:get_quota"))
}

/// `GET /quotas`: the projects whose limits are not the default.
pub async fn list(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let changed = |quota: &Quota| resources().any(|r| quota.limits.contains_key(r.name));
        let quotas = request.snapshot.all::<Quota>().filter(|quota| changed(quota.value)).map(|quota| {
            let mut shown = shown(quota.value);
            shown.insert("project_id".into(), json!(quota.value.project_id));
            shown.insert("tenant_id".into(), json!(quota.value.project_id));
            shown
        });
        Ok(Reply::ok(json!({"quotas": quotas.collect::<Vec<_>>()})))
    })
    .await
}

/// `GET /quotas/{project}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let project = project(&request)?;
        Ok(Reply::ok(json!({"quota": shown(&of(&request, &project))})))
    })
    .await
}

/// `GET /quotas/{project}/default`
pub async fn default(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let project = project(&request)?;
        Ok(Reply::ok(json!({"quota": shown(&Quota::new(project))})))
    })
    .await
}

/// `GET /quotas/{project}/details`
pub async fn details(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let project = project(&request)?;
        let quota = of(&request, &project);
        let shown: Map<String, Value> = resources()
            .map(|resource| {
                let used = used(&request.store, &project, resource);
                let limit = number(quota.limit(resource));
                (resource.name.to_owned(), json!({"limit": limit, "used": used, "reserved": 0}))
            })
            .collect();
        Ok(Reply::ok(json!({"quota": shown})))
    })
    .await
}

/// `GET /quotas/tenant` and `/quotas/project`: whose limits the caller sees.
pub async fn whose(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let project = request.who.project()?;
        Ok(Reply::ok(json!({"tenant": {"tenant_id": project, "project_id": project}})))
    })
    .await
}

/// `PUT /quotas/{project}`
pub async fn update(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, true).await?;
        let project = request.param("project").to_owned();
        let given = request.body.get("quota").and_then(Value::as_object);
        let given = given.ok_or_else(|| NeutronError::http_bad("Unable to find 'quota' in request body"))?;
        let mut new = Vec::with_capacity(given.len());
        // The stock client sends one of them with every change.
        let mut checks = [("check_limit", false), ("force", false)];
        for (name, value) in given {
            if matches!(name.as_str(), "tenant_id" | "project_id") {
                continue;
            }
            if let Some(check) = checks.iter_mut().find(|check| check.0 == name) {
                check.1 = boolean(value).ok_or_else(|| {
                    NeutronError::attribute(name, format!("'{}' is not a boolean.", shown_value(value)))
                })?;
                continue;
            }
            let known = resources().find(|resource| resource.name == name);
            let resource =
                known.ok_or_else(|| NeutronError::http_bad(format!("Unrecognized attribute(s) '{name}'")))?;
            let limit = value.as_i64().or_else(|| value.as_str().and_then(|t| t.parse().ok()));
            let limit = limit.filter(|n| (-1..=i64::from(i32::MAX)).contains(n)).ok_or_else(|| {
                NeutronError::attribute(name, format!("'{}' is not in -1 to 2147483647.", shown_value(value)))
            })?;
            new.push((resource.name.to_owned(), u64::try_from(limit).ok()));
        }
        if checks[0].1 && !checks[1].1 {
            for resource in resources() {
                let Some((name, Some(limit))) = new.iter().find(|(name, _)| name == resource.name) else { continue };
                let used = used(&request.store, &project, resource);
                if *limit < used {
                    let message = format!("Quota limit {limit} for {name} is below the {used} in use");
                    return Err(NeutronError::invalid(message));
                }
            }
        }
        let shown = request
            .commit(|plan| {
                known_project(plan, &project)?;
                let mut quota: Quota = plan.get(&project).unwrap_or_else(|| Quota::new(&project));
                quota.limits.extend(new.iter().cloned());
                let shown = shown(&quota);
                plan.put(quota);
                Ok(shown)
            })
            .await?;
        Ok(Reply::ok(json!({"quota": shown})))
    })
    .await
}

fn known_project(plan: &super::request::Plan, project: &str) -> Result<(), NeutronError> {
    if plan.rows.get::<Project>(project).is_some() {
        return Ok(());
    }
    Err(NeutronError::missing("TenantQuotaNotFound", format!("Quota for project {project} could not be found.")))
}

/// `DELETE /quotas/{project}`: back to the default.
pub async fn reset(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let project = request.param("project").to_owned();
        request
            .commit(|plan| {
                let changed = |quota: &Quota| resources().any(|r| quota.limits.contains_key(r.name));
                let Some(mut quota) = plan.get::<Quota>(&project).filter(changed) else {
                    let message = format!("Quota for project {project} could not be found.");
                    return Err(NeutronError::missing("TenantQuotaNotFound", message));
                };
                quota.limits.retain(|name, _| resources().all(|resource| resource.name != name));
                plan.put::<Quota>(quota);
                Ok(())
            })
            .await?;
        Ok(Reply::empty(204))
    })
    .await
}
