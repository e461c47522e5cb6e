//! How fast a port or a floating IP may be, and how its packets are marked. The rules are part of the policy's row: there is
//! at most one of each sort and direction, so a commit that writes the policy has them all, and two rules of one sort cannot
//! be made at once.

use serde::{Deserialize, Serialize};

use crate::hostnet::{Qos, RateLimit};
use crate::resource::kind;
use crate::{Claim, Direction, Index, Key, Network, Resource, Snapshot, Time};

/// DSCP values that rules may set: those that have a name (RFC 2474, 2597, 3246, 5865), as in Neutron.
pub const DSCP_MARKS: [u8; 21] = [0, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 46, 48, 56];

/// A Neutron QoS policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QosPolicy {
    pub id: String,
    pub project_id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// New networks of its project have it unless they are given another.
    pub is_default: bool,
    pub rules: Vec<QosRule>,
    #[serde(default)]
    pub tags: Vec<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QosRule {
    pub id: String,
    pub effect: QosEffect,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QosEffect {
    /// Kilobits a second, and kilobits that may be sent at once; 0 of either: none is set.
    BandwidthLimit { max_kbps: u32, max_burst_kbps: u32, direction: Direction },
    /// What is written into the packets that are sent.
    DscpMarking { dscp_mark: u8 },
}

impl QosEffect {
    /// A policy has one of them at most.
    pub fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::BandwidthLimit { direction: one, .. }, Self::BandwidthLimit { direction: other, .. }) => {
                one == other
            }
            (Self::DscpMarking { .. }, Self::DscpMarking { .. }) => true,
            _ => false,
        }
    }
}

impl QosPolicy {
    /// What a host makes of the policy.
    pub fn effect(&self) -> Qos {
        let mut qos = Qos::default();
        for rule in &self.rules {
            match rule.effect {
                QosEffect::BandwidthLimit { max_kbps, max_burst_kbps, direction } => {
                    let limit = rate_limit(max_kbps, max_burst_kbps);
                    match direction {
                        Direction::Ingress => qos.ingress = limit,
                        Direction::Egress => qos.egress = limit,
                    }
                }
                QosEffect::DscpMarking { dscp_mark } => qos.dscp = Some(dscp_mark),
            }
        }
        qos
    }

    /// The effect of the policy with this key; of none, or of one that is gone, nothing.
    pub fn effect_of(rows: &Snapshot, policy: Option<&Key>) -> Qos {
        let policy = policy.and_then(|key| rows.at::<Self>(key));
        policy.map(|policy| policy.value.effect()).unwrap_or_default()
    }

    /// The policy of a network, which holds for what is on it and has none of its own.
    pub fn of_network(rows: &Snapshot, network: &str) -> Option<Key> {
        rows.get::<Network>(network)?.value.qos_policy.clone()
    }
}

/// Without a burst it is 80 % of what may pass in a second, as in Neutron: enough for TCP to come near the limit.
fn rate_limit(kbps: u32, burst: u32) -> Option<RateLimit> {
    let burst = if burst == 0 { u64::from(kbps) * 4 / 5 } else { burst.into() };
    (kbps > 0).then_some(RateLimit { rate: u64::from(kbps) * 125, burst: burst * 125 })
}

impl Resource for QosPolicy {
    kind!(QosPolicy: of a project);
    fn claims(&self) -> Vec<Claim> {
        let default = self.is_default.then(|| Claim::Unique(format!("default-qos-policy/{}", self.project_id)));
        default.into_iter().collect()
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Name, self.name.clone())]
    }
}
