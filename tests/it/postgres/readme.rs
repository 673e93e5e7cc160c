//! The lines of the README that lead from one server to three.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use certbind::cli::dev::setup::Setup;
use serde_json::Value;

use super::cluster;
use crate::documents::{FLEET, commands_of, shell, shell_command};
use crate::support::PKI;

#[test]
fn three_servers_on_one_database_start_as_the_readme_says_and_publish_one_key() {
    let (folder, database) = (tempfile::tempdir().unwrap(), cluster::database());
    let address = "127.0.0.1:8443".parse().unwrap();
    Setup::with_pki(&folder.path().join("dev"), address, "127.0.0.1:8444".parse().unwrap(), &PKI).unwrap();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    let ports: Vec<String> =
        [free(), free(), free()].map(|free| free.local_addr().unwrap().port().to_string()).to_vec();

    let mut servers = None;
    let mut printed = String::new();
    for command in commands_of(FLEET) {
        let here = command.replace("host=/run/postgresql user=certbind dbname=certbind", &database.url());
        let here = here.replace("8445 8446 8447", &ports.join(" "));
        if here.ends_with("& done") {
            servers = Some(Servers::start(&here, folder.path()));
            continue;
        }
        let output = shell(&here, folder.path());
        assert!(output.status.success(), "{here}\n{}", String::from_utf8_lossy(&output.stderr));
        printed.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    assert!(servers.is_some());
    let sets: Vec<Value> = serde_json::Deserializer::from_str(&printed).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(sets.len(), 3, "{printed}");
    let kids: BTreeSet<&str> = sets.iter().map(|set| set["keys"][0]["kid"].as_str().unwrap()).collect();
    assert_eq!(kids.len(), 1, "{printed}");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(folder.path().join("dev/keys.key")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

/// Servers in the background of a shell; they end with this.
struct Servers(Child);

impl Servers {
    fn start(line: &str, folder: &std::path::Path) -> Self {
        let mut shell = shell_command(&format!("{line}; wait"), folder);
        Self(shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let shell = self.0.id();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap_or_default();
        for pid in children.split_whitespace() {
            let _ = Command::new("kill").arg(pid).status();
        }
        let _ = self.0.wait();
    }
}
