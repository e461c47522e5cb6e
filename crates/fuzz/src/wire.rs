//! Readers of packets, files and sockets.

pub fn dns(input: &[u8]) -> Result<(), String> {
    netserve::hostile::dns(input);
    Ok(())
}

/// `web-1.demo.internal A`, its reverse, one with EDNS, and a name for another.
pub fn dns_seeds() -> Vec<Vec<u8>> {
    let head = |questions: u8, more: u8| vec![0x12, 0x34, 1, 0, 0, questions, 0, 0, 0, 0, 0, more];
    let name = |labels: &[&str]| -> Vec<u8> {
        let mut bytes: Vec<u8> = labels.iter().flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).collect();
        bytes.push(0);
        bytes
    };
    let a = [head(1, 0), name(&["web-1", "demo", "internal"]), vec![0, 1, 0, 1]].concat();
    let reverse = [head(1, 0), name(&["5", "0", "0", "10", "in-addr", "arpa"]), vec![0, 12, 0, 1]].concat();
    let edns = vec![0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let any = [head(1, 1), name(&["web-1"]), vec![0, 255, 0, 1], edns].concat();
    let alias = [head(1, 0), name(&["twice", "demo", "internal"]), vec![0, 1, 0, 1]].concat();
    vec![a, reverse, any, alias]
}

pub fn dhcp(input: &[u8]) -> Result<(), String> {
    netserve::hostile::dhcp(input);
    Ok(())
}

/// A discover and a request of the port 02:00:00:00:00:05.
pub fn dhcp_seeds() -> Vec<Vec<u8>> {
    let message = |options: &[u8]| -> Vec<u8> {
        let mut bytes = vec![0; 240];
        bytes[..8].copy_from_slice(&[1, 1, 6, 0, 1, 2, 3, 4]);
        bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 5]);
        bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
        bytes.extend(options);
        bytes.push(255);
        bytes
    };
    vec![
        message(&[53, 1, 1, 55, 4, 1, 3, 6, 121, 12, 3, b'a', b'b', b'c']),
        message(&[53, 1, 3, 50, 4, 10, 0, 0, 5, 54, 4, 10, 0, 0, 1, 61, 7, 1, 2, 0, 0, 0, 0, 5]),
    ]
}

pub fn dhcp6(input: &[u8]) -> Result<(), String> {
    netserve::hostile::dhcp6(input);
    Ok(())
}

/// A solicit, a request, a confirm and a question for information of the same port.
pub fn dhcp6_seeds() -> Vec<Vec<u8>> {
    let client = [0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 5];
    let server = [0, 2, 0, 10, 0, 3, 0, 1, 2, 0xaa, 0, 0, 0, 1];
    let association = [0, 3, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut believed = [0, 3, 0, 40, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 24].to_vec();
    believed.extend([0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
    let wanted = [0, 6, 0, 4, 0, 23, 0, 24];
    let message = |kind: u8, options: &[&[u8]]| [&[kind, 1, 2, 3], &options.concat()[..]].concat();
    vec![
        message(1, &[&client, &association, &wanted]),
        message(3, &[&client, &server, &association]),
        message(4, &[&client, &believed]),
        message(11, &[&client, &wanted]),
    ]
}

pub fn qcow2(input: &[u8]) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    std::fs::write(file.path(), input).map_err(|e| e.to_string())?;
    driver_qemu::hostile::image_header(file.path());
    Ok(())
}

pub fn qcow2_seeds() -> Vec<Vec<u8>> {
    let mut header = vec![0; 104];
    header[..8].copy_from_slice(&[b'Q', b'F', b'I', 0xfb, 0, 0, 0, 3]);
    header[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
    let short = header[..71].to_vec();
    vec![header, short, Vec::new()]
}

/// What a future comes to, with sockets if it needs them.
fn wait<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    Ok(runtime.block_on(future))
}

pub fn qmp(input: &[u8]) -> Result<(), String> {
    wait(driver_qemu::hostile::qmp(input)).map(drop)
}

/// A greeting, an event, and two answers; and a refusal.
pub fn qmp_seeds() -> Vec<Vec<u8>> {
    let greeting = r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}}, "capabilities": ["oob"]}}"#;
    let event = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#;
    let done = r#"{"return": {}}"#;
    let status = r#"{"return": {"status": "running", "running": true}}"#;
    let refusal = r#"{"error": {"class": "GenericError", "desc": "not now"}}"#;
    let lines = |all: &[&str]| format!("{}\n", all.join("\n")).into_bytes();
    vec![lines(&[greeting, done, event, status]), lines(&[greeting, done, refusal])]
}

pub fn cni(input: &[u8]) -> Result<(), String> {
    // That a connection breaks off is nobody's mistake.
    wait(driver_cri::hostile::cni(input)).map(drop)
}

/// Each verb once.
pub fn cni_seeds() -> Vec<Vec<u8>> {
    let request = |verb| {
        let names = serde_json::json!({
            "verb": verb, "pod_uid": "0a", "namespace": "default", "name": "web", "netns": "/run/netns/x",
            "ifname": "eth0", "container_id": "c0",
        });
        format!("{names}\n").into_bytes()
    };
    ["ADD", "DEL", "CHECK"].map(request).to_vec()
}

pub fn exec(input: &[u8]) -> Result<(), String> {
    agent::streams::hostile::exec(input);
    Ok(())
}

/// Input, its end, and a terminal's size.
pub fn exec_seeds() -> Vec<Vec<u8>> {
    vec![b"\x00ls\n".to_vec(), vec![255, 0], b"\x04{\"Width\":80,\"Height\":24}".to_vec()]
}

/// The first byte says in what pieces the rest comes.
pub fn forward(input: &[u8]) -> Result<(), String> {
    if let Some((piece, bytes)) = input.split_first() {
        agent::streams::hostile::forward(bytes, usize::from(*piece));
    }
    Ok(())
}

/// Two streams, whose headers are one compressed stream, then data, a ping, a reset and the end.
pub fn forward_seeds() -> Vec<Vec<u8>> {
    const ERROR: &str =
        "78f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45e01c6061606100a4398b20d198094ade8c0600000000ffff";
    const DATA: &str = "c2aa19540e2512d60b000000ffff";
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len() / 2).filter_map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()).collect()
    };
    let open = |stream: u8, headers: &str| {
        let body = [vec![0, 0, 0, stream, 0, 0, 0, 0, 0, 0], bytes(headers)].concat();
        [&[0x80, 3, 0, 1, 0, 0, 0, body.len() as u8][..], &body].concat()
    };
    let streams = [open(1, ERROR), open(3, DATA)].concat();
    let data = [&[0, 0, 0, 3, 0, 0, 0, 5][..], b"hello"].concat();
    let rest = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7, 0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 5];
    let end = [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    vec![[&[255][..], &streams, &data, &rest, &end].concat(), [&[3][..], &streams, &data].concat()]
}

#[cfg(test)]
mod tests {
    use netserve::hostile;

    use super::*;

    // Otherwise mutations would never reach what is behind the reader.
    #[test]
    fn seeds_are_understood() {
        assert!(dns_seeds().iter().all(|seed| !hostile::dns(seed).is_empty()));
        assert!(dhcp_seeds().iter().all(|seed| hostile::dhcp(seed).is_some()));
        assert!(dhcp6_seeds().iter().all(|seed| hostile::dhcp6(seed).is_some()));
        let [done, refused] = &qmp_seeds()[..] else { panic!("two") };
        assert_eq!(wait(driver_qemu::hostile::qmp(done)), Ok(true));
        assert_eq!(wait(driver_qemu::hostile::qmp(refused)), Ok(false));
        for seed in cni_seeds() {
            let answer = wait(driver_cri::hostile::cni(&seed)).unwrap().unwrap();
            assert!(!String::from_utf8_lossy(&answer).contains("error"), "{}", String::from_utf8_lossy(&answer));
        }
        assert!(exec_seeds().iter().all(|seed| agent::streams::hostile::exec(seed)));
        let opened = |seed: &Vec<u8>| agent::streams::hostile::forward(&seed[1..], seed[0].into());
        assert!(forward_seeds().iter().all(|seed| opened(seed) == 2));
    }
}
