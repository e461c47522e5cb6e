//! A hundred seeds; one that fails prints the command that plays it again.

/// `SIM_SEED=7 cargo test -p sim --test seeds` plays one seed; `SIM_SEEDS=1000` plays the first thousand.
#[test]
fn seeds_hold() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(100),
    };
    let mut failures = Vec::new();
    let mut accepted = 0;
    for seed in seeds {
        match sim::run(seed) {
            Ok(report) => accepted += report.accepted,
            Err(why) => failures.push(format!("SIM_SEED={seed} cargo test -p sim --test seeds\n  {why}")),
        }
    }
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), failures.join("\n"));
    assert!(accepted > 0, "nothing was ever accepted: the simulation simulates nothing");
}

/// The same seed does the same thing, to the last row.
#[test]
fn a_seed_reproduces_its_run() {
    for seed in 0..8 {
        assert_eq!(sim::run(seed), sim::run(seed), "seed {seed}");
    }
}
