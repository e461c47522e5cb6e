//! `braid`: the only binary. It parses the command line and hands over to one module for each command; `up` wires the
//! crates together, and beside it only a purge (`down`) knows a real driver.

mod bootstrap;
mod client;
mod control;
mod door;
mod down;
mod env;
mod holder;
mod hooks;
mod imports;
mod listen;
mod paths;
mod ranges;
mod status;
mod streams;
mod tls;
mod token;
mod trash;
mod up;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where a cloud keeps everything unless told otherwise.
const DEFAULT_DIR: &str = "/var/lib/braid";

/// A whole cloud in one process: VMs and containers on one network, by the OpenStack and Kubernetes APIs.
#[derive(Parser)]
#[command(
    name = "braid",
    version,
    after_help = "Examples:
  braid up --detach            start the cloud in the background
  eval \"$(braid env)\"          log in: openstack and kubectl now use it
  braid status                 is everything well?
  braid explain server vm1     what is it waiting for?
  braid down --purge           stop and remove every trace"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The folder of a cloud.
#[derive(Args, Clone, Debug)]
pub struct DirArg {
    /// The folder in which the cloud keeps everything
    #[arg(long, env = "BRAID_DIR", default_value = DEFAULT_DIR)]
    pub dir: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Start the cloud
    #[command(after_help = "Examples:
  braid up                                  in the foreground, in /var/lib/braid
  braid up --detach --listen 0.0.0.0:8443   in the background, for other machines too
  braid up --sim --dir /tmp/try             without root: simulated hosts

Exit status: 0 if it is up; 1 if it is not; 3 with --detach if it is up, but VMs, pods or networks cannot run here, as it
says.")]
    Up(Box<up::UpArgs>),
    /// Print shell exports that log in to the project demo, as a member or with --admin as the cloud's administrator
    #[command(after_help = "Examples:
  eval \"$(braid env)\" && openstack server list && kubectl get pods
  eval \"$(braid env --admin)\" && openstack project create team

The user needs a role in the project: openstack role add --project team --user admin member")]
    Env(env::EnvArgs),
    /// Say how each part is
    Status(status::StatusArgs),
    /// Say in words what a thing waits for or why it failed
    #[command(after_help = "Examples:
  braid explain server vm1
  braid explain pod default/web")]
    Explain(status::ExplainArgs),
    /// List what hosts put aside since it was in no row of the store, or give it back; what was deleted is not there
    #[command(after_help = "Examples:
  braid trash                            what was put aside, and since when
  braid trash restore 1795860000-vm-ID   give it back; a VM's id alone will do")]
    Trash(trash::TrashArgs),
    /// Say what a host waits for a person to decide, and with --yes go on
    Confirm(trash::ConfirmArgs),
    /// Stop the control plane; what runs goes on running
    Down(down::DownArgs),
    /// Print a token for kubectl (an exec credential plugin)
    Token(token::TokenArgs),
}

fn main() -> ExitCode {
    // containerd calls this very binary under these names, without a command line of ours.
    let name = std::env::args_os().next().and_then(|arg| PathBuf::from(arg).file_name().map(|n| n.to_owned()));
    if name.as_deref().is_some_and(|n| n == "braid-cni" || n == "loopback") {
        return driver_cri::cni_main();
    }
    let result = match Cli::parse().command {
        Command::Up(args) => up::run(*args),
        Command::Env(args) => env::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Explain(args) => status::explain(&args),
        Command::Trash(args) => trash::run(&args),
        Command::Confirm(args) => trash::confirm(&args),
        Command::Down(args) => down::run(&args),
        Command::Token(args) => token::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(problem) => {
            say_error(&problem);
            ExitCode::FAILURE
        }
    }
}

/// What a command could not do, in words for whoever typed it.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    Words(String),
    #[error("{what}: {source}{hint}", hint = hint(source))]
    Io { what: String, source: std::io::Error },
}

/// What to do where the system forbids something.
fn hint(source: &std::io::Error) -> &'static str {
    let forbidden = source.kind() == std::io::ErrorKind::PermissionDenied;
    match forbidden && !nix::unistd::geteuid().is_root() {
        true => "; run it as root (sudo) or as the user whose cloud it is, or choose a folder of your own with --dir",
        false => "",
    }
}

impl Problem {
    pub fn words(text: impl Into<String>) -> Self {
        Self::Words(text.into())
    }

    /// For `map_err`: names what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

impl From<model::Fault> for Problem {
    fn from(fault: model::Fault) -> Self {
        Self::Words(fault.to_string())
    }
}

impl From<store::StoreFault> for Problem {
    fn from(fault: store::StoreFault) -> Self {
        Self::Words(fault.to_string())
    }
}

/// A line for the person at the terminal. Whoever does not listen any more (`braid up | head -1`) stops nothing.
pub fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn say_error(problem: &Problem) {
    let _ = writeln!(std::io::stderr(), "braid: {problem}");
}

/// A runtime for commands that only ask something.
pub fn small_runtime() -> Result<tokio::runtime::Runtime, Problem> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Problem::io("starting"))
}
