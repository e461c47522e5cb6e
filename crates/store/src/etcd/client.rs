//! Calls to etcd. The client is generated from the few messages that are used; the crate for etcd was refused because it
//! brings the whole API and hides which failures leave the outcome open.

use std::error::Error as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::stream;
use model::Revision;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, Streaming};

use crate::{EtcdTls, StoreFault};
use pb::auth_client::AuthClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::watch_client::WatchClient;

/// etcd's messages.
#[allow(missing_docs, clippy::all)]
pub mod pb {
    tonic::include_proto!("etcdserverpb");
}

/// How long one call may take. etcd itself gives up after about 7 seconds.
const CALL: Duration = Duration::from_secs(8);

/// The largest message that is accepted: a page of rows of the largest size.
const MESSAGE: usize = 1 << 30;

/// Where the cluster is.
#[derive(Debug, PartialEq)]
pub struct Target {
    pub tls: bool,
    pub hosts: Vec<String>,
    pub user: Option<(String, String)>,
    /// Ends with a slash.
    pub prefix: String,
}

impl Target {
    /// Reads `etcd://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…][/PREFIX]`; `etcds://` for TLS.
    pub fn parse(url: &str) -> Result<Self, String> {
        // The whole address is not repeated: it may hold a password.
        let bad = |what: &str| format!("the store's address must be etcd://HOST:PORT[,HOST:PORT...][/PREFIX]: {what}");
        let (tls, rest) = match (url.strip_prefix("etcd://"), url.strip_prefix("etcds://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(bad("it does not begin with etcd:// or etcds://")),
        };
        let (place, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match place.rsplit_once('@') {
            None => (None, place),
            Some((user, hosts)) => {
                let (name, password) = user.split_once(':').ok_or_else(|| bad("the user has no password"))?;
                (Some((name.to_owned(), password.to_owned())), hosts)
            }
        };
        let hosts: Vec<String> = hosts.split(',').map(str::to_owned).collect();
        for host in &hosts {
            let port = host.rsplit_once(':').filter(|(name, _)| !name.is_empty()).map(|(_, port)| port);
            if port.and_then(|port| port.parse::<u16>().ok()).is_none() {
                return Err(bad(&format!("'{host}' has no host or no port")));
            }
        }
        let prefix = match prefix.trim_matches('/') {
            "" => "/braid/".to_owned(),
            prefix if prefix.contains(['?', '#', '\0']) => return Err(bad("the prefix holds one of ? # NUL")),
            prefix => format!("/{prefix}/"),
        };
        Ok(Self { tls, hosts, user, prefix })
    }

    fn endpoint(&self, host: &str, tls: Option<&ClientTlsConfig>) -> Result<Endpoint, StoreFault> {
        let bad = |e: tonic::transport::Error| {
            StoreFault::Broken(format!("the etcd member '{host}': {}", with_causes(e.to_string(), e.source())))
        };
        let scheme = if self.tls { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{host}")).map_err(bad)?;
        let endpoint = match tls {
            Some(tls) => endpoint.tls_config(tls.clone()).map_err(bad)?,
            None => endpoint,
        };
        Ok(endpoint
            .connect_timeout(Duration::from_secs(3))
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true)
            .tcp_nodelay(true))
    }
}

/// How to talk with an etcd that wants TLS.
fn tls_config(tls: &EtcdTls) -> ClientTlsConfig {
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca));
    match &tls.identity {
        Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
        None => config,
    }
}

/// What an error comes from, too: gRPC's own says only "transport error".
fn with_causes(mut text: String, mut next: Option<&dyn std::error::Error>) -> String {
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Several layers repeat what the one below them says.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// Why a call gave no answer.
pub enum Failure {
    /// Nothing was done.
    Definite(StoreFault),
    /// Whether it was done is not known.
    Lost(String),
}

impl From<Failure> for StoreFault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Definite(fault) => fault,
            Failure::Lost(text) => Self::Broken(format!("etcd: {text}")),
        }
    }
}

fn failure(status: Status) -> Failure {
    let text = status.message();
    let definite = |text: String| Failure::Definite(StoreFault::Broken(text));
    match status.code() {
        Code::InvalidArgument if text.contains("too many operations in txn") => Failure::Definite(
            StoreFault::TooLarge("etcd takes fewer operations at once; start it with --max-txn-ops=65536".into()),
        ),
        Code::InvalidArgument if text.contains("request is too large") => Failure::Definite(StoreFault::TooLarge(
            "etcd takes smaller requests; start it with --max-request-bytes=16777216".into(),
        )),
        // What gRPC itself says about a request beyond etcd's limit.
        Code::ResourceExhausted if text.contains("larger than max") => Failure::Definite(StoreFault::TooLarge(
            "etcd takes smaller requests; start it with --max-request-bytes=16777216".into(),
        )),
        Code::ResourceExhausted if text.contains("database space exceeded") => definite(
            "etcd: its space quota is used up; compact, defragment and disarm the alarm, or raise the quota".into(),
        ),
        Code::InvalidArgument
        | Code::ResourceExhausted
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::NotFound => definite(format!("etcd: {text}")),
        _ => Failure::Lost(with_causes(text.to_owned(), status.source())),
    }
}

/// A connection to the cluster; clones share it.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    user: Option<(String, String)>,
    token: Arc<RwLock<Option<AsciiMetadataValue>>>,
}

impl Client {
    pub async fn connect(target: &Target, tls: Option<&EtcdTls>) -> Result<Self, StoreFault> {
        let tls = match (target.tls, tls) {
            (true, Some(tls)) => Some(tls_config(tls)),
            (true, None) => {
                return Err(StoreFault::Broken("etcds:// needs the authority that etcd's certificate is from".into()));
            }
            (false, None) => None,
            (false, Some(_)) => {
                return Err(StoreFault::Broken("a certificate is of use with etcds:// only, not with etcd://".into()));
            }
        };
        let endpoints = target.hosts.iter().map(|host| target.endpoint(host, tls.as_ref()));
        let endpoints: Vec<Endpoint> = endpoints.collect::<Result<_, StoreFault>>()?;
        let channel = match <[Endpoint; 1]>::try_from(endpoints) {
            Ok([only]) => only.connect_lazy(),
            Err(several) => Channel::balance_list(several.into_iter()),
        };
        let client = Self { channel, user: target.user.clone(), token: Default::default() };
        client.log_in().await?;
        Ok(client)
    }

    async fn log_in(&self) -> Result<(), StoreFault> {
        let Some((name, password)) = self.user.clone() else { return Ok(()) };
        let mut request = Request::new(pb::AuthenticateRequest { name, password });
        request.set_timeout(CALL);
        let answer = AuthClient::new(self.channel.clone()).authenticate(request).await.map_err(failure)?;
        let token = answer.into_inner().token.parse();
        let token = token.map_err(|_| StoreFault::Broken("etcd: its token is no header".into()))?;
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(())
    }

    fn request<T>(&self, body: T) -> Request<T> {
        let mut request = Request::new(body);
        if let Some(token) = &*self.token.read().unwrap_or_else(PoisonError::into_inner) {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// Makes a call; once more with a new token when etcd has forgotten the old one.
    async fn call<A, B, F>(&self, body: A, work: impl Fn(Request<A>) -> F) -> Result<B, Failure>
    where
        A: Clone,
        F: Future<Output = Result<tonic::Response<B>, Status>>,
    {
        let once = async || {
            let answer = tokio::time::timeout(CALL, work(self.request(body.clone()))).await;
            answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
        };
        let answer = match once().await {
            Err(status) if self.user.is_some() && stale_token(&status) => {
                self.log_in().await.map_err(Failure::Definite)?;
                once().await
            }
            answer => answer,
        };
        answer.map(tonic::Response::into_inner).map_err(failure)
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE)
    }

    /// The revision of the transaction, or none when a comparison failed.
    pub async fn txn(&self, txn: pb::TxnRequest) -> Result<Option<Revision>, Failure> {
        let kv = self.kv();
        let answer = self.call(txn, |request| {
            let mut kv = kv.clone();
            async move { kv.txn(request).await }
        });
        let answer = answer.await?;
        let revision = answer.header.map_or(0, |header| header.revision) as Revision;
        Ok(answer.succeeded.then_some(revision))
    }

    /// Reads; from a majority, unless a revision is given.
    pub async fn range(&self, range: pb::RangeRequest) -> Result<pb::RangeResponse, StoreFault> {
        let kv = self.kv();
        let answer = self.call(range, |request| {
            let mut kv = kv.clone();
            async move { kv.range(request).await }
        });
        Ok(answer.await?)
    }

    /// Forgets etcd's history before a revision. That somebody did already is well.
    pub async fn compact(&self, revision: Revision) -> Result<(), StoreFault> {
        let kv = self.kv();
        let answer = self.call(pb::CompactionRequest { revision: revision as i64 }, |request| {
            let mut kv = kv.clone();
            async move { kv.compact(request).await }
        });
        match answer.await {
            Err(Failure::Definite(StoreFault::Broken(text))) if text.contains("has been compacted") => Ok(()),
            answer => Ok(answer.map(|_| ())?),
        }
    }

    /// All changes of a range from a revision on. The server ends the stream when it has lost the cluster's leader, so that
    /// a member cut off from the others cannot keep us in the past.
    pub async fn watch(
        &self,
        (key, range_end): (Vec<u8>, Vec<u8>),
        from: Revision,
    ) -> Result<Streaming<pb::WatchResponse>, StoreFault> {
        let create = pb::WatchCreateRequest { key, range_end, start_revision: from as i64 };
        let create = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
        let watch = WatchClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE);
        let answer = self.call(create, |request| {
            let mut watch = watch.clone();
            async move {
                let (mut metadata, extensions, create) = request.into_parts();
                metadata.insert("hasleader", AsciiMetadataValue::from_static("true"));
                // The request stream must stay open as long as the watch.
                let stream = futures_util::StreamExt::chain(stream::iter([create]), stream::pending());
                watch.watch(Request::from_parts(metadata, extensions, stream)).await
            }
        });
        Ok(answer.await?)
    }

    /// A new lease: its id.
    pub async fn grant(&self, seconds: i64) -> Result<i64, StoreFault> {
        let lease = LeaseClient::new(self.channel.clone());
        let answer = self.call(pb::LeaseGrantRequest { ttl: seconds }, |request| {
            let mut lease = lease.clone();
            async move { lease.lease_grant(request).await }
        });
        let answer = answer.await?;
        if answer.error.is_empty() { Ok(answer.id) } else { Err(StoreFault::Broken(format!("etcd: {}", answer.error))) }
    }

    pub async fn revoke(&self, id: i64) -> Result<(), StoreFault> {
        let lease = LeaseClient::new(self.channel.clone());
        let answer = self.call(pb::LeaseRevokeRequest { id }, |request| {
            let mut lease = lease.clone();
            async move { lease.lease_revoke(request).await }
        });
        Ok(answer.await.map(|_| ())?)
    }

    /// Prolongs a lease; false when it has ended.
    pub async fn keep_alive(&self, id: i64) -> Result<bool, StoreFault> {
        let lease = LeaseClient::new(self.channel.clone());
        let answer = self.call(pb::LeaseKeepAliveRequest { id }, |request| {
            let mut lease = lease.clone();
            async move {
                let (metadata, extensions, body) = request.into_parts();
                let stream = futures_util::StreamExt::chain(stream::iter([body]), stream::pending());
                let mut answers =
                    lease.lease_keep_alive(Request::from_parts(metadata, extensions, stream)).await?.into_inner();
                let first = answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))?;
                Ok(tonic::Response::new(first))
            }
        });
        Ok(answer.await?.ttl > 0)
    }
}

fn stale_token(status: &Status) -> bool {
    status.code() == Code::Unauthenticated || status.message().contains("auth token")
}

/// Reads one key.
pub fn exactly(key: Vec<u8>) -> pb::RangeRequest {
    pb::RangeRequest { key, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_does_not_answer_is_named_without_the_password() {
        for url in ["etcd://127.0.0.1:1", "etcd://u:secret@127.0.0.1:1"] {
            let opened = crate::Store::open_etcd(url).await;
            let why = opened.err().map(|fault| fault.to_string()).unwrap_or_default();
            assert!(why.contains("(at 127.0.0.1:1)") && !why.contains("secret"), "{why}");
        }
    }

    #[test]
    fn addresses() {
        let target = |hosts: &[&str], user: Option<(&str, &str)>, prefix: &str| Target {
            tls: false,
            hosts: hosts.iter().map(|h| h.to_string()).collect(),
            user: user.map(|(n, p)| (n.into(), p.into())),
            prefix: prefix.into(),
        };
        assert_eq!(Target::parse("etcd://a:2379"), Ok(target(&["a:2379"], None, "/braid/")));
        assert_eq!(Target::parse("etcd://a:1,[::1]:2/x/y/"), Ok(target(&["a:1", "[::1]:2"], None, "/x/y/")));
        assert_eq!(Target::parse("etcd://u:p@ss@a:1"), Ok(target(&["a:1"], Some(("u", "p@ss")), "/braid/")));
        let tls = Target { tls: true, ..target(&["a:1"], None, "/braid/") };
        assert_eq!(Target::parse("etcds://a:1"), Ok(tls));
        for bad in [
            "",
            "http://a:1",
            "etcd://",
            "etcd://a",
            "etcd://:1",
            "etcd://a:1,",
            "etcd://a:99999",
            "etcd://u@a:1",
            "etcd://a:1/x?y",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
        let told = Target::parse("etcd://root:secret@a").unwrap_err();
        assert!(!told.contains("secret"), "{told}");
    }
}
