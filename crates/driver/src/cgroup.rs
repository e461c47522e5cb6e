//! The control groups below one of our own: every pod is a child of `/<prefix>`, every VM one of `/<prefix>-vms`. For pods
//! the runtime makes them and removes each container's; the pods' own are left to whoever chose the parent, which is us.
//! Both layouts are the same to us: v1 has one tree for each controller, v2 one for all, and a hybrid has both.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::Process;

/// The kernel lets go of a group a moment after its last process.
const PATIENCE: Duration = Duration::from_secs(5);

/// A tree of control groups.
struct Tree {
    root: PathBuf,
    /// The options of its mount, among them v1's controllers.
    options: String,
    unified: bool,
}

impl Tree {
    fn has(&self, controller: &str) -> bool {
        if !self.unified {
            return self.options.split(',').any(|option| option == controller);
        }
        let all = fs::read_to_string(self.root.join("cgroup.controllers")).unwrap_or_default();
        all.split_whitespace().any(|have| have == controller)
    }
}

/// Where control groups are mounted: one place in v2, many in v1.
fn trees() -> Vec<Tree> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, target, kind, options) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            kind.starts_with("cgroup").then(|| Tree {
                root: PathBuf::from(target),
                options: options.to_owned(),
                unified: kind == "cgroup2",
            })
        })
        .collect()
}

fn mounts() -> Vec<PathBuf> {
    trees().into_iter().map(|tree| tree.root).collect()
}

/// What the processes of a group may take together; what is not said is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Its share where cores are short, in thousandths of a core.
    pub cpu_milli: Option<u64>,
}

/// Makes a group and limits it, and puts a process with all its threads into it, if one is given. The error says which
/// limit there is not.
pub fn confine(group: &str, limits: &Limits, pid: Option<u32>) -> io::Result<()> {
    let group = Path::new(group.trim_start_matches('/'));
    let shares = limits.cpu_milli.map(|milli| (milli.saturating_mul(1024) / 1000).clamp(2, 262_144));
    let weight = limits.cpu_milli.map(|milli| (milli / 10).clamp(1, 10_000));
    let wanted = [
        ("memory", "memory.limit_in_bytes", "memory.max", limits.memory, limits.memory),
        ("pids", "pids.max", "pids.max", limits.pids, limits.pids),
        ("cpu", "cpu.shares", "cpu.weight", shares, weight),
    ];
    let trees = trees();
    for (controller, first, second, old, new) in wanted {
        let (Some(old), Some(new)) = (old, new) else { continue };
        let missing = || io::Error::other(format!("there is no controller {controller}"));
        let tree = trees.iter().find(|tree| tree.has(controller)).ok_or_else(missing)?;
        let dir = tree.root.join(group);
        if tree.unified {
            let above = group.ancestors().skip(1).map(|part| tree.root.join(part)).collect::<Vec<_>>();
            for part in above.iter().rev() {
                fs::create_dir_all(part)?;
                fs::write(part.join("cgroup.subtree_control"), format!("+{controller}"))?;
            }
        }
        fs::create_dir_all(&dir)?;
        let (file, value) = if tree.unified { (second, new) } else { (first, old) };
        fs::write(dir.join(file), value.to_string())?;
        if let Some(pid) = pid {
            fs::write(dir.join("cgroup.procs"), pid.to_string())?;
        }
    }
    Ok(())
}

/// Removes a group and those below it in every tree. Groups in which something runs stay; what has just ended leaves its
/// group a moment later, for which this waits.
pub async fn remove(group: &str) {
    let dirs: Vec<_> = mounts().into_iter().map(|mount| mount.join(group.trim_start_matches('/'))).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        dirs.iter().for_each(|dir| remove_tree(dir));
        let runs = processes(group).into_iter().any(|pid| Process::find(pid).is_some());
        if runs || !dirs.iter().any(|dir| dir.exists()) || Instant::now() > deadline {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn remove_tree(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

/// The processes in a group and below it.
pub fn processes(group: &str) -> Vec<i32> {
    let mut pids = Vec::new();
    for mount in mounts() {
        collect(&mount.join(group.trim_start_matches('/')), &mut pids);
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Kills every process in a group and below it; how many there were.
pub fn kill_all(group: &str) -> usize {
    let pids = processes(group);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Where control groups cannot be made, there is nothing to be tested.
    #[test]
    fn a_process_is_confined() {
        let group = format!("braid-test-{}/one", std::process::id());
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let limits = Limits { memory: Some(64 << 20), pids: Some(7), cpu_milli: Some(1500) };
        let confined = confine(&group, &limits, Some(child.id()));
        let (inside, said) = (fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap(), |name: &str| {
            let files = mounts().into_iter().map(|mount| mount.join(&group).join(name));
            files.filter_map(|file| fs::read_to_string(file).ok()).map(|text| text.trim().to_owned()).next()
        });
        let pids = said("pids.max");
        let memory = said("memory.limit_in_bytes").or(said("memory.max"));
        child.kill().unwrap();
        child.wait().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(remove(group.split('/').next().unwrap()));
        if confined.is_ok() {
            assert!(inside.lines().filter(|line| line.ends_with(&group)).count() >= 1, "{inside}");
            assert_eq!((pids.as_deref(), memory.as_deref()), (Some("7"), Some("67108864")));
        }
    }
}
