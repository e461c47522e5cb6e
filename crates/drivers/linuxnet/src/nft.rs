//! Rules into the kernel: a whole table as text through `nft -f -`, one atomic transaction; and two small messages that
//! the program has no word for: the number of the last change, and forgetting flows.

use std::io::{self, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use rtnetlink::sys::{Socket, SocketAddr};

use crate::netns::Netns;

/// Ten thousand elements take half a second.
const LIMIT: Duration = Duration::from_secs(30);
const NETLINK_NETFILTER: isize = 12;
const GET_GENERATION: u16 = (10 << 8) | 16;
const CONNTRACK_DELETE: u16 = (1 << 8) | 2;
const ATTRIBUTE_MARK: u16 = 8;
const ATTRIBUTE_MARK_MASK: u16 = 21;

/// Flows with this conntrack mark are to be forgotten.
pub const STALE: u32 = 0xdead_f10e;

/// Runs `nft` in the namespace with the text as its input. Returns what it printed.
pub async fn run(netns: &Netns, arguments: &'static [&'static str], input: String) -> io::Result<String> {
    netns.run(move || run_here(arguments, &input)).await
}

/// Makes the rules of the text those of the namespace, at one stroke.
pub async fn apply(netns: &Netns, text: String) -> io::Result<()> {
    run(netns, &["-f", "-"], text).await.map(drop)
}

fn run_here(arguments: &[&str], input: &str) -> io::Result<String> {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("nft cannot be started: {error}; install nftables")))?;
    let watch = Watch::over(&child);
    if let Some(mut stdin) = child.stdin.take() {
        // A child that ended early says why on stderr.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if watch.had_to_kill() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("nft did not end within {LIMIT:?}")));
    }
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("nft refused the rules: {}", words.lines().take(3).collect::<Vec<_>>().join(" "))))
}

/// Kills a child that takes too long.
struct Watch {
    ended: mpsc::Sender<()>,
    thread: JoinHandle<bool>,
}

impl Watch {
    fn over(child: &Child) -> Self {
        let (ended, waits) = mpsc::channel();
        let pid = Pid::from_raw(child.id() as i32);
        let thread = std::thread::spawn(move || {
            let late = waits.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
            // It is still the child: nobody has waited for it yet.
            late && kill(pid, Signal::SIGKILL).is_ok()
        });
        Self { ended, thread }
    }

    fn had_to_kill(self) -> bool {
        drop(self.ended);
        self.thread.join().unwrap_or(false)
    }
}

/// A connection to netfilter in a namespace.
pub struct Netfilter(Socket);

impl Netfilter {
    pub async fn open(netns: &Netns) -> io::Result<Netfilter> {
        netns
            .run(|| {
                let mut socket = Socket::new(NETLINK_NETFILTER)?;
                socket.bind_auto()?;
                socket.connect(&SocketAddr::new(0, 0))?;
                Ok(Netfilter(socket))
            })
            .await
    }

    /// The number of the last change of the namespace's rules, by whomever.
    pub fn generation(&self) -> io::Result<u32> {
        self.0.send(&message(GET_GENERATION, libc::NLM_F_REQUEST, &[]), 0)?;
        let (answer, _) = self.0.recv_from_full()?;
        // Header (16), netfilter's header (4), then the attribute 1: the number.
        match (answer.get(4..6), answer.get(24..28)) {
            (Some(kind), Some(number)) if kind[1] == 10 => {
                Ok(u32::from_be_bytes([number[0], number[1], number[2], number[3]]))
            }
            _ => Err(io::Error::other("netfilter did not tell its generation")),
        }
    }

    /// Forgets all flows that are marked [`STALE`]: their next packet is a new flow.
    pub fn forget_stale(&self) -> io::Result<()> {
        let attributes = [(ATTRIBUTE_MARK, STALE), (ATTRIBUTE_MARK_MASK, u32::MAX)];
        self.0.send(&message(CONNTRACK_DELETE, libc::NLM_F_REQUEST | libc::NLM_F_ACK, &attributes), 0)?;
        let (answer, _) = self.0.recv_from_full()?;
        let code =
            answer.get(16..20).map_or(-libc::EIO, |code| i32::from_ne_bytes([code[0], code[1], code[2], code[3]]));
        match -code {
            0 | libc::ENOENT => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

fn message(kind: u16, flags: i32, attributes: &[(u16, u32)]) -> Vec<u8> {
    let length = 20 + 8 * attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(u16::try_from(flags).unwrap_or_default().to_ne_bytes());
    bytes.extend([0; 8]);
    // Any family, version 0, resource 0.
    bytes.extend([0; 4]);
    for (kind, value) in attributes {
        bytes.extend(8_u16.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value.to_be_bytes());
    }
    bytes
}
