//! A pod on its way to the runtime: what its environment, its volumes and its instructions are all made from. Below them,
//! because they are made from one another too.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use model::host_view::{HostView, PodView};
use model::wanted::Generation;
use model::{Fault, KubeObject, Port};

use crate::Agent;

/// All that instructions are made from.
pub struct Context<'a> {
    pub agent: &'a Agent,
    pub at: Generation,
    pub host: &'a HostView,
    pub of: &'a PodView,
    pub pod: &'a Pod,
    /// Where each volume lies on this host.
    pub volumes: &'a BTreeMap<String, PathBuf>,
}

impl Context<'_> {
    pub fn spec(&self) -> Result<&PodSpec, Fault> {
        self.pod.spec.as_ref().ok_or_else(|| Fault::invalid("the pod has no spec"))
    }

    /// The pod as it was asked for.
    pub fn row(&self) -> &KubeObject {
        &self.of.pod
    }

    pub fn port(&self) -> Option<&Port> {
        self.of.port.as_ref()
    }

    /// The pod's first address.
    pub fn address(&self) -> Option<String> {
        Some(self.port()?.fixed_ips.first()?.ip.to_string())
    }
}
