//! The targets of the crate `fuzz` under libFuzzer, which keeps the inputs that reach something new: `FUZZ_TARGET` names
//! one. `scripts/fuzz-guided` builds and runs it.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use fuzz::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("FUZZ_TARGET={name} is no target"))
});

/// Puts the seeds into the folder of inputs, if one is given.
fn plant() {
    let Some(folder) = std::env::args().skip(1).find(|argument| Path::new(argument).is_dir()) else { return };
    for (number, seed) in (TARGET.seeds)().iter().enumerate() {
        let file = Path::new(&folder).join(format!("seed-{number}"));
        std::fs::write(&file, seed).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

libfuzzer_sys::fuzz_target!(
    init: plant(),
    |input: &[u8]| {
        if let Err(why) = fuzz::read(&TARGET, input) {
            panic!("{}: {why}", TARGET.name);
        }
    }
);
