//! `braid down`: stops the control plane, and with `--purge` everything that it ever made on this machine.

use std::process::ExitCode;

use clap::Args;
use driver::{NetDriver, VmDriver};

use crate::paths::Dir;
use crate::{DirArg, Problem, holder, say, up};

#[derive(Args)]
pub struct DownArgs {
    #[command(flatten)]
    dir: DirArg,
    /// Also remove every VM, container, namespace, mount and file of the cloud. There is no way back.
    #[arg(long)]
    purge: bool,
}

pub fn run(args: &DownArgs) -> Result<ExitCode, Problem> {
    if args.purge && !args.dir.dir.exists() {
        say(format_args!("there is nothing in {}", args.dir.dir.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let dir = Dir::open(&args.dir.dir)?;
    if args.purge {
        dir.must_be_a_clouds()?;
    }
    let stopped = match holder::stop(&dir)? {
        true if up::host::is_real(&dir) && !args.purge => "stopped; VMs and containers go on running",
        true => "stopped",
        false => "the cloud was not running",
    };
    say(stopped);
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
