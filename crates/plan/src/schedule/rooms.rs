//! What is free on each host, from the claims that stand: no row of what runs there is looked at.

use std::hash::{DefaultHasher, Hash, Hasher};

use model::{Aggregates, Event, Host, Vm};

use super::{Demand, Unfit, mib};
use crate::planner::Seen;

/// When so many hosts would do, the best of these is taken: with thousands of hosts the rest would hardly be better.
pub const ENOUGH: usize = 128;

/// A host and what is still free on it.
pub struct Room<'a> {
    pub host: &'a Host,
    aggregates: &'a Aggregates<'a>,
    cpu_milli: u64,
    memory_mib: u64,
    disk_mib: u64,
}

impl Room<'_> {
    pub fn take(&mut self, cpu_milli: u64, memory_mib: u64, disk_mib: u64) {
        self.cpu_milli = self.cpu_milli.saturating_sub(cpu_milli);
        self.memory_mib = self.memory_mib.saturating_sub(memory_mib);
        self.disk_mib = self.disk_mib.saturating_sub(disk_mib);
    }

    pub fn unfit(&self, demand: &Demand) -> Option<Unfit> {
        let has = |name: &String| self.host.traits.contains(name);
        let aggregate = |(key, value): &&(String, String)| !self.aggregates.has(&self.host.name, key, value);
        let group_full = demand.group.as_ref().is_some_and(|group| group.forbids(&self.host.name));
        if demand.host.as_ref().is_some_and(|asked| *asked != self.host.name) {
            Some(Unfit::NotAsked)
        } else if !self.aggregates.admits(&self.host.name, &demand.project) {
            Some(Unfit::Reserved)
        } else if demand.zone.as_ref().is_some_and(|zone| zone != self.aggregates.zone(&self.host.name)) {
            Some(Unfit::Zone)
        } else if let Some((key, _)) = demand.aggregates.iter().find(aggregate) {
            Some(Unfit::Aggregate(key.clone()))
        } else if !self.host.enabled {
            Some(Unfit::Disabled)
        } else if !self.host.is_up() {
            Some(Unfit::Silent)
        } else if let Some(name) = demand.traits.iter().find(|t| !has(t)) {
            Some(Unfit::Trait(name.clone()))
        } else if let Some(name) = demand.forbidden_traits.iter().find(|t| has(t)) {
            Some(Unfit::Trait(name.clone()))
        } else if group_full {
            Some(Unfit::Group)
        } else if demand.prefer.as_ref() != Some(&self.host.name) && demand.neighbours.forbid(&self.host.name) {
            Some(Unfit::Neighbours)
        } else if demand.cpu_milli > self.cpu_milli {
            Some(Unfit::Cpu { asked: demand.cpu_milli, free: self.cpu_milli })
        } else if demand.memory_mib > self.memory_mib {
            Some(Unfit::Memory { asked: demand.memory_mib, free: self.memory_mib })
        } else if demand.disk_mib > self.disk_mib {
            Some(Unfit::Disk { asked: demand.disk_mib, free: self.disk_mib })
        } else {
            None
        }
    }

    /// The larger the better, in thousandths: how much stays free of what would be scarcest, then preferences.
    pub fn weight(&self, demand: &Demand) -> i64 {
        let part = |free: u64, asked: u64, all: u64| (free.saturating_sub(asked) * 1000).checked_div(all).unwrap_or(0);
        let cpu = part(self.cpu_milli, demand.cpu_milli, self.host.cpu_milli);
        let memory = part(self.memory_mib, demand.memory_mib, self.host.memory_mib);
        let preferred = if demand.prefer.as_deref() == Some(&*self.host.name) { 100_000 } else { 0 };
        let company = demand.group.as_ref().map_or(0, |group| group.weight(&self.host.name));
        cpu.min(memory) as i64 + preferred + company
    }
}

/// All hosts, by name.
pub struct Rooms<'a>(Vec<Room<'a>>);

impl<'a> Rooms<'a> {
    pub fn of(seen: &Seen<'a>, aggregates: &'a Aggregates<'a>) -> Self {
        let room = |host: &'a Host| {
            let free =
                |resource: &str, all: u64| all.saturating_sub(seen.ledger.pool(&Host::pool(&host.name, resource)).used);
            Room {
                host,
                aggregates,
                cpu_milli: free("cpu", host.cpu_milli),
                memory_mib: free("memory", host.memory_mib),
                disk_mib: free("disk", mib(host.disk_gib)),
            }
        };
        Self(seen.rows.all::<Host>().map(|host| room(host.value)).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn names(&self) -> impl Iterator<Item = &'a String> {
        self.0.iter().map(|room| &room.host.name)
    }

    /// Every host, each asker beginning elsewhere where there are more than would be looked at.
    pub fn from(&self, asker: &str) -> impl Iterator<Item = &Room<'a>> {
        let start = match self.0.len() {
            few if few <= ENOUGH => 0,
            many => {
                let mut hasher = DefaultHasher::new();
                asker.hash(&mut hasher);
                (hasher.finish() % many as u64) as usize
            }
        };
        self.0[start..].iter().chain(&self.0[..start])
    }

    pub fn take(&mut self, host: &str, cpu_milli: u64, memory_mib: u64, disk_mib: u64) {
        if let Some(room) = self.get_mut(host) {
            room.take(cpu_milli, memory_mib, disk_mib);
        }
    }

    /// What a VM takes is free.
    pub fn give_back(&mut self, vm: &Vm) {
        if let Some(room) = vm.host.as_ref().and_then(|host| self.get_mut(host)) {
            room.cpu_milli += vm.cpu_milli;
            room.memory_mib += vm.memory_mib;
            room.disk_mib += mib(vm.disk_gib);
        }
    }

    fn get_mut(&mut self, host: &str) -> Option<&mut Room<'a>> {
        let at = self.0.binary_search_by(|room| room.host.name.as_str().cmp(host)).ok()?;
        self.0.get_mut(at)
    }
}

/// Whether an event says more of a host than how it is.
pub fn changed(event: &Event) -> bool {
    let read =
        |host: &Host| (host.cpu_milli, host.memory_mib, host.disk_gib, host.enabled, host.is_up(), host.traits.clone());
    super::changed::<Host, _>(event, read)
}
