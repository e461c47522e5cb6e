//! A wire that breaks: forwards connections to etcd, and on command cuts all of them after the request has gone through
//! but before the answer has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Proxy {
    pub port: u16,
    /// While set, answers do not come through.
    mute: Arc<AtomicBool>,
    cut: watch::Sender<()>,
    /// While set, connections are refused.
    away: Arc<AtomicBool>,
}

impl Proxy {
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mute, (cut, cuts)) = (Arc::new(AtomicBool::new(false)), watch::channel(()));
        let (muted, away) = (mute.clone(), Arc::new(AtomicBool::new(false)));
        let gone = away.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if gone.load(Ordering::SeqCst) {
                    continue;
                }
                let (muted, mut cuts) = (muted.clone(), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    tokio::select! {
                        () = forward(client, server, muted) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { port, mute, cut, away }
    }

    /// Cuts everything and stays away, or comes back.
    pub fn away(&mut self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
        self.cut.send_replace(());
    }

    /// Swallows the answers of a moment, then cuts every connection.
    pub async fn lose_answers(&self, moment: std::time::Duration) {
        self.mute.store(true, Ordering::SeqCst);
        tokio::time::sleep(moment).await;
        self.cut.send_replace(());
        self.mute.store(false, Ordering::SeqCst);
    }
}

async fn forward(client: TcpStream, server: TcpStream, muted: Arc<AtomicBool>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let there = async {
        _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    };
    let back = async {
        let mut bytes = [0; 16384];
        let mut lost = false;
        while let Ok(n @ 1..) = from_server.read(&mut bytes).await {
            // Once something was swallowed the stream is broken; nothing more may come through.
            lost |= muted.load(Ordering::SeqCst);
            if !lost && to_client.write_all(&bytes[..n]).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(there, back);
}
