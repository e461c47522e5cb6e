//! As much of a registry as a pull needs: one image from an OCI layout, shown to one user only.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `user:secret`.
const AUTHORIZATION: &str = "authorization: basic dxnlcjpzzwnyzxq=";

pub struct Registry {
    pub address: SocketAddr,
    /// How often the image's manifest was asked for by its name.
    pub asked: Arc<AtomicUsize>,
}

pub fn start(layout: &Path) -> Registry {
    let mut files = HashMap::new();
    let mut archive = tar::Archive::new(std::fs::File::open(layout).expect("the layout"));
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("bytes");
        files.insert(path.trim_start_matches("./").to_owned(), bytes);
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    std::thread::spawn(move || {
        let files = Arc::new(files);
        for stream in listener.incoming().flatten() {
            let (files, counter) = (files.clone(), counter.clone());
            std::thread::spawn(move || while serve(&stream, &files, &counter).is_some() {});
        }
    });
    Registry { address, asked }
}

fn serve(mut stream: &TcpStream, files: &HashMap<String, Vec<u8>>, asked: &AtomicUsize) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next()?.ok()?;
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
    let mut words = request.split(' ');
    let (method, path) = (words.next()?, words.next()?.split('?').next()?);
    let (status, kind, body) = if !headers.iter().any(|h| h.to_lowercase() == AUTHORIZATION) {
        ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"", "text/plain", Vec::new())
    } else if let Some(digest) = path.strip_prefix("/v2/tiny/blobs/sha256:") {
        ("200 OK", "application/octet-stream", files.get(&format!("blobs/sha256/{digest}"))?.clone())
    } else if let Some(name) = path.strip_prefix("/v2/tiny/manifests/") {
        let index: serde_json::Value = serde_json::from_slice(files.get("index.json")?).ok()?;
        let manifest = index["manifests"][0]["digest"].as_str()?.strip_prefix("sha256:")?;
        if name == "latest" {
            asked.fetch_add(1, Ordering::SeqCst);
        }
        let body = files.get(&format!("blobs/sha256/{manifest}"))?.clone();
        ("200 OK", "application/vnd.oci.image.manifest.v1+json", body)
    } else {
        ("404 Not Found", "text/plain", Vec::new())
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    if method != "HEAD" {
        stream.write_all(&body).ok()?;
    }
    Some(())
}
