//! Which hosts have fallen silent. That a host lives is no row, so this is no planner: whoever plans hears the signs of life and
//! commits the one thing that others must know. A host that is heard again says so itself.

use std::collections::BTreeMap;

use model::{Change, Entry, Host, Snapshot, Time, node};

/// Hosts of which nothing was heard for too long. `since` is when this process began to listen.
pub fn silent(rows: &Snapshot, heard: &BTreeMap<String, Time>, since: Time, now: Time) -> Vec<Change> {
    let away = |host: &Host| {
        let last = heard.get(&host.name).copied().map_or(since, |last| last.max(since));
        host.is_up() && now.as_second() - last.as_second() > Host::SILENCE_SECONDS
    };
    let silence = |host: Entry<'_, Host>| {
        let mut change = Change::new();
        change.edit(host, |silent| {
            silent.status.silent = true;
            node::turn(silent, host.value, now);
        });
        change
    };
    rows.all::<Host>().filter(|host| away(host.value)).map(silence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_heard_for_long_enough_is_silent_once() {
        let at = |seconds: i64| Time::from_second(1_800_000_000 + seconds).unwrap();
        let mut rows = Snapshot::default();
        let mut change = Change::new();
        for name in ["heard", "never", "new"] {
            let mut host = Host::new(name, at(0));
            host.status.heartbeat = (name != "new").then(|| at(0));
            change.create(host);
        }
        rows.apply(1, &change.writes);
        let heard = BTreeMap::from([("heard".to_owned(), at(30))]);
        let silent = |rows: &Snapshot, now| -> Vec<String> {
            let changes = silent(rows, &heard, at(0), at(now));
            changes.iter().flat_map(|change| &change.writes).map(|write| write.key().name.to_string()).collect()
        };
        assert_eq!(silent(&rows, 35), [""; 0], "whoever listens has just begun");
        assert_eq!(silent(&rows, 40), ["never"]);
        assert_eq!(silent(&rows, 66), ["heard", "never"]);
        let changes = super::silent(&rows, &heard, at(0), at(40));
        rows.apply(2, &changes[0].writes);
        assert_eq!(silent(&rows, 41), [""; 0]);
    }
}
