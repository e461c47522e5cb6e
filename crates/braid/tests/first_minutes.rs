//! What people meet in the first minutes: a machine that cannot run all of a cloud, no root, two clouds beside each other.
//! Each cloud is real as far as it gets, in a folder, and where it must not see the machine in namespaces, of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;

struct Ran {
    status: i32,
    words: String,
}

fn run(command: &mut Command) -> Ran {
    let output = command.env_remove("BRAID_ADMIN").output().unwrap();
    let words = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    Ran { status: output.status.code().unwrap_or(-1), words }
}

/// Ends the cloud of a folder, also when the test fails.
struct Ends<'a>(&'a Path);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        if self.0.exists() {
            braid(&[], self.0, &["down", "--purge"]);
        }
    }
}

/// A command of braid for a folder, after `before`.
fn braid(before: &[&str], folder: &Path, arguments: &[&str]) -> Ran {
    let program = env!("CARGO_BIN_EXE_braid");
    let words: Vec<&str> = before.iter().copied().chain([program]).chain(arguments.iter().copied()).collect();
    run(Command::new(words[0]).args(&words[1..]).arg("--dir").arg(folder))
}

/// In namespaces of mounts and network of its own: a line of shell, the command, and what else is to be seen there.
fn apart(line: &str, folder: &Path, arguments: &[&str], then: &str) -> Ran {
    let dir = folder.display();
    let line = format!(
        "ip link set lo up && {line} && {{ \"$0\" \"$@\"; status=$?; }} && {then}; \
         if [ -e {dir}/store.db ]; then \"$0\" down --purge --dir {dir} || echo not purged; fi; exit $status"
    );
    braid(&["unshare", "--mount", "--net", "sh", "-c", &line], folder, arguments)
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

const UP: [&str; 4] = ["up", "--detach", "--listen", "127.0.0.1:0"];
const SIM: [&str; 5] = ["up", "--detach", "--listen", "127.0.0.1:0", "--sim"];

#[test]
fn people_log_in_as_members_and_as_the_administrator_if_they_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = dir.path().join("cloud");
    let _ends = Ends(&cloud);
    let up = braid(&[], &cloud, &SIM);
    assert_eq!(up.status, 0, "{}", up.words);
    let member = braid(&[], &cloud, &["env"]).words;
    let admin = braid(&[], &cloud, &["env", "--admin"]).words;
    assert!(member.contains("OS_USERNAME=demo\n") && member.contains("OS_PROJECT_NAME=demo\n"), "{member}");
    assert!(admin.contains("OS_USERNAME=admin\n"), "{admin}");
    let folder = std::fs::canonicalize(&cloud).unwrap();
    assert!(member.contains(&format!("BRAID_DIR={}\n", folder.display())), "{member}");
    let kubectls = std::fs::read(cloud.join("kubeconfig")).unwrap();
    let kubectls: serde_json::Value = serde_json::from_slice(&kubectls).unwrap();
    let kept = kubectls["clusters"][0]["cluster"]["certificate-authority-data"].as_str().unwrap();
    let authority = base64::engine::general_purpose::STANDARD.decode(kept).unwrap();
    assert_eq!(authority, std::fs::read(cloud.join("ca.pem")).unwrap());
    let by_variable = run(Command::new(env!("CARGO_BIN_EXE_braid")).arg("env").envs([("BRAID_DIR", &cloud)]));
    assert_eq!(by_variable.words, member);
    for (arguments, is_admin) in [(&["token"][..], false), (&["token", "--admin"], true)] {
        let token = braid(&[], &cloud, arguments);
        assert_eq!(token.status, 0, "{}", token.words);
        let token: serde_json::Value = serde_json::from_str(&token.words).unwrap();
        let token = token["status"]["token"].as_str().unwrap();
        let access: serde_json::Value =
            serde_json::from_slice(&std::fs::read(cloud.join("access.json")).unwrap()).unwrap();
        let url = format!("https://{}/identity/v3/users", access["authority"].as_str().unwrap());
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"]).arg(cloud.join("ca.pem"));
        let listed = run(curl.arg("-H").arg(format!("X-Auth-Token: {token}")).arg(url));
        assert_eq!(listed.words, if is_admin { "200" } else { "403" }, "{arguments:?}");
    }
    let down = braid(&[], &cloud, &["down", "--purge"]);
    assert!(down.status == 0 && !cloud.exists(), "{}", down.words);
}

#[test]
fn without_root_a_cloud_is_refused_in_words_and_a_simulated_one_comes_and_goes() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let program = root.path().join("braid");
    std::fs::hard_link(env!("CARGO_BIN_EXE_braid"), &program)
        .or_else(|_| std::fs::copy(env!("CARGO_BIN_EXE_braid"), &program).map(drop))
        .unwrap();
    let nobody = |arguments: &[&str], folder: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(arguments);
        run(command.arg("--dir").arg(root.path().join(folder)))
    };
    let sims = root.path().join("sim");
    let _ends = Ends(&sims);
    let real = nobody(&UP, "real");
    assert!(real.status == 1 && real.words.contains("sudo braid up"), "{} {}", real.status, real.words);
    let elsewhere = nobody(&["status"], "../../root/none");
    assert!(elsewhere.words.contains("run it as root"), "{}", elsewhere.words);
    let sim = nobody(&SIM, "sim");
    assert_eq!(sim.status, 0, "{}", sim.words);
    let gone = nobody(&["down", "--purge"], "sim");
    assert_eq!(gone.status, 0, "{}", gone.words);
    assert!(!root.path().join("sim").exists());
}

#[test]
fn a_cloud_that_is_not_the_one_asked_for_is_not_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = dir.path().join("cloud");
    let _ends = Ends(&cloud);
    let up = braid(&[], &cloud, &[&SIM[..], &["--images", "/no/such/folder"]].concat());
    let told = up.words.contains("no VM image tiny: ") && up.words.contains("no container image tiny: ");
    assert!(up.status == 0 && told, "{}", up.words);
    let purged = braid(&[], dir.path(), &["down", "--purge"]);
    assert!(purged.status == 1 && purged.words.contains("nothing is removed"), "{}", purged.words);
    let again = braid(&[], &cloud, &SIM);
    assert!(again.status == 0 && again.words.contains("is up already"), "{}", again.words);
    let elsewhere = braid(&[], &cloud, &["up", "--sim", "--detach", "--listen", "127.0.0.1:1"]);
    assert!(elsewhere.status == 1 && elsewhere.words.contains("not at 127.0.0.1:1"), "{}", elsewhere.words);
    assert!(braid(&[], &cloud, &["status"]).words.contains(", simulated\n"));
    assert_eq!(braid(&[], &cloud, &["down"]).status, 0);
    let asked = braid(&[], &cloud, &["status"]);
    assert!(asked.status == 1 && asked.words.contains("`braid up --detach --dir "), "{}", asked.words);
    let log = std::fs::read_to_string(cloud.join("braid.log")).unwrap();
    assert!(!log.contains("ERROR"), "{log}");
    let real = braid(&[], &cloud, &UP);
    let words = "is simulated: start it with --sim";
    assert!(real.status == 1 && real.words.contains(words), "{}", real.words);
}

#[test]
fn what_another_build_runs_goes_on_with_this_one() {
    let root = tempfile::tempdir().unwrap();
    let (old, cloud) = (root.path().join("braid"), root.path().join("cloud"));
    std::fs::copy(env!("CARGO_BIN_EXE_braid"), &old).unwrap();
    let _ends = Ends(&cloud);
    // A relative path, from another folder than this one.
    let words = [&SIM[..], &["--keep-trash", "48", "--dir", "cloud"]].concat();
    let up = run(Command::new(&old).args(words).current_dir(root.path()));
    assert_eq!(up.status, 0, "{}", up.words);
    std::fs::remove_file(&old).unwrap();
    let is = || -> (String, serde_json::Value) {
        let status: serde_json::Value = serde_json::from_str(&braid(&[], &cloud, &["status", "--json"]).words).unwrap();
        let line = std::fs::read_to_string(format!("/proc/{}/cmdline", status["pid"])).unwrap();
        (line.replace('\0', " "), status)
    };
    let (_, before) = is();
    let up = braid(&[], &cloud, &["up", "--detach"]);
    assert!(up.status == 0 && up.words.contains("another build of braid"), "{}", up.words);
    let (line, after) = is();
    assert!(before["pid"] != after["pid"] && before["url"] == after["url"], "{before} {after}");
    assert!(line.starts_with(env!("CARGO_BIN_EXE_braid")) && line.contains("--keep-trash 48"), "{line}");
    let again = braid(&[], &cloud, &["up", "--detach"]);
    assert!(again.status == 0 && again.words.contains("is up already"), "{}", again.words);
    assert_eq!(is().1["pid"], after["pid"]);
}

#[test]
fn what_cannot_run_is_said_at_once() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let cloud = root.path().join("cloud");
    let hide = |programs: &[&str]| -> String {
        let hidden =
            |name: &&str| format!("p=$(command -v {name}) && mount --bind /dev/null $p && hidden=\"$hidden $p\"");
        programs.iter().map(hidden).collect::<Vec<_>>().join(" && ")
    };
    // The end of a cloud needs nft again.
    let show = "umount $hidden";
    let up = apart(&hide(&["qemu-img"]), &cloud, &UP, "true");
    assert!(
        up.status == 3 && up.words.contains("VMs cannot run: qemu-img is not installed"),
        "{} {}",
        up.status,
        up.words
    );
    assert!(!cloud.exists(), "{}", up.words);
    let up = apart(&hide(&["qemu-img", "runc", "nft"]), &cloud, &UP, show);
    for words in ["VMs cannot run: qemu-img", "pods cannot run: runc", "networks cannot run: nft"] {
        assert!(up.status == 3 && up.words.contains(words), "{} {}", up.status, up.words);
    }
    assert!(!cloud.exists(), "{}", up.words);
}

#[test]
fn two_clouds_do_not_share_addresses_unwarned() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let cloud = root.path().join("cloud");
    let other = "ip link add other type bridge && ip addr add 172.24.4.1/24 dev other && ip link set other up";
    let taken = apart(other, &cloud, &[&UP[..], &["--public", "172.24.0.0/20"]].concat(), "true");
    assert!(taken.status == 1 && taken.words.contains("172.24.4.0/24 on other"), "{} {}", taken.status, taken.words);
    // The next range is taken by itself; a network of the machine that comes later is told.
    let later = format!("ip addr add 172.24.5.1/25 dev other && \"$0\" status --dir {}", cloud.display());
    let told = apart(other, &cloud, &UP, &later);
    let words = "the addresses 172.24.5.0/24 of the external network are also this machine's 172.24.5.0/25 on other";
    assert!(told.words.contains(words), "{}", told.words);
    assert!(!cloud.exists(), "{}", told.words);
}
