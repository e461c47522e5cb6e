//! `braid up --detach`: starts this program again in the background and returns when it is ready, or says why it is not.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use super::UpArgs;
use crate::paths::Dir;
use crate::{Problem, client, say};

/// How long a start may take: a slow disk, a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(args: &UpArgs, dir: &Dir) -> Result<ExitCode, Problem> {
    if let Some(url) = already_up(dir) {
        say(format_args!("braid is up already at {url}"));
        return Ok(ExitCode::SUCCESS);
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
            for line in news.lines().filter(|l| l.starts_with("braid is up") || l.starts_with("first start")) {
                say(line);
            }
            let _ = args;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            let text = std::fs::read_to_string(dir.log()).unwrap_or_default();
            let news: Vec<&str> = text.get(from as usize..).unwrap_or("").lines().collect();
            let last = news[news.len().saturating_sub(12)..].join("\n  ");
            Err(Problem::words(format!("the cloud did not start; its log {} ends:\n  {last}", dir.log().display())))
        }
    }
}

/// The URL of the cloud that already runs in the folder.
fn already_up(dir: &Dir) -> Option<String> {
    let ask = async {
        let answer = client::unix(&dir.control(), client::get("/status").ok()?).await.ok()?;
        answer.json()["url"].as_str().map(str::to_owned)
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
