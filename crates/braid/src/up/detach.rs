//! `braid up --detach`: starts this program again in the background and returns when it is ready, or says why it is not.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::UpArgs;
use crate::paths::Dir;
use crate::{Problem, client, say};

/// The exit status of a cloud that is up but cannot run all that it should.
const PARTLY: u8 = 3;

/// What begins the lines of the log that are for whoever starts the cloud.
const FOR_PEOPLE: [&str; 4] = ["braid is up", "first start: ", "no VM image ", "no container image "];

/// How long a start may take: a slow disk, a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(dir: &Dir, args: &UpArgs) -> Result<ExitCode, Problem> {
    if let Some(status) = status(dir) {
        return is_as_asked(&status, args).map(|()| ExitCode::SUCCESS);
    }
    let program = std::env::current_exe().map_err(Problem::io("finding this program"))?;
    let log = super::log::open(dir)?;
    let from = log.metadata().map_or(0, |m| m.len());
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1).filter(|arg| arg != "--detach"))
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

/// Whether the cloud that runs in the folder is the one that was asked for: people who mistake a folder would go on in a
/// cloud of somebody else.
fn is_as_asked(status: &Value, args: &UpArgs) -> Result<(), Problem> {
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
        _ => {
            let rest = if has_options() { "; the options are for its next start, after `braid down`" } else { "" };
            say(format_args!("braid is up already at {url}{rest}"));
            return Ok(());
        }
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
