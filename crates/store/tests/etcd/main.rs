//! The etcd backend under the suite, and what is its own: several processes, lost answers, a restarted etcd, compacted
//! history, small servers. Every test starts an etcd of its own.

#![allow(clippy::print_stdout, reason = "what a child process has to say")]

mod processes;
mod proxy;
mod server;
mod trouble;

use async_trait::async_trait;
use server::Server;
use store::Store;
use store::suite::Site;

struct Etcd(Server);

#[async_trait]
impl Site for Etcd {
    async fn open(&self) -> Store {
        Store::open_etcd(&self.0.url()).await.unwrap()
    }
    fn shared(&self) -> bool {
        true
    }
    fn durable(&self) -> bool {
        true
    }
    fn resumes(&self) -> bool {
        false
    }
}

async fn make() -> Etcd {
    Etcd(Server::start(&[]).await)
}

store::conformance!(make);
