//! `braid up --detach`: starts this program again in the background and returns when it is ready, or says why it is not. A
//! cloud that another build of braid runs goes on with this one, which adopts what runs: who has just built or installed one
//! would go on with the old one unawares.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::UpArgs;
use crate::paths::Dir;
use crate::{Problem, client, holder, say};

/// The exit status of a cloud that is up but cannot run all that it should.
const PARTLY: u8 = 3;

/// What begins the lines of the log that are for whoever starts the cloud.
const FOR_PEOPLE: [&str; 4] = ["braid is up", "first start: ", "no VM image ", "no container image "];

/// How long a start may take: a slow disk, a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(dir: &Dir, args: &UpArgs) -> Result<ExitCode, Problem> {
    let start = match status(dir) {
        Some(status) => match another(dir, &status, args)? {
            None => return Ok(ExitCode::SUCCESS),
            Some(start) => start,
        },
        None => {
            Start { arguments: std::env::args_os().skip(1).filter(|arg| arg != "--detach").collect(), folder: None }
        }
    };
    let program = std::env::current_exe().map_err(Problem::io("finding this program"))?;
    let log = super::log::open(dir)?;
    let from = log.metadata().map_or(0, |m| m.len());
    let mut command = Command::new(program);
    if let Some(folder) = start.folder.filter(|folder| folder.is_dir()) {
        command.current_dir(folder);
    }
    let mut child = command
        .args(start.arguments)
        .env("BRAID_DIR", dir.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(Problem::io("opening the log"))?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(Problem::io("starting in the background"))?;
    match crate::small_runtime()?.block_on(wait(dir, &mut child))? {
        Some(_) => {
            let text = std::fs::read_to_string(dir.log()).unwrap_or_default();
            let news = text.get(from as usize..).unwrap_or("");
            news.lines().filter(|line| FOR_PEOPLE.iter().any(|begin| line.starts_with(begin))).for_each(say);
            Ok(if tell_missing(dir) { ExitCode::from(PARTLY) } else { ExitCode::SUCCESS })
        }
        None => {
            let text = std::fs::read_to_string(dir.log()).unwrap_or_default();
            let news: Vec<&str> = text.get(from as usize..).unwrap_or("").lines().collect();
            let last = news[news.len().saturating_sub(12)..].join("\n  ");
            let log = dir.log();
            Err(Problem::words(match last.is_empty() {
                false => format!("the cloud did not start; its log {} ends:\n  {last}", log.display()),
                true => format!("the cloud did not start, and its log {} says nothing{}", log.display(), room(dir)),
            }))
        }
    }
}

/// How the process in the background is started.
struct Start {
    arguments: Vec<OsString>,
    /// What relative paths in them begin at, if not here.
    folder: Option<PathBuf>,
}

/// Ends the cloud that runs in the folder if another program than this one runs it; how this one starts in its place. A
/// program that runs cannot be written to: the same file is the same build.
fn another(dir: &Dir, status: &Value, args: &UpArgs) -> Result<Option<Start>, Problem> {
    let rest = if has_options() { "; the options given now are for its next start, after `braid down`" } else { "" };
    let url = is_as_asked(status, args)?;
    let pid = status["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
    let program = |pid: &str| std::fs::metadata(format!("/proc/{pid}/exe")).map(|file| (file.dev(), file.ino()));
    // What cannot be told is taken for the same.
    if program(&pid.to_string()).ok().is_none_or(|other| program("self").is_ok_and(|this| this == other)) {
        say(format_args!("braid is up already at {url}{rest}"));
        return Ok(None);
    }
    let folder = dir.path().display();
    if !super::log::is_stderr(&dir.log(), pid) {
        return Err(Problem::words(format!(
            "the cloud in {folder} is up already at {url}, run by another build of braid in the foreground (pid {pid}): end it \
             where it was started, or with `braid down --dir {folder}`; what runs in it is adopted by the next"
        )));
    }
    let read = || -> std::io::Result<Start> {
        let arguments = but_listen(&std::fs::read(format!("/proc/{pid}/cmdline"))?);
        Ok(Start { arguments, folder: Some(std::fs::read_link(format!("/proc/{pid}/cwd"))?) })
    };
    let start = read().map_err(Problem::io(format!("looking how the process {pid} was started")))?;
    say(format_args!(
        "another build of braid runs the cloud in {folder}: this one takes over, with the options that it was started with{rest}"
    ));
    holder::stop(dir)?;
    Ok(Some(start))
}

/// A process's arguments but for the address, which is remembered: port 0 would be another one now.
fn but_listen(line: &[u8]) -> Vec<OsString> {
    let mut is_address = false;
    let keeps = |word: &&[u8]| {
        let skip = std::mem::replace(&mut is_address, *word == b"--listen") || is_address;
        !skip && !word.starts_with(b"--listen=")
    };
    let words = line.strip_suffix(b"\0").unwrap_or(line).split(|byte| *byte == 0).skip(1);
    words.filter(keeps).map(|word| OsStr::from_bytes(word).to_owned()).collect()
}

/// Whether the cloud that runs in the folder is the one that was asked for, and its URL: people who mistake a folder would go
/// on in a cloud of somebody else.
fn is_as_asked<'a>(status: &'a Value, args: &UpArgs) -> Result<&'a str, Problem> {
    let url = status["url"].as_str().unwrap_or_default();
    let listens = |asked: &SocketAddr| {
        let here = url.trim_start_matches("https://").parse::<SocketAddr>();
        let same = |here: SocketAddr| here.ip() == asked.ip() || asked.ip().is_unspecified();
        asked.port() == 0 || here.is_ok_and(|here| here.port() == asked.port() && same(here))
    };
    let simulated = status["simulated"] == true;
    let other = match args.listen {
        Some(asked) if !listens(&asked) => format!("not at {asked}"),
        _ if args.sim && !simulated => "and not simulated".to_owned(),
        _ => return Ok(url),
    };
    let dir = args.dir.dir.display();
    Err(Problem::words(format!(
        "the cloud in {dir} is up already at {url}, {other}: `braid down --dir {dir}` first, or choose another folder with --dir"
    )))
}

/// Whether options were given that only a start reads.
fn has_options() -> bool {
    let known = ["--dir", "--detach", "--listen", "--sim"];
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    std::env::args().skip(2).any(|word| word.starts_with("--") && !known.contains(&name(&word).as_str()))
}

/// Says what the cloud cannot run on this machine; whether there is such a thing.
fn tell_missing(dir: &Dir) -> bool {
    let status = status(dir).unwrap_or_default();
    let missing: Vec<&str> = status["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    missing.iter().for_each(say);
    !missing.is_empty()
}

/// How the cloud is that already runs in the folder.
fn status(dir: &Dir) -> Option<Value> {
    let ask = async {
        let answer = client::unix(&dir.control(), client::get("/status").ok()?).await.ok()?;
        Some(answer.json()).filter(|status| status["url"].is_string())
    };
    crate::small_runtime().ok()?.block_on(ask)
}

/// Milliseconds after which it was ready; `None` if it ended or took too long.
async fn wait(dir: &Dir, child: &mut Child) -> Result<Option<u64>, Problem> {
    let end = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < end {
        if child.try_wait().map_err(Problem::io("waiting"))?.is_some() {
            return Ok(None);
        }
        if let Ok(answer) = client::unix(&dir.control(), client::get("/ready")?).await
            && answer.status == 200
        {
            return Ok(Some(String::from_utf8_lossy(&answer.body).parse().unwrap_or(0)));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(None)
}

/// What is left of the disk, if that may be why nothing was said.
fn room(dir: &Dir) -> String {
    let free = blob::room::room(dir.path()).map_or(u64::MAX, |room| room.disk.available);
    if free < store::FULL { format!(": its disk has {} MiB left; make room", free >> 20) } else { String::new() }
}
