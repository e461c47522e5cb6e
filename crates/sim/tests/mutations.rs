//! The simulator notices every bug that is made on purpose; see `docs/simulation.md`.

#![allow(clippy::print_stdout, reason = "which seed noticed what, for those who ask with --nocapture")]

use sim::Mutation;

/// Within so many it must be noticed; most are by the first few.
const SEEDS: u64 = 200;

/// `SIM_COUNT=100 cargo test -p sim --test mutations -- --nocapture` says how many of a hundred seeds notice each.
fn noticed(mutation: Mutation) {
    if let Some(seeds) = std::env::var("SIM_COUNT").ok().and_then(|text| text.parse::<u64>().ok()) {
        let count = (0..seeds).filter(|seed| sim::run_with(*seed, Some(mutation)).is_err()).count();
        return println!("{mutation:?}: {count} of {seeds} seeds");
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
}
