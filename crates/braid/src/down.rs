//! `braid down`: stops the control plane, and with `--purge` everything that it ever made on this machine.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use driver::{NetDriver, VmDriver};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::paths::Dir;
use crate::{DirArg, Problem, say, up};

#[derive(Args)]
pub struct DownArgs {
    #[command(flatten)]
    dir: DirArg,
    /// Also remove every VM, container, namespace, mount and file of the cloud. There is no way back.
    #[arg(long)]
    purge: bool,
}

/// How long the process may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(15);

pub fn run(args: &DownArgs) -> Result<ExitCode, Problem> {
    if args.purge && !args.dir.dir.exists() {
        say(format_args!("there is nothing in {}", args.dir.dir.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let dir = Dir::open(&args.dir.dir)?;
    if args.purge {
        dir.must_be_a_clouds()?;
    }
    stop(&dir)?;
    if args.purge {
        // A simulated cloud, which any user may have, has made nothing outside its folder.
        if up::host::is_real(&dir) {
            let runtime = tokio::runtime::Runtime::new().map_err(Problem::io("starting"))?;
            runtime.block_on(purge(&dir))?;
        }
        dir.remove()?;
        say(format_args!("removed everything in {}", dir.path().display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends the process that holds the folder, if one does. The lock tells, so that no other process is ever hit.
fn stop(dir: &Dir) -> Result<(), Problem> {
    let begun = Instant::now();
    let mut asked = false;
    loop {
        let Some(pid) = holder(dir)? else {
            say(match asked {
                true if up::host::is_real(dir) => "stopped; VMs and containers go on running",
                true => "stopped",
                false => "the cloud was not running",
            });
            return Ok(());
        };
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
    let Ok(file) = std::fs::File::open(dir.pid()) else { return Ok(None) };
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

async fn purge(dir: &Dir) -> Result<(), Problem> {
    let words = |e: driver::DriverFault| Problem::words(e.to_string());
    let vms = driver_qemu::Qemu::new(up::host::qemu(dir));
    for vm in vms.list().await.map_err(words)? {
        say(format_args!("removing VM {}", vm.id));
    }
    vms.purge().await.map_err(words)?;
    say("removing containers");
    up::host::cri(dir, "127.0.0.1:1", None).purge().await.map_err(words)?;
    let parts = dir.join("pods");
    agent::pod::parts::release(&parts).map_err(Problem::io(format!("unmounting what is in {}", parts.display())))?;
    say("removing networks");
    let none = agent::metadata::Answers::new(hosts::Local::new(store::Store::memory(), "", model::Time::now, None));
    let net = driver_linuxnet::LinuxNet::new(driver_linuxnet::Config {
        prefix: dir.prefix(),
        dir: dir.join("net"),
        metadata: none,
    });
    net.map_err(words)?.purge().await.map_err(words)
}
