//! Writes the list of services, so that one is added in one line: each folder that `lib.rs` declares as a module is a service.
//!
//! Refused: a macro that declares the modules, which rustfmt does not follow into their files; registration at link time.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src/lib.rs");
    let root = fs::read_to_string("src/lib.rs")?;
    let modules = root.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let folders = modules.filter(|name| Path::new("src").join(name).is_dir());
    let services: String = folders.map(|name| format!("&{name}::SERVICE, ")).collect();
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("services.rs"), format!("&[{services}]"))
}
