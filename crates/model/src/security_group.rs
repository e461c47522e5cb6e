//! Who may talk to a port. The same groups hold for VMs and pods.

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Index, Key, Kind, Limited, Resource, Snapshot, Time, quota};

/// A Neutron security group: rules that allow; what no rule allows is dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecurityGroup {
    pub id: String,
    pub project_id: String,
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// `false`: every packet is judged by itself, answers too.
    pub stateful: bool,
    #[serde(default)]
    pub tags: Vec<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

impl SecurityGroup {
    /// A group without rules.
    pub fn new(id: impl Into<String>, project_id: impl Into<String>, name: impl Into<String>, now: Time) -> Self {
        Self {
            id: id.into(),
            project_id: project_id.into(),
            name: name.into(),
            description: String::new(),
            stateful: true,
            tags: Vec::new(),
            created_at: now,
            updated_at: now,
        }
    }
}

/// What is said to who wants a port to be in groups of both sorts.
pub const BOTH_SORTS: &str =
    "Error cannot apply both stateful and stateless security groups on the same port while attempting the operation.";

/// Whether some of the groups are stateful and some are not: a port is only in groups of one sort.
pub fn of_both_sorts(rows: &Snapshot, groups: &[String]) -> bool {
    let mut sorts = groups.iter().filter_map(|id| rows.get::<SecurityGroup>(id)).map(|group| group.value.stateful);
    let first = sorts.next();
    sorts.any(|sort| Some(sort) != first)
}

impl Resource for SecurityGroup {
    kind!(SecurityGroup: of a project);
    const QUOTAS: &[Limited] = &[Limited::new("security_group", 10)];
    fn claims(&self) -> Vec<Claim> {
        let mut claims: Vec<Claim> = quota::uses(&self.project_id, "security_group", 1).into_iter().collect();
        if self.name == "default" {
            claims.push(Claim::Unique(format!("default-security-group/{}", self.project_id)));
        }
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Name, self.name.clone())]
    }
}

/// Which way packets go, seen from the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Ingress,
    Egress,
}

/// The IP protocols that rules may name, with their numbers.
pub const PROTOCOLS: &[(&str, u8)] = &[
    ("ah", 51),
    ("dccp", 33),
    ("egp", 8),
    ("esp", 50),
    ("gre", 47),
    ("hopopt", 0),
    ("icmp", 1),
    ("icmpv6", 58),
    ("igmp", 2),
    ("ip", 0),
    ("ipip", 4),
    ("ipv6-encap", 41),
    ("ipv6-frag", 44),
    ("ipv6-icmp", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("ipv6-route", 43),
    ("ospf", 89),
    ("pgm", 113),
    ("rsvp", 46),
    ("sctp", 132),
    ("tcp", 6),
    ("udp", 17),
    ("udplite", 136),
    ("vrrp", 112),
];

/// A rule of a security group: what it allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecurityGroupRule {
    pub id: String,
    pub project_id: String,
    pub group_id: String,
    pub direction: Direction,
    /// `false`: IPv4.
    pub ipv6: bool,
    /// As the user wrote it: `tcp`, `icmp`, `6`; `None` is any.
    pub protocol: Option<String>,
    /// Ports, or ICMP type and code.
    pub port_min: Option<u16>,
    pub port_max: Option<u16>,
    /// Packets to or from these addresses: CIDR.
    pub remote_ip_prefix: Option<String>,
    /// Packets to or from ports of this group.
    pub remote_group_id: Option<String>,
    /// Packets to or from addresses of this address group, which may be another project's.
    #[serde(default)]
    pub remote_address_group: Option<Key>,
    #[serde(default)]
    pub description: String,
    pub created_at: Time,
    pub updated_at: Time,
}

impl SecurityGroupRule {
    /// A rule of the group that lets everything through, to or from everybody.
    pub fn new(id: impl Into<String>, group: &SecurityGroup, direction: Direction, ipv6: bool, now: Time) -> Self {
        Self {
            id: id.into(),
            project_id: group.project_id.clone(),
            group_id: group.id.clone(),
            direction,
            ipv6,
            protocol: None,
            port_min: None,
            port_max: None,
            remote_ip_prefix: None,
            remote_group_id: None,
            remote_address_group: None,
            description: String::new(),
            created_at: now,
            updated_at: now,
        }
    }

    /// The IP protocol's number; `None` is any. `icmp` in an IPv6 rule means ICMPv6, as in Neutron.
    pub fn protocol_number(&self) -> Option<u8> {
        let text = self.protocol.as_deref()?;
        let number = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, n)| *n).or_else(|| text.parse().ok())?;
        Some(if self.ipv6 && number == 1 { 58 } else { number })
    }

    /// Says the same as every other rule with an equal value, whatever its id.
    fn meaning(&self) -> String {
        let mut meaning = format!(
            "{}/{:?}/{}/{:?}/{:?}/{:?}/{:?}/{:?}",
            self.group_id,
            self.direction,
            self.ipv6,
            self.protocol,
            self.port_min,
            self.port_max,
            self.remote_ip_prefix,
            self.remote_group_id
        );
        // Rules without one have the name that they always had.
        if let Some(group) = &self.remote_address_group {
            meaning.push('/');
            meaning.push_str(&group.name);
        }
        meaning
    }
}

impl Resource for SecurityGroupRule {
    kind!(SecurityGroupRule: of a project);
    const QUOTAS: &[Limited] = &[Limited::new("security_group_rule", 100)];
    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![
            Claim::Needs(Key::new(Kind::SecurityGroup, self.realm(), self.group_id.as_str())),
            Claim::Unique(format!("rule/{}", self.meaning())),
        ];
        claims.extend(self.remote_address_group.clone().map(Claim::Needs));
        claims.extend(quota::uses(&self.project_id, "security_group_rule", 1));
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        let groups = [Some(self.group_id.clone()), self.remote_address_group.as_ref().map(|key| key.name.to_string())];
        groups.into_iter().flatten().map(|id| (Index::Owner, id)).collect()
    }
}

/// The group that every project has, and its rules: out to anywhere, in from the group's own members. Its ids are made
/// from the project's, so that whoever finds it missing first makes the same rows.
pub fn default_security_group(project_id: &str, now: Time) -> (SecurityGroup, Vec<SecurityGroupRule>) {
    let id = crate::derived_id(&["default-security-group", project_id]);
    let group = SecurityGroup {
        description: "Default security group".into(),
        ..SecurityGroup::new(id, project_id, "default", now)
    };
    let rule = |direction: Direction, ipv6: bool| {
        let id = crate::derived_id(&["default-rule", &group.id, &format!("{direction:?}"), &ipv6.to_string()]);
        let remote_group_id = (direction == Direction::Ingress).then(|| group.id.clone());
        SecurityGroupRule { remote_group_id, ..SecurityGroupRule::new(id, &group, direction, ipv6, now) }
    };
    let both = [Direction::Egress, Direction::Ingress];
    let rules: Vec<_> = both.into_iter().flat_map(|d| [rule(d, false), rule(d, true)]).collect();
    (group, rules)
}
