//! The process that holds a cloud's folder, by an exclusive lock on its pid file: a lock ends with its process, however that ends,
//! so that no other one is ever taken for it.

use std::fs::File;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Problem;
use crate::paths::Dir;

/// How long the process may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Takes the folder for this process, or says who has it.
pub fn hold(dir: &Dir) -> Result<Flock<File>, Problem> {
    let what = || format!("taking {}", dir.pid().display());
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(dir.pid())
        .map_err(Problem::io(what()))?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, _)| {
        let pid = std::fs::read_to_string(dir.pid()).unwrap_or_default();
        Problem::words(format!("the cloud in {} is up already (pid {})", dir.path().display(), pid.trim()))
    })?;
    std::fs::write(dir.pid(), std::process::id().to_string()).map_err(Problem::io(what()))?;
    Ok(lock)
}

/// Ends the process that holds the folder; whether one does. The lock tells, so that no other process is ever hit.
pub fn stop(dir: &Dir) -> Result<bool, Problem> {
    let begun = Instant::now();
    let mut asked = false;
    loop {
        let Some(pid) = holder(dir)? else { return Ok(asked) };
        let signal = if begun.elapsed() > PATIENCE { Signal::SIGKILL } else { Signal::SIGTERM };
        if !asked || signal == Signal::SIGKILL {
            // It may have ended by itself just now.
            let _ = kill(pid, signal);
            asked = true;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// The process that holds the folder.
fn holder(dir: &Dir) -> Result<Option<Pid>, Problem> {
    let Ok(file) = File::open(dir.pid()) else { return Ok(None) };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Ok(None),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
            let text = std::fs::read_to_string(dir.pid()).map_err(Problem::io("reading the pid file"))?;
            let pid = text.trim().parse::<i32>().ok().filter(|pid| *pid > 1);
            let pid = pid.ok_or_else(|| Problem::words(format!("{} does not hold a pid", dir.pid().display())))?;
            Ok(Some(Pid::from_raw(pid)))
        }
        Err((_, e)) => Err(Problem::words(format!("looking at {}: {e}", dir.pid().display()))),
    }
}
