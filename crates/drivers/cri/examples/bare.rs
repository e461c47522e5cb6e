//! The baseline of `scripts/bench` for pods: the bare CRI calls by which any kubelet starts a container, one after the
//! other, without a cloud around them. They are made to the containerd of the cloud that is measured in the same run. The
//! pods have the host's network, so a network's set-up is not in these figures.
//!
//! `bare SOCKET IMAGE COUNT` prints milliseconds as JSON: of each call, and of all three.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use hyper_util::rt::TokioIo;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{self, NamespaceMode};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, socket, image, count] = arguments.as_slice() else { return Err("usage: bare SOCKET IMAGE COUNT".into()) };
    let socket = socket.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    });
    let channel = Endpoint::from_static("http://containerd").connect_with_connector(connector).await?;
    let mut runtime = RuntimeServiceClient::new(channel);
    let mut rows = Vec::new();
    for number in 0..count.parse()? {
        rows.push(one(&mut runtime, image, number).await?);
    }
    let of = |n: usize| rows.iter().map(|row| row[n]).collect::<Vec<f64>>();
    let all: Vec<f64> = rows.iter().map(|row| row.iter().sum()).collect();
    println!("{}", serde_json::json!({"sandbox": of(0), "create": of(1), "start": of(2), "all": all}));
    Ok(())
}

/// Starts a container and removes it; the milliseconds of the three calls that start it.
async fn one(runtime: &mut RuntimeServiceClient<Channel>, image: &str, number: u32) -> Result<[f64; 3]> {
    let sandbox = sandbox_config(number);
    let begun = Instant::now();
    let request = v1::RunPodSandboxRequest { config: Some(sandbox.clone()), runtime_handler: String::new() };
    let pod_sandbox_id = runtime.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
    let made = Instant::now();
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: pod_sandbox_id.clone(),
        config: Some(container_config(image)),
        sandbox_config: Some(sandbox),
    };
    let container_id = runtime.create_container(request).await?.into_inner().container_id;
    let created = Instant::now();
    runtime.start_container(v1::StartContainerRequest { container_id }).await?;
    let started = Instant::now();
    runtime.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() }).await?;
    runtime.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id }).await?;
    let ms = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1000.0;
    Ok([ms(begun, made), ms(made, created), ms(created, started)])
}

fn namespaces() -> Option<v1::NamespaceOption> {
    Some(v1::NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
        ..Default::default()
    })
}

fn sandbox_config(number: u32) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: format!("bare-{number}"),
            uid: format!("bare-{}-{number}", std::process::id()),
            namespace: "bare".to_owned(),
            attempt: 0,
        }),
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: namespaces(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A program that stays and needs no port: pods on the host's network would fight for one.
fn container_config(image: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "c".to_owned(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() }),
        command: vec!["/bin/sleep".to_owned(), "1000".to_owned()],
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: namespaces(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}
