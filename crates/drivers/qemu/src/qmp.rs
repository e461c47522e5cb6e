//! QMP: commands to a QEMU over its unix socket, one connection a command. QEMU serves one connection at a time, the
//! next waits; all are short.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

const LIMIT: Duration = Duration::from_secs(5);
const LONGEST_ANSWER: u64 = 1 << 20;

/// Runs a command without arguments in the QEMU whose directory this is.
pub async fn command(dir: &Path, name: &str) -> io::Result<Value> {
    execute(dir, name, json!({})).await
}

/// Runs a command in the QEMU whose directory this is.
pub async fn execute(dir: &Path, name: &str, arguments: Value) -> io::Result<Value> {
    match tokio::time::timeout(LIMIT, talk(dir, name, arguments)).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer to {name} within {LIMIT:?}"))),
    }
}

async fn talk(dir: &Path, name: &str, arguments: Value) -> io::Result<Value> {
    // Paths of sockets must be short, ours may be long: the way leads over the open directory.
    let directory = File::open(dir)?;
    let socket = format!("/proc/self/fd/{}/qmp.sock", directory.as_raw_fd());
    let (reader, writer) = UnixStream::connect(socket).await?.into_split();
    converse(reader, writer, name, arguments).await
}

/// Runs a command in whoever writes and reads there.
pub async fn converse(
    reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    name: &str,
    arguments: Value,
) -> io::Result<Value> {
    let mut reader = BufReader::new(reader.take(LONGEST_ANSWER));
    let greeting = next(&mut reader).await?;
    if greeting.get("QMP").is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a QMP socket"));
    }
    let mut answer = Value::Null;
    for (execute, arguments) in [("qmp_capabilities", json!({})), (name, arguments)] {
        let request = json!({"execute": execute, "arguments": arguments});
        writer.write_all(format!("{request}\n").as_bytes()).await?;
        answer = loop {
            let mut message = next(&mut reader).await?;
            if let Some(error) = message.get("error") {
                return Err(io::Error::other(error["desc"].as_str().unwrap_or("refused").to_owned()));
            }
            if message.get("return").is_some() {
                break message["return"].take();
            }
            // Anything else is an event, which nobody waits for: what counts is the state.
        };
    }
    Ok(answer)
}

async fn next(reader: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Value> {
    let mut line = String::new();
    if reader.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}

/// Where a guest stands, as QEMU calls it: `running`, `paused`, `shutdown`, …
pub async fn status(dir: &Path) -> io::Result<String> {
    Ok(command(dir, "query-status").await?["status"].as_str().unwrap_or_default().to_owned())
}
