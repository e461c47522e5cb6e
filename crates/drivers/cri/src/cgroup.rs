//! The control groups below one of our own: every pod is a child of `/<prefix>`. The runtime makes them and removes each
//! container's; the pods' own are left to whoever chose the parent, which is us. Both layouts are the same to us: v1 has
//! one tree for each controller, v2 one for all, and a hybrid has both.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where control groups are mounted: one place in v2, many in v1.
fn mounts() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
            kind.starts_with("cgroup").then(|| PathBuf::from(target))
        })
        .collect()
}

/// Removes a group and those below it in every tree. Groups in which something runs stay.
pub fn remove(group: &str) {
    for mount in mounts() {
        remove_tree(&mount.join(group.trim_start_matches('/')));
    }
}

fn remove_tree(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // Not there, or still in use: the next pass tries again.
    let _ = fs::remove_dir(dir);
}

/// Kills every process in a group and below it; how many there were.
pub fn kill_all(group: &str) -> usize {
    let mut pids = Vec::new();
    for mount in mounts() {
        collect(&mount.join(group.trim_start_matches('/')), &mut pids);
    }
    pids.sort_unstable();
    pids.dedup();
    for pid in &pids {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    pids.len()
}

fn collect(dir: &Path, pids: &mut Vec<i32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // 0 is a process of another pid namespace, which kill() would take for our own group.
    pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect(&entry.path(), pids);
        }
    }
}
