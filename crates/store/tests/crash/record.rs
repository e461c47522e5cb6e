//! The record of what a process did to its files; see `record.c`.

use std::path::Path;
use std::process::Command;

#[derive(Debug)]
pub enum Action {
    Write { offset: usize, data: Vec<u8> },
    Truncate { length: usize },
    Sync,
    Unlink,
}

#[derive(Debug)]
pub struct Operation {
    pub file: String,
    pub action: Action,
}

/// Compiles the recorder and has the command run under it.
pub fn preload<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    let library = folder.join("record.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash/record.c");
    let made = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, Path::new(source)]).status();
    assert!(made.expect("a C compiler is there, as for SQLite itself").success());
    command.env("LD_PRELOAD", library).env("RECORD_FOLDER", folder.join("files"))
}

pub fn read(mut log: &[u8]) -> Vec<Operation> {
    let mut operations = Vec::new();
    while let Some((kind, rest)) = log.split_first() {
        let number = |n: usize| u64::from_ne_bytes(rest[n * 8..n * 8 + 8].try_into().unwrap()) as usize;
        let (name, data, offset) = (number(0), number(1), number(2));
        let (file, rest) = rest[24..].split_at(name);
        let held = if *kind == b'W' { data } else { 0 };
        let (data, rest) = rest.split_at(held);
        let action = match kind {
            b'W' => Action::Write { offset, data: data.to_vec() },
            b'T' => Action::Truncate { length: offset },
            b'S' => Action::Sync,
            b'D' => Action::Unlink,
            other => panic!("operation {other}"),
        };
        operations.push(Operation { file: String::from_utf8(file.to_vec()).unwrap(), action });
        log = rest;
    }
    operations
}
