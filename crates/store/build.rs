//! Generates the etcd client from `proto/etcd.proto`.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .compile_protos(&["proto/etcd.proto"], &["proto"])
}
