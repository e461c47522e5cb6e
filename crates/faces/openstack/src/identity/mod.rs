//! The identity service: Keystone v3 over the rows that the gate reads. What is decided here is the wire; who may do
//! what where, tokens and passwords are [`gate`]'s.
//!
//! Users see and change themselves. A domain's readers see what is in it, its managers change that, a reader of the system
//! sees everything, as in Keystone's defaults (`reach` says where not); the rest is an administrator's. [`absent`]
//! says what Keystone has besides.

mod absent;
mod access_rules;
mod app_credentials;
mod assignments;
mod attrs;
mod auth;
mod catalog;
mod credentials;
mod deletion;
mod domains;
mod ec2;
mod endpoints;
mod grants;
mod groups;
mod options;
mod projects;
mod reach;
mod regions;
mod roles;
mod services;
mod trusts;
mod users;
mod wire;

pub use attrs::{Attr, By, Declared, Is, Set};
use deletion::Deletion;
use http::Method;
use model::Kind;

use crate::endpoint;
use crate::service::{Dialect, Endpoint, PLAIN, Quotas, Service, Version, Versions};
use crate::versions;

/// The identity service.
pub static SERVICE: Service = Service {
    name: "identity",
    project: "keystone",
    prefix: "/identity",
    root: "",
    versions: Versions {
        all: &[Version {
            updated: Some("2020-04-07T00:00:00Z"),
            media_type: Some("application/vnd.openstack.identity-v3+json"),
            ..Version::new("v3.14", "stable", "/v3/")
        }],
        status: 300,
        choice: true,
        ..PLAIN
    },
    microversions: None,
    kinds: &[
        Kind::Domain,
        Kind::Project,
        Kind::User,
        Kind::Group,
        Kind::Role,
        Kind::Assignment,
        Kind::AppCredential,
        Kind::AccessRule,
        Kind::Credential,
        Kind::Trust,
        Kind::Revocation,
        Kind::TokenKey,
        Kind::CatalogRegion,
        Kind::CatalogService,
        Kind::CatalogEndpoint,
    ],
    quotas: Quotas::Elsewhere,
    dialect: Dialect {
        error: crate::fault::keystone,
        absent: crate::absent::not_built,
        request_id: None,
        pages: wire::pages,
    },
    absent: absent::ABSENT,
    reach: reach::check,
    table,
};

fn table() -> Vec<Endpoint> {
    let tables =
        [auth_endpoints(), credential_endpoints(), resource_endpoints(), role_endpoints(), catalog_endpoints()];
    let mut rows: Vec<Endpoint> = tables.into_iter().flatten().collect();
    for resource in declared() {
        let path = resource.path;
        for row in &mut rows {
            let below = row.path.strip_prefix(path).and_then(|rest| rest.strip_prefix("/{"));
            match row.method {
                Method::POST if row.path == path => row.bodies = vec![resource.body(true)],
                Method::PUT if below.is_some_and(|rest| !rest.contains('/')) => row.bodies = vec![resource.body(true)],
                Method::PATCH if below.is_some() => row.bodies = vec![resource.body(false)],
                _ => {}
            }
        }
    }
    rows
}

/// What is declared of each resource.
pub fn declared() -> Vec<Declared> {
    vec![
        Declared::of::<model::Domain>("/v3/domains"),
        Declared::of::<model::Project>("/v3/projects"),
        Declared::of::<model::User>("/v3/users"),
        Declared::of::<model::Group>("/v3/groups"),
        Declared::of::<model::Role>("/v3/roles"),
        Declared::of::<model::Credential>("/v3/credentials"),
        Declared::of::<model::AppCredential>("/v3/users/{user_id}/application_credentials"),
        Declared::of::<model::AccessRule>("/v3/users/{user_id}/access_rules"),
        Declared::of::<model::Trust>("/v3/OS-TRUST/trusts"),
        Declared::of::<model::CatalogRegion>("/v3/regions"),
        Declared::of::<model::CatalogService>("/v3/services"),
        Declared::of::<model::CatalogEndpoint>("/v3/endpoints"),
    ]
}

fn auth_endpoints() -> Vec<Endpoint> {
    vec![
        endpoint!(GET "/" Public versions::index),
        endpoint!(GET "/v3" Public versions::show),
        endpoint!(POST "/v3/auth/tokens" Public auth::create),
        endpoint!(GET "/v3/auth/tokens" Token auth::show),
        endpoint!(DELETE "/v3/auth/tokens" Token auth::delete),
        endpoint!(GET "/v3/auth/projects" Token auth::list_projects),
        endpoint!(GET "/v3/auth/domains" Token auth::list_domains),
        endpoint!(GET "/v3/auth/system" Token auth::list_system),
        endpoint!(GET "/v3/auth/catalog" Token auth::show_catalog),
        endpoint!(GET "/v3/users/{user_id}/application_credentials" Token app_credentials::index),
        endpoint!(POST "/v3/users/{user_id}/application_credentials" Token app_credentials::create),
        endpoint!(GET "/v3/users/{user_id}/application_credentials/{application_credential_id}" Token app_credentials::show),
        endpoint!(DELETE "/v3/users/{user_id}/application_credentials/{application_credential_id}" Token app_credentials::delete),
        endpoint!(GET "/v3/users/{user_id}/access_rules" Token access_rules::index),
        endpoint!(GET "/v3/users/{user_id}/access_rules/{access_rule_id}" Token access_rules::show),
        endpoint!(DELETE "/v3/users/{user_id}/access_rules/{access_rule_id}" Token access_rules::delete),
    ]
}

fn credential_endpoints() -> Vec<Endpoint> {
    vec![
        endpoint!(GET "/v3/credentials" Token credentials::index),
        endpoint!(POST "/v3/credentials" Token credentials::create),
        endpoint!(GET "/v3/credentials/{credential_id}" Token credentials::show),
        endpoint!(PATCH "/v3/credentials/{credential_id}" Token credentials::update),
        endpoint!(DELETE "/v3/credentials/{credential_id}" Token credentials::delete),
        endpoint!(GET "/v3/users/{user_id}/credentials/OS-EC2" Token ec2::index),
        endpoint!(POST "/v3/users/{user_id}/credentials/OS-EC2" Token ec2::create),
        endpoint!(GET "/v3/users/{user_id}/credentials/OS-EC2/{credential_id}" Token ec2::show),
        endpoint!(DELETE "/v3/users/{user_id}/credentials/OS-EC2/{credential_id}" Token ec2::delete),
        endpoint!(POST "/v3/ec2tokens" Token ec2::token),
        endpoint!(GET "/v3/OS-TRUST/trusts" Token trusts::index),
        endpoint!(POST "/v3/OS-TRUST/trusts" Token trusts::create),
        endpoint!(GET "/v3/OS-TRUST/trusts/{trust_id}" Token trusts::show),
        endpoint!(DELETE "/v3/OS-TRUST/trusts/{trust_id}" Token trusts::delete),
        endpoint!(GET "/v3/OS-TRUST/trusts/{trust_id}/roles" Token trusts::list_roles),
        endpoint!(GET "/v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}" Token trusts::show_role),
    ]
}

fn resource_endpoints() -> Vec<Endpoint> {
    vec![
        endpoint!(GET "/v3/domains" SystemReader domains::index),
        endpoint!(POST "/v3/domains" Admin domains::create),
        endpoint!(GET "/v3/domains/{domain_id}" Token domains::show),
        endpoint!(PATCH "/v3/domains/{domain_id}" Admin domains::update),
        endpoint!(DELETE "/v3/domains/{domain_id}" Admin domains::delete),
        endpoint!(GET "/v3/projects" DomainReader projects::index),
        endpoint!(POST "/v3/projects" DomainManager projects::create),
        endpoint!(GET "/v3/projects/{project_id}" Token projects::show),
        endpoint!(PATCH "/v3/projects/{project_id}" DomainManager projects::update),
        endpoint!(DELETE "/v3/projects/{project_id}" DomainManager projects::delete),
        endpoint!(GET "/v3/projects/{project_id}/tags" Token projects::list_tags),
        endpoint!(PUT "/v3/projects/{project_id}/tags" DomainManager projects::put_tags),
        endpoint!(DELETE "/v3/projects/{project_id}/tags" DomainManager projects::delete_tags),
        endpoint!(GET "/v3/projects/{project_id}/tags/{tag}" Token projects::check_tag),
        endpoint!(PUT "/v3/projects/{project_id}/tags/{tag}" DomainManager projects::put_tag),
        endpoint!(DELETE "/v3/projects/{project_id}/tags/{tag}" DomainManager projects::delete_tag),
        endpoint!(GET "/v3/users" DomainReader users::index),
        endpoint!(POST "/v3/users" DomainManager users::create),
        endpoint!(GET "/v3/users/{user_id}" Token users::show),
        endpoint!(PATCH "/v3/users/{user_id}" DomainManager users::update),
        endpoint!(DELETE "/v3/users/{user_id}" DomainManager users::delete),
        endpoint!(POST "/v3/users/{user_id}/password" Public users::change_password),
        endpoint!(GET "/v3/users/{user_id}/projects" Token projects::of_user),
        endpoint!(GET "/v3/users/{user_id}/groups" Token users::list_groups),
        endpoint!(GET "/v3/groups" DomainReader groups::index),
        endpoint!(POST "/v3/groups" DomainManager groups::create),
        endpoint!(GET "/v3/groups/{group_id}" DomainReader groups::show),
        endpoint!(PATCH "/v3/groups/{group_id}" DomainManager groups::update),
        endpoint!(DELETE "/v3/groups/{group_id}" DomainManager groups::delete),
        endpoint!(GET "/v3/groups/{group_id}/users" DomainReader users::of_group),
        endpoint!(GET "/v3/groups/{group_id}/users/{user_id}" Token groups::check_member),
        endpoint!(PUT "/v3/groups/{group_id}/users/{user_id}" DomainManager groups::add_member),
        endpoint!(DELETE "/v3/groups/{group_id}/users/{user_id}" DomainManager groups::remove_member),
    ]
}

fn role_endpoints() -> Vec<Endpoint> {
    let mut endpoints = vec![
        endpoint!(GET "/v3/roles" DomainReader roles::index),
        endpoint!(POST "/v3/roles" Admin roles::create),
        endpoint!(GET "/v3/roles/{role_id}" DomainReader roles::show),
        endpoint!(PATCH "/v3/roles/{role_id}" Admin roles::update),
        endpoint!(DELETE "/v3/roles/{role_id}" Admin roles::delete),
        endpoint!(GET "/v3/roles/{role_id}/implies" SystemReader roles::list_implied),
        endpoint!(GET "/v3/roles/{role_id}/implies/{implied_id}" SystemReader roles::show_implied),
        endpoint!(HEAD "/v3/roles/{role_id}/implies/{implied_id}" SystemReader roles::check_implied),
        endpoint!(PUT "/v3/roles/{role_id}/implies/{implied_id}" Admin roles::create_implied),
        endpoint!(DELETE "/v3/roles/{role_id}/implies/{implied_id}" Admin roles::delete_implied),
        endpoint!(GET "/v3/role_inferences" SystemReader roles::list_inferences),
        endpoint!(GET "/v3/role_assignments" DomainReader assignments::index),
    ];
    // Each place and kind of actor: the list and the grant itself.
    macro_rules! grants {
        ($reads:ident $writes:ident $($list:literal $grant:literal)*) => {$(
            endpoints.push(endpoint!(GET $list $reads grants::index));
            endpoints.push(endpoint!(GET $grant $reads grants::show));
            endpoints.push(endpoint!(PUT $grant $writes grants::create));
            endpoints.push(endpoint!(DELETE $grant $writes grants::delete));
        )*};
    }
    grants! { SystemReader Admin
        "/v3/system/users/{user_id}/roles"
        "/v3/system/users/{user_id}/roles/{role_id}"
        "/v3/system/groups/{group_id}/roles"
        "/v3/system/groups/{group_id}/roles/{role_id}"
    }
    grants! { DomainReader DomainManager
        "/v3/projects/{project_id}/users/{user_id}/roles"
        "/v3/projects/{project_id}/users/{user_id}/roles/{role_id}"
        "/v3/projects/{project_id}/groups/{group_id}/roles"
        "/v3/projects/{project_id}/groups/{group_id}/roles/{role_id}"
        "/v3/domains/{domain_id}/users/{user_id}/roles"
        "/v3/domains/{domain_id}/users/{user_id}/roles/{role_id}"
        "/v3/domains/{domain_id}/groups/{group_id}/roles"
        "/v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}"
        "/v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/inherited_to_projects"
        "/v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects"
        "/v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/inherited_to_projects"
        "/v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects"
        "/v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/inherited_to_projects"
        "/v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects"
        "/v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/inherited_to_projects"
        "/v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects"
    }
    endpoints
}

fn catalog_endpoints() -> Vec<Endpoint> {
    vec![
        endpoint!(GET "/v3/regions" Token regions::index),
        endpoint!(POST "/v3/regions" Admin regions::create),
        endpoint!(GET "/v3/regions/{id}" Token regions::show),
        endpoint!(PUT "/v3/regions/{id}" Admin regions::create_as),
        endpoint!(PATCH "/v3/regions/{id}" Admin regions::update),
        endpoint!(DELETE "/v3/regions/{id}" Admin regions::delete),
        endpoint!(GET "/v3/services" SystemReader services::index),
        endpoint!(POST "/v3/services" Admin services::create),
        endpoint!(GET "/v3/services/{id}" SystemReader services::show),
        endpoint!(PATCH "/v3/services/{id}" Admin services::update),
        endpoint!(DELETE "/v3/services/{id}" Admin services::delete),
        endpoint!(GET "/v3/endpoints" SystemReader endpoints::index),
        endpoint!(POST "/v3/endpoints" Admin endpoints::create),
        endpoint!(GET "/v3/endpoints/{id}" SystemReader endpoints::show),
        endpoint!(PATCH "/v3/endpoints/{id}" Admin endpoints::update),
        endpoint!(DELETE "/v3/endpoints/{id}" Admin endpoints::delete),
    ]
}
