mod common;
#[tokio::test(flavor = "multi_thread")]
#[ignore]
async fn serve() {
    let h = common::Harness::new().await;
    let l = tokio::net::TcpListener::bind("127.0.0.1:18774").await.unwrap();
    axum::serve(l, face_openstack::router(h.cloud.clone())).await.unwrap();
}
