//! A command's standard streams, as channels to and from the client.

use std::process::{ExitStatus, Stdio};

use axum::extract::ws::{CloseFrame, Message, close_code};
use futures_util::{SinkExt, StreamExt};
use nix::pty::openpty;
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::channels::{CLOSE, ERROR, In, Out, RESIZE, Request, STDERR, STDIN, STDOUT};

/// Runs a program with the client's channels as its standard streams, until it ends or the client goes.
pub async fn serve(mut sink: Out, stream: In, program: Vec<String>, request: Request) {
    let status = match start(&program, request) {
        Ok((child, streams)) => run(&mut sink, stream, child, streams, request).await,
        Err(e) => Some(failure(&format!("running {}: {e}", program.first().map_or("", String::as_str)), None)),
    };
    if let Some(status) = status {
        let mut message = vec![ERROR];
        message.extend_from_slice(status.to_string().as_bytes());
        let _ = sink.send(Message::Binary(message.into())).await;
    }
    // Clients take any other code for a connection that broke.
    let normal = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    let _ = sink.send(Message::Close(Some(normal))).await;
}

struct Streams {
    stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    terminal: Option<std::fs::File>,
}

fn start(program: &[String], request: Request) -> std::io::Result<(Child, Streams)> {
    let (name, args) = program.split_first().ok_or_else(|| std::io::Error::other("no program"))?;
    let mut command = Command::new(name);
    command.args(args).kill_on_drop(true);
    if request.tty {
        let pty = openpty(None, None)?;
        let slave = std::fs::File::from(pty.slave);
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        let child = command.spawn()?;
        let master = std::fs::File::from(pty.master);
        let reader = tokio::fs::File::from_std(master.try_clone()?);
        let writer = tokio::fs::File::from_std(master.try_clone()?);
        let streams = Streams {
            stdin: Some(Box::new(writer)),
            stdout: Some(Box::new(reader)),
            stderr: None,
            terminal: Some(master),
        };
        return Ok((child, streams));
    }
    command.stdin(if request.stdin { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let streams = Streams {
        stdin: child.stdin.take().map(|s| Box::new(s) as Box<dyn AsyncWrite + Send + Unpin>),
        stdout: child.stdout.take().map(|s| Box::new(s) as Box<dyn AsyncRead + Send + Unpin>),
        stderr: child.stderr.take().map(|s| Box::new(s) as Box<dyn AsyncRead + Send + Unpin>),
        terminal: None,
    };
    Ok((child, streams))
}

/// Copies until the program ends; `None` if the client went first.
async fn run(sink: &mut Out, stream: In, mut child: Child, streams: Streams, request: Request) -> Option<Value> {
    let (send, mut receive) = mpsc::channel::<Vec<u8>>(16);
    let out = streams.stdout.filter(|_| request.stdout || request.tty);
    let err = streams.stderr.filter(|_| request.stderr);
    let copies = [out.map(|s| (STDOUT, s)), err.map(|s| (STDERR, s))];
    for (channel, reader) in copies.into_iter().flatten() {
        tokio::spawn(copy_out(channel, reader, send.clone()));
    }
    drop(send);
    let pid = child.id();
    let mut input = tokio::spawn(copy_in(stream, streams.stdin, streams.terminal, pid));
    let mut gone = false;
    let mut draining = true;
    while draining {
        tokio::select! {
            message = receive.recv() => match message {
                Some(bytes) => if sink.send(Message::Binary(bytes.into())).await.is_err() { gone = true; draining = false },
                None => draining = false,
            },
            _ = &mut input, if !gone => { gone = true; draining = false },
        }
    }
    if gone {
        let _ = child.kill().await;
        return None;
    }
    let status = child.wait().await;
    input.abort();
    Some(match status {
        Ok(status) => result(status),
        Err(e) => failure(&format!("waiting for the command: {e}"), None),
    })
}

async fn copy_out(channel: u8, mut reader: Box<dyn AsyncRead + Send + Unpin>, send: mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0u8; 32 << 10];
    // A terminal whose other side was closed gives an error rather than an end.
    while let Ok(n @ 1..) = reader.read(&mut buffer).await {
        let mut message = Vec::with_capacity(n + 1);
        message.push(channel);
        message.extend_from_slice(&buffer[..n]);
        if send.send(message).await.is_err() {
            return;
        }
    }
}

/// Returns when the client is gone.
async fn copy_in(
    mut stream: In,
    mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    terminal: Option<std::fs::File>,
    pid: Option<u32>,
) {
    while let Some(message) = stream.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return,
            _ => continue,
        };
        match said(&bytes) {
            Said::Input(data) => {
                if let Some(writer) = &mut stdin
                    && (writer.write_all(data).await.is_err() || writer.flush().await.is_err())
                {
                    stdin = None;
                }
            }
            Said::End => stdin = None,
            Said::Resize { columns, rows } => resize(terminal.as_ref(), columns, rows, pid),
            Said::Nothing => {}
        }
    }
}

/// What a message of a client says.
#[derive(Debug, PartialEq)]
pub enum Said<'a> {
    Input(&'a [u8]),
    /// There is no more input.
    End,
    Resize {
        columns: u16,
        rows: u16,
    },
    /// Nothing that is known.
    Nothing,
}

/// Reads a message of a client.
pub fn said(message: &[u8]) -> Said<'_> {
    match message.split_first() {
        Some((&STDIN, data)) => Said::Input(data),
        Some((&CLOSE, [STDIN])) => Said::End,
        Some((&RESIZE, data)) => {
            let size = serde_json::from_slice::<Value>(data).unwrap_or_default();
            let side = |name: &str| size[name].as_u64().and_then(|n| u16::try_from(n).ok());
            match (side("Width"), side("Height")) {
                (Some(columns), Some(rows)) => Said::Resize { columns, rows },
                _ => Said::Nothing,
            }
        }
        _ => Said::Nothing,
    }
}

fn resize(terminal: Option<&std::fs::File>, columns: u16, rows: u16, pid: Option<u32>) {
    let Some(terminal) = terminal else { return };
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    if tcsetwinsize(terminal, size).is_ok()
        && let Some(pid) = pid.and_then(|p| i32::try_from(p).ok())
    {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGWINCH);
    }
}

fn result(status: ExitStatus) -> Value {
    use std::os::unix::process::ExitStatusExt;
    match status.code().or_else(|| status.signal().map(|s| 128 + s)) {
        Some(0) => json!({"metadata": {}, "status": "Success"}),
        code => {
            let code = code.unwrap_or(255);
            failure(&format!("command terminated with non-zero exit code: exit code {code}"), Some(code))
        }
    }
}

fn failure(message: &str, code: Option<i32>) -> Value {
    let mut status = json!({"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError"});
    if let Some(code) = code {
        status["reason"] = json!("NonZeroExitCode");
        status["details"] = json!({"causes": [{"reason": "ExitCode", "message": code.to_string()}]});
    }
    status
}
