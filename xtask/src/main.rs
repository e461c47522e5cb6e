//! What is checked of the source itself, as tests (`cargo test -p xtask`), and nothing that a person would type: those
//! names are in the Makefile.

#[cfg(test)]
mod circles;
#[cfg(test)]
mod upstream;

fn main() {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use serde_json::Value;

    /// The floor of each crate: it may depend on lower floors only, see ARCHITECTURE.md.
    const FLOORS: &[(&str, i32)] = &[
        ("json", -1),
        ("model", 0),
        ("store", 1),
        ("blob", 1),
        ("driver", 1),
        ("plan", 1),
        ("gate", 2),
        ("agent", 2),
        ("hosts", 3),
        ("driver-qemu", 2),
        ("driver-cri", 2),
        ("netserve", 2),
        ("driver-linuxnet", 3),
        ("face-openstack", 3),
        ("face-kube", 3),
        ("face-registry", 3),
        ("planners", 4),
        ("sim", 5),
        ("fuzz", 5),
        ("braid", 5),
        ("xtask", 5),
    ];

    /// Crates that a crate must not see, even indirectly: clocks, chance and I/O have no place in what is pure. (getrandom
    /// comes with uuid's version 4, which others use; what is pure makes version 5 alone.)
    const NEVER: &[(&str, &[&str])] = &[
        ("model", &["tokio", "rand", "fastrand", "hyper", "axum"]),
        ("plan", &["tokio", "rand", "fastrand", "hyper", "axum", "store", "driver"]),
    ];

    pub fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
    }

    fn metadata() -> Value {
        metadata_with("")
    }

    /// The workspace's packages, with these features beside the usual ones.
    pub fn metadata_with(features: &str) -> Value {
        let out = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"])
            .args(["--features", features])
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).expect("cargo metadata gives JSON")
    }

    /// Normal dependencies of each package, by id.
    fn dependencies(metadata: &Value) -> BTreeMap<String, Vec<String>> {
        let nodes = metadata["resolve"]["nodes"].as_array().expect("nodes");
        let normal =
            |dep: &Value| dep["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k["kind"].is_null()));
        let text = |value: &Value| value.as_str().expect("an id").to_owned();
        nodes
            .iter()
            .map(|node| {
                let deps = node["deps"].as_array().expect("deps").iter().filter(|d| normal(d));
                (text(&node["id"]), deps.map(|d| text(&d["pkg"])).collect())
            })
            .collect()
    }

    fn names(metadata: &Value) -> BTreeMap<String, String> {
        let packages = metadata["packages"].as_array().expect("packages");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        packages.iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect()
    }

    #[test]
    fn crates_depend_on_lower_floors_only() {
        let metadata = metadata();
        let (names, dependencies) = (names(&metadata), dependencies(&metadata));
        let floors: BTreeMap<&str, i32> = FLOORS.iter().copied().collect();
        for member in metadata["workspace_members"].as_array().expect("members") {
            let id = member.as_str().expect("an id");
            let name = names[id].as_str();
            let floor = *floors.get(name).unwrap_or_else(|| panic!("{name} has no floor: add it to FLOORS"));
            for dependency in dependencies[id].iter().map(|d| names[d].as_str()) {
                if let Some(other) = floors.get(dependency) {
                    assert!(*other < floor, "{name} (floor {floor}) depends on {dependency} (floor {other})");
                }
            }
        }
    }

    #[test]
    fn faces_do_not_see_each_other_nor_what_runs() {
        let metadata = metadata();
        let (names, dependencies) = (names(&metadata), dependencies(&metadata));
        for (id, deps) in &dependencies {
            let name = names[id].as_str();
            if !name.starts_with("face-") {
                continue;
            }
            for dependency in deps.iter().map(|d| names[d].as_str()) {
                let banned = dependency.starts_with("face-")
                    || dependency.starts_with("driver")
                    || ["plan", "agent", "netserve"].contains(&dependency);
                assert!(!banned, "{name} depends on {dependency}");
            }
        }
    }

    #[test]
    fn what_is_pure_stays_pure() {
        let metadata = metadata();
        let (names, dependencies) = (names(&metadata), dependencies(&metadata));
        for (name, banned) in NEVER {
            let id = names.iter().find(|(_, n)| n == name).map(|(id, _)| id.clone()).expect("a member");
            let mut seen = vec![id];
            let mut next = 0;
            while next < seen.len() {
                for dependency in &dependencies[&seen[next]] {
                    assert!(!banned.contains(&names[dependency].as_str()), "{name} reaches {}", names[dependency]);
                    if !seen.contains(dependency) {
                        seen.push(dependency.clone());
                    }
                }
                next += 1;
            }
        }
    }

    /// The folders of the workspace's crates.
    pub fn crates() -> Vec<PathBuf> {
        let metadata = metadata();
        let members = metadata["workspace_members"].as_array().expect("members");
        let packages = metadata["packages"].as_array().expect("packages").iter();
        let manifests = packages.filter(|p| members.contains(&p["id"])).filter_map(|p| p["manifest_path"].as_str());
        manifests.filter_map(|m| Path::new(m).parent()).map(Path::to_owned).collect()
    }

    pub fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
                sources(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }

    /// The commonest regret of code bases like this one is the file of ten thousand lines.
    #[test]
    fn files_stay_short() {
        let mut files = Vec::new();
        sources(&root().join("crates"), &mut files);
        for file in files {
            let lines = std::fs::read_to_string(&file).expect("text").lines().count();
            assert!(lines <= 800, "{} has {lines} lines; give its second idea a file of its own", file.display());
        }
    }

    /// The first comment of a file says why it exists.
    #[test]
    fn files_say_why_they_exist() {
        let mut files = Vec::new();
        sources(&root().join("crates"), &mut files);
        for file in files.iter().filter(|f| f.components().any(|c| c.as_os_str() == "src")) {
            let text = std::fs::read_to_string(file).expect("text");
            assert!(
                text.starts_with("//!"),
                "{} does not begin with a comment that says why it exists",
                file.display()
            );
        }
    }
}
