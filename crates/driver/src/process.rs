//! Processes that outlive us, known by more than a number: pids are reused, so a process is the one that we started only
//! if its start time and its command line are right too.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that runs, with what tells it from a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks between the host's boot and its start.
    started: u64,
}

/// Clock ticks of a second in `/proc`: the same on every Linux, whatever the kernel itself counts in.
pub const TICKS: u64 = 100;
/// Of the fields of [`stat`].
const STARTED: usize = 19;

/// The fields of a process's or a thread's `stat` file behind the program's name, which is in parentheses and may hold
/// anything: the first is the state.
pub fn stat(path: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// Whole seconds since the host's boot.
pub fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}

impl Process {
    /// For how many seconds it runs.
    pub fn seconds(&self) -> u64 {
        uptime().saturating_sub(self.started / TICKS)
    }

    /// The process of this number, unless there is none or it is a zombie.
    pub fn find(pid: i32) -> Option<Self> {
        let fields = stat(&format!("/proc/{pid}/stat"))?;
        let started = fields.get(STARTED)?.parse().ok()?;
        (!matches!(fields[0].as_str(), "Z" | "X")).then_some(Self { pid, started })
    }

    /// The process that was recorded in `pidfile`, if it still runs and `mark` is one of its arguments.
    pub fn recorded(pidfile: &Path, mark: &str) -> Option<Self> {
        let text = fs::read_to_string(pidfile).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let recorded: u64 = started.parse().ok()?;
        let process = Self::find(pid.parse().ok()?)?;
        (process.started == recorded && arguments(process.pid).iter().any(|a| a == mark)).then_some(process)
    }

    /// The process that has `mark` among its arguments and runs in `dir`; for when its record was lost.
    pub fn search(mark: &str, dir: &Path) -> Option<Self> {
        let dir = dir.canonicalize().ok()?;
        all().into_iter().find(|process| {
            let pid = process.pid;
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir)
                && arguments(pid).iter().any(|a| a == mark)
        })
    }

    /// Writes down which process this is.
    pub fn record(&self, pidfile: &Path) -> std::io::Result<()> {
        let new = pidfile.with_extension("new");
        // Not through a link that somebody else may have put there.
        match fs::remove_file(&new) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(format!("{} {}\n", self.pid, self.started).as_bytes())?;
        fs::rename(new, pidfile)
    }

    pub fn runs(&self) -> bool {
        Self::find(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal, unless the process is gone.
    pub fn signal(&self, signal: Signal) {
        if self.runs() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// KILL. False if that did not end it within five seconds.
    pub async fn kill(&self) -> bool {
        self.signal(Signal::SIGKILL);
        self.gone_within(Duration::from_secs(5)).await
    }

    /// TERM, and KILL if it does not end within `patience`. False if even that did not end it.
    pub async fn end(&self, patience: Duration) -> bool {
        self.signal(Signal::SIGTERM);
        self.gone_within(patience).await || self.kill().await
    }

    /// Whether it ended within that time.
    pub async fn gone_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.runs() {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }
}

/// The command line of a process.
pub fn arguments(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|b| *b == 0).filter(|a| !a.is_empty()).map(|a| String::from_utf8_lossy(a).into_owned()).collect()
}

/// All processes that run.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter_map(Process::find).collect()
}

/// Where a program is: in `PATH`, or where distributions put what only root runs.
pub fn which(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path()).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// `PATH` and the directories of root's programs, for children too: containerd looks for runc and its shim there.
pub fn search_path() -> String {
    let mut path = std::env::var("PATH").unwrap_or_default();
    for dir in ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        if !path.split(':').any(|p| p == dir) {
            path.push_str(if path.is_empty() { "" } else { ":" });
            path.push_str(dir);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_known_by_its_start_and_arguments() {
        let dir = tempfile::tempdir().unwrap();
        let pidfile = dir.path().join("pid");
        let mut child = tokio::process::Command::new("sleep").arg("1000.25").spawn().unwrap();
        let process = Process::find(child.id().unwrap() as i32).unwrap();
        process.record(&pidfile).unwrap();
        while arguments(process.pid).len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(Process::recorded(&pidfile, "1000.25"), Some(process));
        assert_eq!(Process::recorded(&pidfile, "another"), None);
        let other = Process { started: process.started + 1, ..process };
        other.record(&pidfile).unwrap();
        assert_eq!(Process::recorded(&pidfile, "1000.25"), None);
        assert!(!other.runs());
        process.signal(Signal::SIGKILL);
        child.wait().await.unwrap();
        assert!(!process.runs());
    }
}
