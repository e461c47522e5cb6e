//! EndpointSlices.

use k8s_openapi::api::discovery;
use serde_json::Value;

use crate::kind::{ApiResource, Given::Read};
use crate::strategy::{Column, Strategy, age_column, column, default, items, items_mut, name_column};
use crate::validate::Errors;

pub fn kind() -> ApiResource {
    ApiResource::of::<discovery::v1::EndpointSlice>(EndpointSlice)
        .given(Read)
        .no_table("written by a controller; its fields are for those who read it")
}

pub struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn default(&self, slice: &mut Value) {
        for port in items_mut(slice, "ports") {
            default(port, "name", "");
            default(port, "protocol", "TCP");
        }
    }

    fn validate(&self, slice: &Value, errors: &mut Errors) {
        match slice["addressType"].as_str() {
            None | Some("") => errors.required("addressType", ""),
            Some(_) => errors.one_of("addressType", &slice["addressType"], &["IPv4", "IPv6", "FQDN"]),
        }
        if items(slice, "endpoints").len() > 1000 {
            errors.invalid("endpoints", &items(slice, "endpoints").len().into(), "must have at most 1000 items");
        }
        for (i, endpoint) in items(slice, "endpoints").enumerate() {
            if items(endpoint, "addresses").len() == 0 {
                errors.required(format!("endpoints[{i}].addresses"), "must contain at least 1 address");
            }
            for (j, address) in items(endpoint, "addresses").enumerate() {
                let ip = address.as_str().and_then(|a| a.parse::<std::net::IpAddr>().ok());
                let fits = match slice["addressType"].as_str() {
                    Some("IPv4") => ip.is_some_and(|ip| ip.is_ipv4()),
                    Some("IPv6") => ip.is_some_and(|ip| ip.is_ipv6()),
                    _ => true,
                };
                if !fits {
                    errors.invalid(
                        format!("endpoints[{i}].addresses[{j}]"),
                        address,
                        "must be a valid IP address of the slice's type",
                    );
                }
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        errors.immutable("addressType", &new["addressType"], &old["addressType"]);
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name_column(),
            column("AddressType", |slice, _| slice["addressType"].clone()),
            column("Ports", |slice, _| {
                let ports = items(slice, "ports").map(|p| p["port"].as_i64().map_or("*".to_owned(), |p| p.to_string()));
                first_three(ports.collect(), "<unset>").into()
            }),
            column("Endpoints", |slice, _| {
                let all = items(slice, "endpoints").flat_map(|e| items(e, "addresses")).filter_map(Value::as_str);
                first_three(all.map(str::to_owned).collect(), "<unset>").into()
            }),
            age_column(),
        ]
    }
}

fn first_three(all: Vec<String>, none: &str) -> String {
    match all.len() {
        0 => none.to_owned(),
        n if n <= 3 => all.join(","),
        n => format!("{} + {} more...", all[..3].join(","), n - 3),
    }
}
