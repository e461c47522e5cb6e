//! The simulator notices every bug that is made on purpose; see `docs/simulation.md`.

#![allow(clippy::print_stdout, reason = "which seed noticed what, for those who ask with --nocapture")]

use std::collections::BTreeMap;

use sim::Mutation;

/// Within so many it must be noticed; most are by the first few.
const SEEDS: u64 = 200;

/// `SIM_COUNT=100 cargo test -p sim --test mutations -- --nocapture` says how many of a hundred seeds notice each, and what
/// most of them complain about.
fn noticed(mutation: Mutation) {
    if let Some(seeds) = std::env::var("SIM_COUNT").ok().and_then(|text| text.parse::<u64>().ok()) {
        let mut complaints: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for why in (0..seeds).filter_map(|seed| sim::run_with(seed, Some(mutation)).err()) {
            let why = why.split_once("): ").filter(|_| why.starts_with("after step")).map_or(&*why, |(_, why)| why);
            let why: String = why.chars().take(160).collect();
            complaints.entry(why.chars().filter(|c| c.is_alphabetic()).take(24).collect()).or_default().push(why);
        }
        let count: usize = complaints.values().map(Vec::len).sum();
        let usual = complaints.values().max_by_key(|alike| alike.len()).map_or("", |alike| &alike[0]);
        return println!("{mutation:?}: {count} of {seeds} seeds: {usual}");
    }
    let found = (0..SEEDS).find_map(|seed| Some((seed, sim::run_with(seed, Some(mutation)).err()?)));
    let (seed, why) = found.unwrap_or_else(|| panic!("{SEEDS} seeds do not notice {mutation:?}"));
    println!("{mutation:?}: seed {seed}: {}", why.chars().take(160).collect::<String>());
}

macro_rules! mutations {
    ($($name:ident: $mutation:ident,)*) => {$(
        #[test]
        fn $name() {
            noticed(Mutation::$mutation);
        }
    )*};
}

mutations! {
    addresses: Addresses,
    macs: Macs,
    names: Names,
    quota: Quota,
    room: Room,
    missing: Missing,
    in_use: InUse,
    revisions: Revisions,
    who_asked: WhoAsked,
    placements: Placements,
    derived_ids: DerivedIds,
    prune: Prune,
    adoption: Adoption,
    watch: Watch,
    aside: Aside,
    identity: Identity,
    generations: Generations,
    no_pods: NoPods,
    lost_pods: LostPods,
    reboots: Reboots,
    rules: Rules,
    two_incarnations: TwoIncarnations,
    deaf: Deaf,
    stuck: Stuck,
    kept_disks: KeptDisks,
    believed: Believed,
    unasked: Unasked,
    lost_servers: LostServers,
    wires: Wires,
    left_ports: LeftPorts,
    beats: Beats,
    untold: Untold,
    again: Again,
    ends: Ends,
    codes: Codes,
    job_pods: JobPods,
    run_on: RunOn,
    uncounted: Uncounted,
    counted_twice: CountedTwice,
    endless: Endless,
    ended: Ended,
    parallelism: Parallelism,
    suspended: Suspended,
    backoff_limit: BackoffLimit,
    job_deadline: JobDeadline,
    expiry: Expiry,
    held_pods: HeldPods,
    active: Active,
    schedules: Schedules,
    moments: Moments,
    concurrency: Concurrency,
    starting_deadline: StartingDeadline,
    job_history: JobHistory,
}
