//! What is free on each host, from the claims that stand: no row of what runs there is looked at, and no host's claims before
//! somebody asks for the host: most plans look at few of them.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};

use model::{Aggregates, Event, Host, Kind, Ledger, Resource, Revision, Row, Vm, node};

use super::{Demand, Unfit, mib};
use crate::planner::Seen;

/// When so many hosts would do, the best of these is taken: with thousands of hosts the rest would hardly be better.
pub const ENOUGH: usize = 32;

/// A host and what is still free on it.
#[derive(Clone, Copy)]
pub struct Room<'r, 'a> {
    pub host: &'a Host,
    rooms: &'r Rooms<'a>,
    place: &'r Place<'a>,
}

/// A host that perhaps nobody looks at.
struct Place<'a> {
    row: &'a Row,
    /// `None`: not asked for yet.
    free: Cell<Option<Free>>,
}

/// What is free.
#[derive(Clone, Copy)]
struct Free {
    cpu_milli: u64,
    memory_mib: u64,
    disk_mib: u64,
}

impl Room<'_, '_> {
    fn free(&self) -> Free {
        if let Some(free) = self.place.free.get() {
            return free;
        }
        let host = self.host;
        let mut free = Free { cpu_milli: host.cpu_milli, memory_mib: host.memory_mib, disk_mib: mib(host.disk_gib) };
        for (resource, pool) in self.rooms.ledger.pools(&Host::pool(&host.name, "")) {
            let left = match resource {
                "cpu" => &mut free.cpu_milli,
                "memory" => &mut free.memory_mib,
                "disk" => &mut free.disk_mib,
                _ => continue,
            };
            *left = left.saturating_sub(pool.used);
        }
        self.place.free.set(Some(free));
        free
    }

    fn take(&self, cpu_milli: u64, memory_mib: u64, disk_mib: u64) {
        let free = self.free();
        self.place.free.set(Some(Free {
            cpu_milli: free.cpu_milli.saturating_sub(cpu_milli),
            memory_mib: free.memory_mib.saturating_sub(memory_mib),
            disk_mib: free.disk_mib.saturating_sub(disk_mib),
        }));
    }

    /// Whether it is not reserved for other projects.
    pub fn is_for(&self, project: &str) -> bool {
        self.rooms.aggregates.admits(&self.host.name, project)
    }

    pub fn unfit(&self, demand: &Demand) -> Option<Unfit> {
        let has = |name: &String| self.host.traits.contains(name);
        let aggregate = |(key, value): &&(String, String)| !self.rooms.aggregates.has(&self.host.name, key, value);
        let group_full = demand.group.as_ref().is_some_and(|group| group.forbids(&self.host.name));
        if demand.host.as_ref().is_some_and(|asked| *asked != self.host.name) {
            Some(Unfit::NotAsked)
        } else if !self.is_for(&demand.project) {
            Some(Unfit::Reserved)
        } else if demand.zone.as_ref().is_some_and(|zone| zone != self.rooms.aggregates.zone(&self.host.name)) {
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
        } else {
            let free = self.free();
            if demand.cpu_milli > free.cpu_milli {
                Some(Unfit::Cpu { asked: demand.cpu_milli, free: free.cpu_milli })
            } else if demand.memory_mib > free.memory_mib {
                Some(Unfit::Memory { asked: demand.memory_mib, free: free.memory_mib })
            } else if demand.disk_mib > free.disk_mib {
                Some(Unfit::Disk { asked: demand.disk_mib, free: free.disk_mib })
            } else {
                None
            }
        }
    }

    /// The larger the better, in thousandths: how much stays free of what would be scarcest, then preferences.
    pub fn weight(&self, demand: &Demand) -> i64 {
        let part = |free: u64, asked: u64, all: u64| (free.saturating_sub(asked) * 1000).checked_div(all).unwrap_or(0);
        let free = self.free();
        let cpu = part(free.cpu_milli, demand.cpu_milli, self.host.cpu_milli);
        let memory = part(free.memory_mib, demand.memory_mib, self.host.memory_mib);
        let preferred = if demand.prefer.as_deref() == Some(&*self.host.name) { 100_000 } else { 0 };
        let company = demand.group.as_ref().map_or(0, |group| group.weight(&self.host.name));
        cpu.min(memory) as i64 + preferred + company
    }
}

/// All hosts, by name.
pub struct Rooms<'a> {
    places: Vec<Place<'a>>,
    aggregates: &'a Aggregates<'a>,
    ledger: &'a Ledger,
}

impl<'a> Rooms<'a> {
    pub fn of(seen: &Seen<'a>, aggregates: &'a Aggregates<'a>) -> Self {
        let places = seen.rows.of_kind(Kind::Host).map(|row| Place { row, free: Cell::new(None) });
        Self { places: places.collect(), aggregates, ledger: seen.ledger }
    }

    pub fn hosts(&self) -> impl Iterator<Item = &'a Host> {
        self.places.iter().filter_map(|place| Host::of(&place.row.object))
    }

    fn room<'r>(&'r self, place: &'r Place<'a>) -> Option<Room<'r, 'a>> {
        Some(Room { host: Host::of(&place.row.object)?, rooms: self, place })
    }

    /// Every host with its number, each asker beginning elsewhere where there are more than would be looked at, and the next
    /// time at the next one.
    pub fn from(&self, asker: u64, time: usize) -> impl Iterator<Item = (usize, Room<'_, 'a>)> {
        let start = match self.places.len() {
            few if few <= ENOUGH => 0,
            many => (asker.wrapping_add(time as u64) % many as u64) as usize,
        };
        let all = || self.places.iter().enumerate();
        let around = all().skip(start).chain(all().take(start));
        around.filter_map(|(number, place)| Some((number, self.room(place)?)))
    }

    pub fn take(&self, host: &str, cpu_milli: u64, memory_mib: u64, disk_mib: u64) {
        if let Some(room) = self.get(host) {
            room.take(cpu_milli, memory_mib, disk_mib);
        }
    }

    /// What a VM takes is free.
    pub fn give_back(&self, vm: &Vm) {
        if let Some(room) = vm.host.as_ref().and_then(|host| self.get(host)) {
            let free = room.free();
            room.place.free.set(Some(Free {
                cpu_milli: free.cpu_milli + vm.cpu_milli,
                memory_mib: free.memory_mib + vm.memory_mib,
                disk_mib: free.disk_mib + mib(vm.disk_gib),
            }));
        }
    }

    fn get(&self, host: &str) -> Option<Room<'_, 'a>> {
        let at = self.places.binary_search_by(|place| (*place.row.key.name).cmp(host)).ok()?;
        self.room(self.places.get(at)?)
    }
}

/// Whose search for a host it is, as a number that says where to begin: another one with each revision, so that one who asks
/// for many does not fill the same hosts first.
pub fn asker(name: &str, revision: Revision) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, revision).hash(&mut hasher);
    hasher.finish()
}

/// Whether an event says more of a host than how it is.
pub fn changed(event: &Event) -> bool {
    let has = |host: &Host| (host.cpu_milli, host.memory_mib, host.disk_gib, host.enabled, host.is_up());
    let says = |host: &Host, other: &Host| {
        let (status, others) = (&host.status, &other.status);
        host.traits != other.traits || status.short != others.short || node::labels(host) != node::labels(other)
    };
    super::changed(event, |host: &Host, other: &Host| has(host) != has(other) || says(host, other))
}

#[cfg(test)]
mod tests {
    use model::{Change, Snapshot, Time};

    use super::*;

    #[test]
    fn each_search_begins_elsewhere_and_reads_only_what_it_looks_at() {
        let mut change = Change::new();
        (0..1000).for_each(|n| _ = change.create(Host::new(&format!("h{n:04}"), Time::UNIX_EPOCH)));
        let mut rows = Snapshot::default();
        rows.apply(1, &change.writes);
        let (ledger, aggregates) = (Ledger::of(&rows), Aggregates::default());
        let rooms = Rooms::of(&Seen { rows: &rows, ledger: &ledger }, &aggregates);
        let numbers = |asker: u64, time: usize| rooms.from(asker, time).map(|(number, _)| number).collect::<Vec<_>>();
        let first = numbers(asker("c", 1), 0);
        assert!(
            first.len() == 1000 && (0..1000).all(|number| first.contains(&number)),
            "everybody is looked at at last"
        );
        assert_eq!(numbers(asker("c", 1), 1)[..100], first[1..101], "the next search takes one new host");
        assert_ne!(numbers(asker("c", 2), 0)[0], first[0]);
        assert_ne!(numbers(asker("d", 1), 0)[0], first[0]);
        rooms.from(asker("c", 1), 0).take(10).for_each(|(_, room)| _ = room.unfit(&Demand::default()));
        rooms.take("h0500", 1, 1, 1);
        let read = rooms.places.iter().filter(|place| place.free.get().is_some()).count();
        assert!(read <= 11, "{read} hosts were read");
    }
}
