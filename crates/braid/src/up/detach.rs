//! `braid up --detach`: starts this program again in the background and returns when it is ready, or says why it is not.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::paths::Dir;
use crate::{Problem, client, say};

/// The exit status of a cloud that is up but cannot run all that it should.
const PARTLY: u8 = 3;

/// How long a start may take: a slow disk, a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(dir: &Dir) -> Result<ExitCode, Problem> {
    if let Some(status) = status(dir) {
        say(format_args!("braid is up already at {}", status["url"].as_str().unwrap_or_default()));
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
            Ok(if tell_missing(dir) { ExitCode::from(PARTLY) } else { ExitCode::SUCCESS })
        }
        None => {
            let text = std::fs::read_to_string(dir.log()).unwrap_or_default();
            let news: Vec<&str> = text.get(from as usize..).unwrap_or("").lines().collect();
            let last = news[news.len().saturating_sub(12)..].join("\n  ");
            Err(Problem::words(format!("the cloud did not start; its log {} ends:\n  {last}", dir.log().display())))
        }
    }
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
