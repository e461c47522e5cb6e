//! Logs of containers for the faces, from the files that the runtime writes, with what clients can ask of them.

use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path as Part, RawQuery, State};
use axum::response::IntoResponse;
use bytes::Bytes;
use driver::ContainerState;
use http::StatusCode;
use model::Time;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

use super::reply::{Reply, pairs, seen};
use crate::Agent;
use crate::log::Line;
use crate::pod::find;

/// What of a log is wanted.
#[derive(Clone, Debug, Default)]
struct Options {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail: Option<usize>,
    since: Option<Time>,
    limit: Option<usize>,
}

impl Options {
    fn parse(query: &[(String, String)], now: Time) -> Result<Self, String> {
        let mut options = Self::default();
        let number =
            |name: &str, value: &str| value.parse::<u32>().map_err(|_| format!("{name}: '{value}' is not a number"));
        for (name, value) in query {
            let yes = value == "true" || value == "1";
            match name.as_str() {
                "follow" => options.follow = yes,
                "previous" => options.previous = yes,
                "timestamps" => options.timestamps = yes,
                "tailLines" => options.tail = Some(number(name, value)? as usize),
                "limitBytes" => options.limit = Some(number(name, value)? as usize),
                "sinceSeconds" => {
                    options.since = Some(now - jiff::SignedDuration::from_secs(number(name, value)?.into()))
                }
                "sinceTime" => {
                    options.since = Some(value.parse().map_err(|_| format!("{name}: '{value}' is not a time"))?)
                }
                _ => {}
            }
        }
        Ok(options)
    }
}

/// `GET /logs/<cluster>/<pod uid>/<container>`
pub async fn serve(
    State(agent): State<Agent>,
    Part((_, uid, container)): Part<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Reply {
    let options = Options::parse(&pairs(query), agent.now()).map_err(|e| (StatusCode::BAD_REQUEST, e))?;
    let seen = find::seen(&agent, &uid).await.map_err(|e| (StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
    let mut attempts: Vec<_> =
        seen.into_iter().flat_map(|seen| seen.containers).filter(|c| c.name == container).collect();
    attempts.sort_by_key(|c| std::cmp::Reverse(c.attempt));
    let wanted = attempts.into_iter().nth(usize::from(options.previous));
    let wanted = wanted.ok_or_else(|| (StatusCode::BAD_REQUEST, no_log(&agent, &uid, &container, options.previous)))?;
    let running = matches!(wanted.state, ContainerState::Running { .. }).then_some((uid, wanted.id));
    let (send, receive) = mpsc::channel::<Bytes>(64);
    tokio::spawn(read(agent, wanted.log_path, options, running, send));
    let stream = futures_util::stream::unfold(receive, |mut receive| async move {
        let bytes = receive.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), receive))
    });
    Ok(Body::from_stream(stream).into_response())
}

/// Why a container has no log, in the kubelet's words.
fn no_log(agent: &Agent, uid: &str, container: &str, previous: bool) -> String {
    let Some(row) = agent.cloud().view().pod(uid).map(|of| of.pod) else {
        return format!("pod {uid} is not on this host");
    };
    let name = &row.name;
    if previous {
        return format!("previous terminated container {container:?} in pod {name:?} not found");
    }
    let all = ["containerStatuses", "initContainerStatuses"];
    let mut statuses = all.iter().flat_map(|field| row.body["status"][*field].as_array().into_iter().flatten());
    let status = statuses.find(|status| status["name"] == container);
    let why = match status.and_then(|status| status["state"]["waiting"]["reason"].as_str()) {
        Some("ErrImagePull") => "image can't be pulled",
        Some("ImagePullBackOff") => "trying and failing to pull image",
        Some(reason) => reason,
        None => "ContainerCreating",
    };
    format!("container {container:?} in pod {name:?} is waiting to start: {why}")
}

/// A container that ran when its log was asked for: the pod's uid and the runtime's id.
type Running = Option<(String, String)>;

/// Sends the log's lines; when following, until the container ends or the client goes.
async fn read(agent: Agent, path: PathBuf, options: Options, running: Running, send: mpsc::Sender<Bytes>) {
    let Ok(file) = tokio::fs::File::open(&path).await else { return };
    let mut reader = BufReader::new(file);
    let mut held: std::collections::VecDeque<Vec<u8>> = Default::default();
    let mut line = Vec::new();
    let mut left = options.limit.unwrap_or(usize::MAX);
    let mut caught_up = false;
    let mut last_look = false;
    loop {
        match reader.read_until(b'\n', &mut line).await {
            Ok(n) if n > 0 && line.ends_with(b"\n") => {
                let text = render(&line, &options);
                line.clear();
                let Some(text) = text else { continue };
                match options.tail {
                    Some(tail) if !caught_up => {
                        held.push_back(text);
                        if held.len() > tail {
                            held.pop_front();
                        }
                    }
                    _ => {
                        if !give(&send, text, &mut left).await {
                            return;
                        }
                    }
                }
            }
            Ok(_) => {
                if !caught_up {
                    caught_up = true;
                    for text in held.drain(..) {
                        if !give(&send, text, &mut left).await {
                            return;
                        }
                    }
                }
                if !options.follow || last_look || send.is_closed() {
                    return;
                }
                last_look = !still_runs(&agent, running.as_ref()).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(_) => return,
        }
    }
}

async fn still_runs(agent: &Agent, running: Option<&(String, String)>) -> bool {
    let Some((uid, id)) = running else { return false };
    let Ok(seen) = seen(agent, uid).await else { return false };
    seen.containers.iter().any(|c| c.id == *id && matches!(c.state, ContainerState::Running { .. }))
}

async fn give(send: &mpsc::Sender<Bytes>, mut text: Vec<u8>, left: &mut usize) -> bool {
    text.truncate(*left);
    *left -= text.len();
    (text.is_empty() || send.send(text.into()).await.is_ok()) && *left > 0
}

/// A line as the client shall see it, or nothing if it is too old.
fn render(line: &[u8], options: &Options) -> Option<Vec<u8>> {
    let line = Line::parse(line)?;
    if let Some(since) = options.since {
        let when: Time = std::str::from_utf8(line.time).ok()?.parse().ok()?;
        if when < since {
            return None;
        }
    }
    let mut out = Vec::with_capacity(line.time.len() + 1 + line.text.len());
    if options.timestamps {
        out.extend_from_slice(line.time);
        out.push(b' ');
    }
    out.extend_from_slice(line.text);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_shown() {
        let line = b"2026-01-01T00:00:00Z stdout F hello\n";
        let shown = |options: Options| render(line, &options).map(|text| String::from_utf8(text).expect("text"));
        assert_eq!(shown(Options::default()).as_deref(), Some("hello\n"));
        let timestamps = Options { timestamps: true, ..Options::default() };
        assert_eq!(shown(timestamps).as_deref(), Some("2026-01-01T00:00:00Z hello\n"));
        let since = |since: &str| Options { since: since.parse().ok(), ..Options::default() };
        assert_eq!(shown(since("2026-01-01T00:00:00Z")).as_deref(), Some("hello\n"));
        assert_eq!(shown(since("2026-01-02T00:00:00Z")), None);
    }
}
