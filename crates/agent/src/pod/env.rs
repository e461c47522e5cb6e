//! A container's environment, and `$(NAME)` in commands: Kubernetes' rules for both.

use k8s_openapi::api::core::v1::{Container, EnvVarSource, ResourceFieldSelector};
use model::{Fault, KubeObject};
use serde_json::Value;

use super::context::Context;

/// The environment of a container, in order; later names win.
pub fn of(context: &Context<'_>, container: &Container) -> Result<Vec<(String, String)>, Fault> {
    let mut env: Vec<(String, String)> = services(context);
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or("");
        let map = match (&source.config_map_ref, &source.secret_ref) {
            (Some(r), _) => data(context, "configmaps", &r.name, r.optional.unwrap_or(false))?,
            (None, Some(r)) => data(context, "secrets", &r.name, r.optional.unwrap_or(false))?,
            (None, None) => None,
        };
        for (key, value) in map.into_iter().flatten() {
            set(&mut env, format!("{prefix}{key}"), text(value));
        }
    }
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(value), _) => Some(expand(value, &env)),
            (None, Some(source)) => from(context, container, source)?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            set(&mut env, var.name.clone(), value);
        }
    }
    Ok(env)
}

/// The services that the pod is told of as variables, in the form that Docker's links had.
fn services(context: &Context<'_>) -> Vec<(String, String)> {
    context.of.services.iter().flat_map(links_of).collect()
}

fn links_of(service: &KubeObject) -> Vec<(String, String)> {
    let upper = |text: &str| text.to_ascii_uppercase().replace(['-', '.'], "_");
    let spec = &service.body["spec"];
    let Some(ip) = spec["clusterIP"].as_str().filter(|ip| ip.parse::<std::net::IpAddr>().is_ok()) else {
        return Vec::new();
    };
    let name = upper(&service.name);
    let ports: Vec<&Value> = spec["ports"].as_array().into_iter().flatten().collect();
    let number = |port: &Value| port["port"].as_u64().unwrap_or(0).to_string();
    let mut env = vec![(format!("{name}_SERVICE_HOST"), ip.to_owned())];
    if let Some(first) = ports.first() {
        env.push((format!("{name}_SERVICE_PORT"), number(first)));
    }
    for port in ports.iter().filter(|p| p["name"].as_str().is_some_and(|n| !n.is_empty())) {
        env.push((format!("{name}_SERVICE_PORT_{}", upper(port["name"].as_str().unwrap_or(""))), number(port)));
    }
    for (i, port) in ports.iter().enumerate() {
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_ascii_lowercase();
        let (number, url) = (number(port), format!("{protocol}://{ip}:{}", number(port)));
        if i == 0 {
            env.push((format!("{name}_PORT"), url.clone()));
        }
        let stem = format!("{name}_PORT_{number}_{}", protocol.to_ascii_uppercase());
        env.push((stem.clone(), url));
        for (end, value) in [("PROTO", protocol), ("PORT", number), ("ADDR", ip.to_owned())] {
            env.push((format!("{stem}_{end}"), value));
        }
    }
    env
}

fn set(env: &mut Vec<(String, String)>, name: String, value: String) {
    env.retain(|(n, _)| *n != name);
    env.push((name, value));
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn from(context: &Context<'_>, container: &Container, source: &EnvVarSource) -> Result<Option<String>, Fault> {
    let pick = |resource: &str, name: &str, key: &str, optional: bool| -> Result<Option<String>, Fault> {
        let value = data(context, resource, name, optional)?.and_then(|m| m.into_iter().find(|(k, _)| k == key));
        match value {
            Some((_, value)) => Ok(Some(text(value))),
            None if optional => Ok(None),
            None => {
                Err(Fault::invalid(format!("couldn't find key {key} in {resource} {}/{name}", context.row().namespace)))
            }
        }
    };
    if let Some(r) = &source.config_map_key_ref {
        return pick("configmaps", &r.name, &r.key, r.optional.unwrap_or(false));
    }
    if let Some(r) = &source.secret_key_ref {
        return pick("secrets", &r.name, &r.key, r.optional.unwrap_or(false));
    }
    if let Some(r) = &source.field_ref {
        return field(context, &r.field_path).map(Some);
    }
    if let Some(r) = &source.resource_field_ref {
        return resource(context, r, Some(container)).map(Some);
    }
    Err(Fault::invalid("a variable's value comes from nowhere"))
}

/// An amount that a container asks for or is limited to, divided and rounded up; without a limit, what the host has.
pub fn resource(
    context: &Context<'_>,
    selector: &ResourceFieldSelector,
    own: Option<&Container>,
) -> Result<String, Fault> {
    let spec = context.pod.spec.as_ref();
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        Some(name) => spec
            .and_then(|s| s.init_containers.iter().flatten().chain(&s.containers).find(|c| c.name == name))
            .ok_or_else(|| Fault::invalid(format!("there is no container {name}")))?,
        None => own.ok_or_else(|| Fault::invalid("containerName is needed in a volume"))?,
    };
    let resources = container.resources.as_ref();
    let (side, name) = selector.resource.split_once('.').unwrap_or(("limits", &selector.resource));
    let requests = resources.and_then(|r| r.requests.as_ref()).and_then(|t| t.get(name));
    let limits = resources.and_then(|r| r.limits.as_ref()).and_then(|t| t.get(name));
    let asked = if side == "requests" { requests } else { limits };
    let (cpu, default) = match (side, name) {
        (_, "cpu") => (true, "0"),
        (_, "memory" | "ephemeral-storage") => (false, "0"),
        _ => {
            return Err(Fault::invalid(format!("the resource {} is not one that can be asked for", selector.resource)));
        }
    };
    let room = context.host.host.as_ref().filter(|_| side == "limits").map(|host| match name {
        "cpu" => format!("{}m", host.cpu_milli),
        "memory" => format!("{}Mi", host.memory_mib),
        _ => format!("{}Gi", host.disk_gib),
    });
    let quantity = asked.map(|q| q.0.clone()).or(room).unwrap_or_else(|| default.to_owned());
    let divisor = selector.divisor.as_ref().map(|q| q.0.as_str()).filter(|q| !matches!(*q, "" | "0")).unwrap_or("1");
    let amount = |text: &str| if cpu { model::quantity_milli(text) } else { model::quantity_bytes(text) };
    match (amount(&quantity), amount(divisor)) {
        (Some(amount), Some(divisor)) if divisor > 0 => Ok(amount.div_ceil(divisor).to_string()),
        _ => Err(Fault::invalid(format!("{quantity} cannot be divided by {divisor}"))),
    }
}

/// A field of the pod, by the downward API's path.
pub fn field(context: &Context<'_>, path: &str) -> Result<String, Fault> {
    let meta = &context.row().body["metadata"];
    let keyed = |table: &Value, rest: &str| -> String {
        let key = rest.trim_start_matches("['").trim_end_matches("']");
        table[key].as_str().unwrap_or("").to_owned()
    };
    Ok(match path {
        "metadata.name" => context.row().name.clone(),
        "metadata.namespace" => context.row().namespace.clone(),
        "metadata.uid" => context.row().uid().to_owned(),
        "spec.nodeName" => context.agent.config().host.clone(),
        "spec.serviceAccountName" => context.row().body["spec"]["serviceAccountName"].as_str().unwrap_or("").to_owned(),
        "status.hostIP" | "status.hostIPs" => context.host.address().unwrap_or_default(),
        "status.podIP" => context.address().unwrap_or_default(),
        "status.podIPs" => context.address().unwrap_or_default(),
        "metadata.labels" => lines(&meta["labels"]),
        "metadata.annotations" => lines(&meta["annotations"]),
        _ => match (path.strip_prefix("metadata.labels"), path.strip_prefix("metadata.annotations")) {
            (Some(rest), _) => keyed(&meta["labels"], rest),
            (_, Some(rest)) => keyed(&meta["annotations"], rest),
            _ => return Err(Fault::invalid(format!("the field {path} is not one that a pod can ask for"))),
        },
    })
}

fn lines(table: &Value) -> String {
    let pairs = table.as_object().into_iter().flatten();
    pairs.map(|(k, v)| format!("{k}={:?}", v.as_str().unwrap_or(""))).collect::<Vec<_>>().join("\n")
}

/// Keys and bytes of a ConfigMap or Secret.
pub type Data = Vec<(String, Vec<u8>)>;

/// The data of a ConfigMap or Secret in the pod's namespace; `None` if it does not exist and need not.
pub fn data(context: &Context<'_>, resource: &str, name: &str, optional: bool) -> Result<Option<Data>, Fault> {
    match context.of.data_of(resource, name) {
        Some(body) => decode(body).map(Some),
        None if optional => Ok(None),
        None => Err(Fault::invalid(format!("{} \"{name}\" not found", resource.trim_end_matches('s')))),
    }
}

fn decode(body: &Value) -> Result<Data, Fault> {
    let mut data = Data::new();
    let secret = body["kind"] == "Secret";
    for (key, value) in body["data"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or("");
        let bytes = if secret { base64(value)? } else { value.as_bytes().to_vec() };
        data.push((key.clone(), bytes));
    }
    for (key, value) in body["binaryData"].as_object().into_iter().flatten() {
        data.push((key.clone(), base64(value.as_str().unwrap_or(""))?));
    }
    Ok(data)
}

fn base64(text: &str) -> Result<Vec<u8>, Fault> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|e| Fault::invalid(format!("data that is not base64: {e}")))
}

/// Replaces `$(NAME)` by the variable's value; `$$` is a dollar sign; unknown names stay as they are.
pub fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix('(').and_then(|r| r.split_once(')'));
        match name.and_then(|(name, after)| Some((env.iter().find(|(n, _)| n == name)?, after))) {
            Some(((_, value), after)) => {
                out.push_str(value);
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_in_text() {
        let env = vec![("A".to_owned(), "1".to_owned())];
        for (text, want) in
            [("x", "x"), ("$(A)", "1"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("a$(A", "a$(A"), ("$", "$")]
        {
            assert_eq!(expand(text, &env), want, "{text}");
        }
    }
}
