//! A pod's volumes as folders of this host: `emptyDir`, and files from ConfigMaps, Secrets, the downward API and service
//! account tokens. `hostPath` is refused: it would hand the host to whoever may create a pod.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, Volume};
use model::Fault;

use super::context::Context;
use super::files::{self, File};
use super::{env, parts};
use crate::Agent;

/// Where all is that the host keeps for a pod.
pub(crate) fn folder(agent: &Agent, uid: &str) -> PathBuf {
    agent.config().dir.join("pods").join(uid)
}

/// Makes what is missing of a pod's volumes, brings files up to date, and says where each volume lies.
pub async fn ensure(context: &Context<'_>) -> Result<BTreeMap<String, PathBuf>, Fault> {
    let (agent, row, pod) = (context.agent, context.row(), context.pod);
    let mut volumes = BTreeMap::new();
    let security = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let group = security.and_then(|s| s.fs_group).and_then(|group| u32::try_from(group).ok());
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let path = folder(agent, row.uid()).join("volumes").join(&volume.name);
        let wrong = |why: Fault| match why {
            Fault::Invalid(why) => Fault::invalid(format!("volume {:?}: {why}", volume.name)),
            other => other,
        };
        match files(context, volume).await.map_err(wrong)? {
            // It is the pod's from the first moment on: never touched again, for its names may lead anywhere then.
            None if path.exists() && (in_memory(pod, volume).is_none() || parts::is_mounted(&path)) => {}
            None => {
                make_folder(&path, 0o777)?;
                if let Some(size) = in_memory(pod, volume) {
                    parts::memory(&path, size)?;
                }
                if let Some(group) = group {
                    chown(&path, None, Some(group)).map_err(|e| failed("giving to the group", &path, &e))?;
                    make_folder(&path, 0o2777)?;
                }
            }
            Some(files) => {
                files::write(&path, &files, group)?;
            }
        }
        volumes.insert(volume.name.clone(), path);
    }
    Ok(volumes)
}

/// The size of a volume that lies in memory: its limit, or all that the pod's containers may have; 0: what the kernel thinks
/// good. `None`: it lies on the disk.
pub(crate) fn in_memory(pod: &Pod, volume: &Volume) -> Option<u64> {
    let source = volume.empty_dir.as_ref().filter(|source| source.medium.as_deref() == Some("Memory"))?;
    let limit = source.size_limit.as_ref().and_then(|limit| model::quantity_bytes(&limit.0)).filter(|limit| *limit > 0);
    let of_containers = || {
        let containers = pod.spec.iter().flat_map(|s| &s.containers);
        let limits = containers.map(|c| {
            let limits = c.resources.as_ref().and_then(|r| r.limits.as_ref());
            limits.and_then(|limits| limits.get("memory")).and_then(|q| model::quantity_bytes(&q.0))
        });
        limits.into_iter().try_fold(0u64, |sum, limit| limit.map(|bytes| sum.saturating_add(bytes)))
    };
    Some(limit.or_else(of_containers).unwrap_or(0))
}

/// Puts all volumes of a pod aside but those in memory; whether there were any.
pub fn put_aside(agent: &Agent, uid: &str, to: &Path) -> Result<bool, Fault> {
    let path = folder(agent, uid);
    parts::release(&path).map_err(|e| failed("releasing", &path, &e))?;
    match std::fs::rename(&path, to) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true).map_err(|e| failed("putting aside", &path, &e)),
    }
}

/// Makes what was put aside the pod's volumes again, in the place of those that it has.
pub async fn give_back(agent: &Agent, uid: &str, from: &Path) -> Result<(), Fault> {
    remove(agent, uid).await?;
    let path = folder(agent, uid);
    let move_there = || {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::rename(from, &path)
    };
    move_there().map_err(|e| failed("giving back", &path, &e))
}

/// Removes all volumes of a pod.
pub async fn remove(agent: &Agent, uid: &str) -> Result<(), Fault> {
    let path = folder(agent, uid);
    parts::release(&path).map_err(|e| failed("releasing", &path, &e))?;
    let all = path.clone();
    match driver::on_a_thread(move || std::fs::remove_dir_all(all)).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("removing", &path, &e)),
        _ => Ok(()),
    }
}

/// The files that a volume shall hold; `None`: it is the pod's own to fill.
async fn files(context: &Context<'_>, volume: &Volume) -> Result<Option<Vec<File>>, Fault> {
    if volume.empty_dir.is_some() {
        return Ok(None);
    }
    if let Some(source) = &volume.config_map {
        let optional = source.optional.unwrap_or(false);
        return keyed(context, "configmaps", &source.name, optional, &source.items, source.default_mode).map(Some);
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or("");
        let optional = source.optional.unwrap_or(false);
        return keyed(context, "secrets", name, optional, &source.items, source.default_mode).map(Some);
    }
    if let Some(source) = &volume.downward_api {
        return downward(context, source.items.as_deref(), source.default_mode).map(Some);
    }
    if let Some(source) = &volume.projected {
        let mut all = Vec::new();
        for part in source.sources.iter().flatten() {
            if let Some(map) = &part.config_map {
                let optional = map.optional.unwrap_or(false);
                all.extend(keyed(context, "configmaps", &map.name, optional, &map.items, source.default_mode)?);
            } else if let Some(secret) = &part.secret {
                let optional = secret.optional.unwrap_or(false);
                all.extend(keyed(context, "secrets", &secret.name, optional, &secret.items, source.default_mode)?);
            } else if let Some(downward) = &part.downward_api {
                all.extend(self::downward(context, downward.items.as_deref(), source.default_mode)?);
            } else if let Some(token) = &part.service_account_token {
                let lifetime = token.expiration_seconds.unwrap_or(3600).max(600);
                let content = service_account_token(context, volume, &token.path, lifetime).await?;
                all.push(File { path: token.path.clone(), content, mode: mode(source.default_mode) });
            } else {
                return Err(not_supported(volume, "this projected source"));
            }
        }
        return Ok(Some(all));
    }
    Err(not_supported(volume, "this kind of volume"))
}

/// Files of the downward API.
fn downward(
    context: &Context<'_>,
    items: Option<&[DownwardAPIVolumeFile]>,
    default_mode: Option<i32>,
) -> Result<Vec<File>, Fault> {
    let file = |item: &DownwardAPIVolumeFile| {
        let content = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => env::field(context, &field.field_path)?,
            (None, Some(resource)) => env::resource(context, resource, None)?,
            (None, None) => return Err(Fault::invalid(format!("the file {} comes from nowhere", item.path))),
        };
        Ok(File { path: item.path.clone(), content: content.into_bytes(), mode: mode(item.mode.or(default_mode)) })
    };
    items.into_iter().flatten().map(file).collect()
}

/// The token that lies there if most of its life is still to come, else a new one.
async fn service_account_token(
    context: &Context<'_>,
    volume: &Volume,
    path: &str,
    lifetime: i64,
) -> Result<Vec<u8>, Fault> {
    let there = folder(context.agent, context.row().uid()).join("volumes").join(&volume.name).join(path);
    let age = std::fs::metadata(&there).and_then(|m| m.modified()).ok().and_then(|m| m.elapsed().ok());
    if age.is_some_and(|age| age.as_secs() < lifetime.unsigned_abs() / 5)
        && let Ok(token) = std::fs::read(&there)
    {
        return Ok(token);
    }
    context.agent.cloud().token(context.row().uid(), lifetime).await.map(String::into_bytes)
}

fn not_supported(volume: &Volume, what: &str) -> Fault {
    Fault::invalid(format!(
        "volume {}: {what} is not supported (emptyDir, configMap, secret, downwardAPI and projected are)",
        volume.name
    ))
}

fn mode(mode: Option<i32>) -> u32 {
    mode.map_or(0o644, |m| m as u32 & 0o777)
}

fn keyed(
    context: &Context<'_>,
    resource: &str,
    name: &str,
    optional: bool,
    items: &Option<Vec<KeyToPath>>,
    default_mode: Option<i32>,
) -> Result<Vec<File>, Fault> {
    let Some(data) = env::data(context, resource, name, optional)? else { return Ok(Vec::new()) };
    let Some(items) = items else {
        let all = data.into_iter().map(|(path, content)| File { path, content, mode: mode(default_mode) });
        return Ok(all.collect());
    };
    let mut files = Vec::new();
    for item in items {
        match data.iter().find(|(key, _)| *key == item.key) {
            Some((_, content)) => files.push(File {
                path: item.path.clone(),
                content: content.clone(),
                mode: mode(item.mode.or(default_mode)),
            }),
            None if optional => {}
            None => return Err(Fault::invalid(format!("{resource} {name} has no key {}", item.key))),
        }
    }
    Ok(files)
}

fn make_folder(path: &Path, mode: u32) -> Result<(), Fault> {
    std::fs::create_dir_all(path).map_err(|e| failed("making", path, &e))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(|e| failed("making", path, &e))
}

fn failed(what: &str, path: &Path, e: &std::io::Error) -> Fault {
    Fault::Unavailable(format!("{what} {}: {e}", path.display()))
}
