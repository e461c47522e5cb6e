//! The kinds that every cluster has, a file each: what the kind is, its strategy, and what becomes of the fields that users
//! write. A new one is a file and its two lines here.

mod configmap;
mod crd;
mod cronjob;
mod deployment;
mod endpointslice;
mod event;
mod job;
mod lease;
mod namespace;
mod node;
mod placement_validation;
pub mod pod;
mod pod_fields;
pub mod pod_validation;
mod replicaset;
mod review;
mod role;
mod secret;
pub mod service;
mod serviceaccount;
mod template;
mod webhook;

use crate::kind::ApiResource;

/// All of them, in the order of discovery.
pub fn all() -> Vec<ApiResource> {
    let mut all = vec![
        configmap::kind(),
        event::kind(),
        namespace::kind(),
        node::kind(),
        pod::kind(),
        secret::kind(),
        serviceaccount::kind(),
        service::kind(),
        deployment::kind(),
        replicaset::kind(),
        job::kind(),
        cronjob::kind(),
        webhook::kind(),
        crd::kind(),
    ];
    all.extend(review::kinds());
    all.extend([
        lease::kind(),
        endpointslice::kind(),
        event::new_kind(),
        role::cluster_role(),
        role::cluster_role_binding(),
        role::role(),
        role::role_binding(),
    ]);
    all
}
