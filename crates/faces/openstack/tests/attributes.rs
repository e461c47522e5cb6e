//! What resources declare of their attributes, as pages that a person can read: `docs/network.md`, `docs/compute.md` and
//! `docs/identity.md`. These tests hold them true, and look at real resources for what an attribute is unless somebody sets it and for
//! whether lists are filtered by it. `BLESS=1` writes them anew, and their difference is what a reviewer looks at.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use common::{Harness, text};
use face_openstack::attrs::{Answers, DeclaredFilter};
use face_openstack::identity::{self, By};
use face_openstack::network::{Attr, Is, Set, declared};
use face_openstack::service::Property;
use serde_json::{Value, json};

const HEAD: &str = "# Attributes of Neutron's resources

Each attribute is declared once, in `crates/faces/openstack/src/network/`; what is shown, what lists are filtered and sorted by,
and what requests may set follows from it. Written and held true by `cargo test -p face-openstack --test attributes`
(`BLESS=1` writes it anew).

*set*: in creations (`POST`), changes (`PUT`) or both; *required* in a creation. *Unless set* is what a project's new resource
shows that was made with nothing but what is required; ids, what differs each time, and what shows nothing are left out. *admin*: only
administrators set it, or see it. *hidden*: lists are filtered by it, and it is not shown.
";

/// Two of each resource with nothing but what is required, as an administrator sees them: what is the same in both was set by
/// nobody.
async fn two_of_each(cloud: &Harness) -> BTreeMap<&'static str, [Value; 2]> {
    let mut all = BTreeMap::new();
    let mut ids = BTreeMap::<&str, String>::new();
    let public = json!({"network": {"name": "public", "router:external": true}});
    let (_, _, public) = cloud.ok("POST", "/network/v2.0/networks", &cloud.admin, public).await;
    let public = text(&public["network"]["id"]);
    let subnet = json!({"subnet": {"network_id": public, "ip_version": 4, "cidr": "172.24.4.0/24"}});
    cloud.ok("POST", "/network/v2.0/subnets", &cloud.admin, subnet).await;
    for (one, path) in [
        ("network", "networks"),
        ("subnet", "subnets"),
        ("subnetpool", "subnetpools"),
        ("address_scope", "address-scopes"),
        ("port", "ports"),
        ("trunk", "trunks"),
        ("router", "routers"),
        ("floatingip", "floatingips"),
        ("port_forwarding", "floatingips/{floatingip}/port_forwardings"),
        ("security_group", "security-groups"),
        ("security_group_rule", "security-group-rules"),
        ("address_group", "address-groups"),
        ("rbac_policy", "rbac-policies"),
        ("policy", "qos/policies"),
    ] {
        let mut two = Vec::new();
        for n in 0..2 {
            let id = |kind: &str| ids.get(kind).cloned().unwrap_or_default();
            let body = match one {
                "subnet" => json!({"network_id": id("network"), "ip_version": 4, "cidr": format!("10.{n}.0.0/24")}),
                "subnetpool" => json!({"name": "x", "prefixes": [format!("10.{n}.0.0/16")]}),
                "address_scope" => json!({"ip_version": 4}),
                "port" => json!({"network_id": id("network")}),
                "trunk" => {
                    let port = json!({"port": {"network_id": id("network")}});
                    let (_, _, port) = cloud.ok("POST", "/network/v2.0/ports", &cloud.demo, port).await;
                    json!({"port_id": port["port"]["id"]})
                }
                "floatingip" => json!({"floating_network_id": public}),
                "port_forwarding" => {
                    let port =
                        json!({"port": {"network_id": id("network"), "fixed_ips": [{"subnet_id": id("subnet")}]}});
                    let (_, _, port) = cloud.ok("POST", "/network/v2.0/ports", &cloud.demo, port).await;
                    if n == 0 {
                        let way = json!({"router": {"external_gateway_info": {"network_id": public}}});
                        let router = format!("/network/v2.0/routers/{}", id("router"));
                        cloud.ok("PUT", &router, &cloud.demo, way).await;
                        let join = json!({"subnet_id": id("subnet")});
                        cloud.ok("PUT", &format!("{router}/add_router_interface"), &cloud.demo, join).await;
                    }
                    json!({"protocol": "tcp", "internal_port_id": port["port"]["id"], "internal_port": n + 1,
                        "external_port": n + 1})
                }
                "security_group" => json!({"name": format!("group-{n}")}),
                "security_group_rule" => {
                    json!({"security_group_id": id("security_group"), "direction": (["ingress", "egress"][n]),
                        "protocol": (["tcp", "udp"][n])})
                }
                "rbac_policy" => json!({"object_type": "network", "object_id": id("network"),
                    "action": "access_as_shared", "target_tenant": format!("project-{n}")}),
                _ => json!({}),
            };
            let token = if one == "policy" { &cloud.admin } else { &cloud.demo };
            let path = format!("/network/v2.0/{}", path.replace("{floatingip}", &id("floatingip")));
            let (_, _, made) = cloud.ok("POST", &path, token, json!({one: body})).await;
            let made = text(&made[one]["id"]).to_owned();
            let (_, _, seen) = cloud.ok("GET", &format!("{path}/{made}"), &cloud.admin, Value::Null).await;
            ids.insert(one, made);
            two.push(seen[one].clone());
        }
        all.insert(one, <[Value; 2]>::try_from(two).unwrap());
    }
    all
}

fn ids_of(kinds: &[model::Kind]) -> String {
    let kinds: Vec<_> = kinds.iter().map(|kind| kind.as_str().replace('-', " ")).collect();
    format!("id of a {}", kinds.join(", "))
}

fn form(is: Is) -> String {
    let words = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    match is {
        Is::Text(most) => format!("text, at most {most}"),
        Is::TextOrNull(most) => format!("text, at most {most}, or null"),
        Is::Domain => "DNS name".into(),
        Is::Bool => "boolean".into(),
        Is::Int(least, most) => format!("{least} to {most}"),
        Is::Uuid(of) | Is::Id(of) => ids_of(of),
        Is::UuidOrNull(of) | Is::IdOrNull(of) => format!("{}, or null", ids_of(of)),
        Is::UuidList(of) => format!("list: {}", ids_of(of)),
        Is::IpOrNull => "address or null".into(),
        Is::IpList => "list of addresses".into(),
        Is::Mac => "MAC address".into(),
        Is::Cidr => "CIDR".into(),
        Is::OneOf(all) => words(all),
        Is::OneOfOrNull(all) => format!("{}, or null", words(all)),
        Is::TextList => "list of texts".into(),
        Is::Tags => "list of tags".into(),
        Is::ObjectOrNull => "object or null".into(),
        Is::ObjectList => "list of objects".into(),
        Is::Any => String::new(),
    }
}

fn set(attr: &Attr<()>) -> String {
    let when = match attr.set {
        Set::Never => "",
        Set::Post => "POST",
        Set::PostPut => "POST, PUT",
        Set::Put => "PUT",
    };
    format!("{when}{}{}", if attr.required { ", required" } else { "" }, if attr.admin_sets { ", admin" } else { "" })
}

fn unless_set(attr: &Attr<()>, [one, other]: &[Value; 2]) -> String {
    let same = one.get(attr.name) == other.get(attr.name);
    let open = attr.set != Set::Never && !attr.required && !matches!(attr.name, "project_id" | "tenant_id");
    // Ids are other ones in every cloud.
    let names_rows = |value: &Value| !attr.is.refers_to().is_empty() && !value.is_null();
    match one.get(attr.name) {
        Some(value) if same && open && !names_rows(value) => format!("`{value}`"),
        _ => String::new(),
    }
}

#[tokio::test]
async fn the_page_says_what_is_declared() {
    let cloud = Harness::new().await;
    let seen = two_of_each(&cloud).await;
    let mut page = HEAD.to_owned();
    for resource in declared() {
        let two = &seen[resource.one];
        let shown: Vec<&String> = two[0].as_object().unwrap().keys().collect();
        let visible = resource.attrs.iter().filter(|attr| !attr.hidden);
        for name in &shown {
            assert!(visible.clone().any(|attr| attr.name == **name), "{} shows {name}", resource.one);
        }
        let _ = write!(
            page,
            "\n## {}: `{}`\n\n| attribute | form | set | unless set | seen |\n| --- | --- | --- | --- | --- |\n",
            resource.one, resource.path
        );
        for attr in &resource.attrs {
            let sight = match attr {
                Attr { hidden: true, .. } => "hidden",
                Attr { admin_sees: true, .. } => "admin",
                _ if !shown.iter().any(|name| *name == attr.name) && attr.set != Set::Never => "not shown",
                _ => "",
            };
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} | {sight} |",
                attr.name,
                form(attr.is),
                set(attr),
                unless_set(attr, two)
            );
        }
    }
    is_written(&page, "network.md");
}

/// Holds a page of `docs` true, or writes it anew.
fn is_written(page: &str, name: &str) {
    let file = format!("{}/../../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    for (line, (is, should)) in page.lines().zip(written.lines()).enumerate() {
        assert_eq!(is, should, "line {} of docs/{name}", line + 1);
    }
    assert_eq!(page, written);
}

/// An attribute that is required or may be set is said once, and what may not be sent says so as Neutron does.
#[tokio::test]
async fn names_are_declared_once() {
    for resource in declared() {
        let mut names: Vec<_> = resource.attrs.iter().map(|attr| attr.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "{}", resource.one);
    }
}

const NOVA: &str = "# What Nova's resources show, and what requests say

Each attribute is declared once, with the resource in `crates/faces/openstack/src/compute/`; what is shown in which version and answer,
and what lists are filtered and sorted by, follows from it. Written and held true by `cargo test -p face-openstack --test attributes`
(`BLESS=1` writes it anew).

*in*: in which answers; nothing is all of them. *list* is a list without details, *detail* one with them, *one* the resource by itself,
*create*, *update* and *rebuild* what these answer where it is less than that. Since 2.75 an update of a server answers as *one*,
and a rebuild as *rebuild, later*. *never*: there is nothing to show, but lists are filtered or sorted by it. *admin*: only
administrators see it. *filters*: parameters of lists, with the version since when they are heeded, whether only for administrators, and
how what the parameter says is compared; without a word it is equal. What is not heeded is passed over before 2.75 and refused since,
but for filters of administrators, which are passed over.

What a request says is declared apart, since Nova takes other names and forms than it shows, and stands at the end: *names*, the rows
whose ids it takes. Requests that are not there are read by hand. Whatever looks at hosts (hypervisors, services, availability zones) is
written by hand: half of it is no row's.
";

#[test]
fn novas_attributes_are_documented() {
    let version = |(major, minor): (u16, u16)| format!("{major}.{minor}");
    let versions = |since: (u16, u16), until: (u16, u16)| match (since, until) {
        ((0, 0), (u16::MAX, _)) => String::new(),
        ((0, 0), until) => format!("to {}", version(until)),
        (since, (u16::MAX, _)) => format!("since {}", version(since)),
        (since, until) => format!("{} to {}", version(since), version(until)),
    };
    let mut text = NOVA.to_owned();
    for (one, attrs) in face_openstack::compute::declared() {
        let _ = write!(
            text,
            "\n## {one}\n\n| attribute | versions | in | admin | filters | sort keys |\n| --- | --- | --- | --- | --- | --- |\n"
        );
        for attr in attrs {
            let versions = versions(attr.since, attr.until);
            let all = Answers::NAMES.iter().filter(|(one, _)| attr.answers.has(*one)).map(|(_, name)| *name);
            let answers = match attr.answers {
                Answers::ALL => String::new(),
                Answers::NONE => "never".to_owned(),
                Answers::DETAILED => "all but list".to_owned(),
                _ => all.collect::<Vec<_>>().join(", "),
            };
            let admin = if attr.admin { "yes" } else { "" };
            let keys: Vec<String> = attr.sort_keys.iter().map(|key| format!("`{key}`")).collect();
            let filter = |DeclaredFilter { names, since, admin, how }: &DeclaredFilter| {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                let since = if *since == (0, 0) { String::new() } else { format!("since {}", version(*since)) };
                let notes = [since.as_str(), if *admin { "admin" } else { "" }, how];
                let notes: Vec<&str> = notes.into_iter().filter(|note| !note.is_empty()).collect();
                let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
                format!("{}{notes}", names.join(", "))
            };
            let filters: Vec<String> = attr.filters.iter().map(filter).collect();
            let (name, filters, keys) = (attr.name, filters.join(", "), keys.join(", "));
            let _ = writeln!(text, "| `{name}` | {versions} | {answers} | {admin} | {filters} | {keys} |");
        }
    }
    for endpoint in (face_openstack::compute::SERVICE.table)().iter().filter(|endpoint| endpoint.until > (2, 1)) {
        for takes in &endpoint.bodies {
            let one = if takes.name.is_empty() { "the body" } else { takes.name };
            let _ = write!(
                text,
                "\n## {} {}: {one}\n\n| property | versions | required | names |\n| --- | --- | --- | --- |\n",
                endpoint.method, endpoint.path
            );
            for Property { name, since, until, required, refers_to, .. } in &takes.properties {
                let required = if *required { "yes" } else { "" };
                let mut kinds: Vec<String> =
                    refers_to.iter().map(|(kind, _)| kind.as_str().replace('-', " ")).collect();
                kinds.dedup();
                let _ =
                    writeln!(text, "| `{name}` | {} | {required} | {} |", versions(*since, *until), kinds.join(", "));
            }
        }
    }
    is_written(&text, "compute.md");
}

/// No version shows an attribute twice in one answer, whoever asks.
#[test]
fn an_attribute_is_shown_once() {
    for (one, attrs) in face_openstack::compute::declared() {
        for (answer, name) in Answers::NAMES {
            for minor in 1..=104 {
                let here = attrs
                    .iter()
                    .filter(|attr| (attr.since..=attr.until).contains(&(2, minor)) && attr.answers.has(answer));
                let mut names: Vec<&str> = here.map(|attr| attr.name).collect();
                names.sort_unstable();
                let all = names.len();
                names.dedup();
                assert_eq!(all, names.len(), "{one} in {name} of 2.{minor}");
            }
        }
    }
}

const KEYSTONE: &str = "# Attributes of Keystone's resources

Each attribute is declared once, in `crates/faces/openstack/src/identity/`; what is shown, what lists are filtered by, and what requests
may set follows from it. Written and held true by `cargo test -p face-openstack --test attributes` (`BLESS=1` writes it anew).

*set*: in creations (`POST`), changes (`PATCH`) or both; *required* in a creation. What may not be set is passed over, as by Keystone. *filter*: lists
take a parameter of the attribute's name; *text* also with `__contains`, `__icontains`, `__startswith`, `__istartswith`, `__endswith` and
`__iendswith` behind it; *tags* are `tags`, `tags-any`, `not-tags` and `not-tags-any`. All lists take `limit` and `marker`. Tokens, assignments of
roles, EC2 credentials and what roles imply are written by hand: they are no rows, or others' rows in another form.
";

fn form_of_keystone(is: identity::Is) -> String {
    match is {
        identity::Is::Name(most) => format!("text, 1 to {most}"),
        identity::Is::Text => "text".into(),
        identity::Is::TextOrNull => "text or null".into(),
        identity::Is::Flag => "boolean".into(),
        identity::Is::Tags => "list of tags".into(),
        identity::Is::Any => String::new(),
        identity::Is::Id(of) => ids_of(of),
        identity::Is::IdOrNull(of) => format!("{}, or null", ids_of(of)),
    }
}

#[test]
fn keystones_attributes_are_documented() {
    let mut page = KEYSTONE.to_owned();
    for identity::Declared { one, path, attrs, unknown } in identity::declared() {
        let _ = write!(
            page,
            "\n## {one}: `{path}`\n\nWhat is not known is {unknown}.\n\n| attribute | form | set | filter | seen |\n| --- | --- | --- | --- | --- |\n"
        );
        for attr in attrs {
            let set = match attr.set {
                identity::Set::Never => "",
                identity::Set::Create => "POST",
                identity::Set::CreateUpdate => "POST, PATCH",
            };
            let required = if attr.required { ", required" } else { "" };
            let filter = match attr.by {
                By::Nothing => "",
                By::Text => "text",
                By::Flag => "boolean",
                By::Tags => "tags",
                By::Hand => "equal, by a rule",
            };
            let seen = if attr.alone { "not in lists" } else { "" };
            let form = form_of_keystone(attr.is);
            let _ = writeln!(page, "| `{}` | {form} | {set}{required} | {filter} | {seen} |", attr.name);
        }
    }
    is_written(&page, "identity.md");
}

/// One of each of Keystone's resources, made by an administrator.
async fn one_of_each(cloud: &Harness) -> BTreeMap<&'static str, (String, Value)> {
    let (_, _, own) = cloud
        .call_with("GET", "/identity/v3/auth/tokens", &cloud.admin, &[("x-subject-token", &cloud.admin)], Value::Null)
        .await;
    let (me, role) = (own["token"]["user"]["id"].clone(), own["token"]["roles"][0]["id"].clone());
    let project = own["token"]["project"]["id"].clone();
    let mut all = BTreeMap::new();
    for resource in identity::declared() {
        let body = match resource.one {
            "credential" => json!({"user_id": me, "type": "cert", "blob": "x"}),
            "application_credential" => {
                json!({"name": "Made", "access_rules": [{"service": "compute", "method": "GET", "path": "/Made"}]})
            }
            "access_rule" => Value::Null,
            "trust" => json!({"trustor_user_id": me, "trustee_user_id": me, "impersonation": false,
                "project_id": project, "roles": [{"id": role}]}),
            "region" => json!({"id": "Made"}),
            "service" => json!({"type": "Made", "name": "Made"}),
            "endpoint" => {
                let service = all.get("service").map(|(_, row): &(String, Value)| row["id"].clone());
                json!({"interface": "public", "url": "http://made", "service_id": service, "region_id": "Made"})
            }
            "project" => json!({"name": "Made", "tags": ["one", "two"]}),
            _ => json!({"name": "Made"}),
        };
        let path = format!("/identity{}", resource.path.replace("{user_id}", text(&me)));
        let made = match body {
            Value::Null => cloud.ok("GET", &path, &cloud.admin, Value::Null).await.2["access_rules"][0].clone(),
            _ => cloud.ok("POST", &path, &cloud.admin, json!({resource.one: body})).await.2[resource.one].clone(),
        };
        all.insert(resource.one, (path, made));
    }
    all
}

#[tokio::test]
async fn what_keystone_shows_and_filters_by_is_declared() {
    let cloud = Harness::new().await;
    let all = one_of_each(&cloud).await;
    let mut tried = 0;
    for resource in identity::declared() {
        let (path, made) = &all[resource.one];
        let (_, _, seen) = cloud.ok("GET", &format!("{path}/{}", text(&made["id"])), &cloud.admin, Value::Null).await;
        let seen = &seen[resource.one];
        for name in seen.as_object().unwrap().keys().filter(|name| *name != "links") {
            assert!(resource.attrs.iter().any(|attr| attr.name == name), "{} shows {name}", resource.one);
        }
        for attr in &resource.attrs {
            let value = &seen[attr.name];
            let tries: Vec<(String, String, bool)> = match (attr.by, value) {
                (By::Text, Value::String(value)) => {
                    let (low, half) = (value.to_lowercase(), &value[..value.len() / 2]);
                    [("", value.as_str(), true), ("", "else", false), ("__startswith", half, true)]
                        .into_iter()
                        .chain([("__icontains", low.as_str(), true), ("__endswith", "else", false)])
                        .map(|(how, value, fits)| (format!("{}{how}", attr.name), value.to_owned(), fits))
                        .collect()
                }
                (By::Flag, Value::Bool(flag)) => {
                    [("true", *flag), ("0", !flag)].map(|(value, fits)| (attr.name.into(), value.into(), fits)).into()
                }
                (By::Tags, _) => [
                    ("tags", "one,two", true),
                    ("tags", "one,three", false),
                    ("tags-any", "two,three", true),
                    ("not-tags", "one,two", false),
                    ("not-tags-any", "three", true),
                ]
                .map(|(name, value, fits)| (name.into(), value.into(), fits))
                .into(),
                _ => Vec::new(),
            };
            for (name, value, fits) in tries {
                let (_, _, list) = cloud.ok("GET", &format!("{path}?{name}={value}"), &cloud.admin, Value::Null).await;
                let list = list.as_object().unwrap().values().find_map(Value::as_array).unwrap();
                let is_there = list.iter().any(|item| item["id"] == made["id"]);
                assert_eq!(is_there, fits, "{}: {name}={value} of {seen}", resource.one);
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "only {tried} filters");
}
