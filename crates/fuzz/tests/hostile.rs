//! Mutations of the seeds, the same with every run: `FUZZ_SEED` plays others, `FUZZ_SECONDS` plays each target for so
//! long with seeds of chance (`make fuzz`). An input that is bad news is written into a file, which `FUZZ_INPUT` plays.

#![allow(clippy::print_stdout, reason = "what a long run did")]

use std::time::{Duration, Instant};

use fuzz::{TARGETS, Target, mutate, read};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays mutations until there are enough, and tells of those that are bad news.
fn play(target: &Target, mut chance: fastrand::Rng, enough: impl Fn(u32) -> bool) {
    let seeds = (target.seeds)();
    for seed in &seeds {
        if let Err(why) = read(target, seed) {
            report(target, seed, &why);
        }
    }
    let mut runs = 0;
    while !enough(runs) {
        runs += 1;
        let seed = &seeds[chance.usize(0..seeds.len())];
        let input = mutate::mutate(seed, &seeds, &mut chance);
        if let Err(why) = read(target, &input) {
            report(target, &input, &why);
        }
    }
    println!("{}: {runs} inputs", target.name);
}

fn report(target: &Target, input: &[u8], why: &str) -> ! {
    let file = std::env::temp_dir().join(format!("hostile-{}-{}", target.name, std::process::id()));
    let kept = std::fs::write(&file, input);
    panic!(
        "{}: {why}\n  FUZZ_INPUT={} cargo test -p fuzz {} plays it again ({kept:?}); it is:\n{}",
        target.name,
        file.display(),
        target.name,
        String::from_utf8_lossy(input)
    );
}

fn test(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    if let Ok(file) = std::env::var("FUZZ_INPUT") {
        let input = std::fs::read(&file).expect("the input");
        return read(target, &input).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
    match number("FUZZ_SECONDS") {
        Some(seconds) => {
            let (begun, seed) = (Instant::now(), number("FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..)));
            println!("{name}: FUZZ_SEED={seed}");
            play(target, fastrand::Rng::with_seed(seed), |_| begun.elapsed() > Duration::from_secs(seconds));
        }
        None => {
            let seed = number("FUZZ_SEED").unwrap_or(0);
            play(target, fastrand::Rng::with_seed(seed), |runs| runs >= target.runs);
        }
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            test(stringify!($name));
        })*

        /// A target without a test would never be played.
        #[test]
        fn all_are_played() {
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), [$(stringify!($name)),*]);
        }
    };
}

targets! { kube openstack registry dns dhcp dhcp6 qcow2 qmp cni exec forward }
