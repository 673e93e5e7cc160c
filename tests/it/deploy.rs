//! The files of deploy/ fit the program: its commands, its ports, its sockets' names; and they ask for no more than it needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use certbind::config::keys::{Fallback, KEYS};

use crate::house;
use crate::support::finish::Finish as _;

/// The most that `systemd-analyze security` may rate the service, in tenths. The network alone is 7.
const MOST_EXPOSURE: u32 = 15;

/// Section and key to the values, in their order.
type Unit = BTreeMap<(String, String), Vec<String>>;

fn unit(name: &str) -> Unit {
    let mut unit = Unit::new();
    let mut section = String::new();
    for line in house::read(&format!("deploy/{name}")).lines().map(str::trim) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => name.clone_into(&mut section),
            None if line.is_empty() || line.starts_with('#') => {}
            None => {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: {line}"));
                unit.entry((section.clone(), key.to_owned())).or_default().push(value.to_owned());
            }
        }
    }
    unit
}

fn one<'a>(unit: &'a Unit, section: &str, key: &str) -> &'a str {
    match unit.get(&(section.to_owned(), key.to_owned())).map(Vec::as_slice) {
        Some([value]) => value,
        other => panic!("[{section}] {key}=: {other:?}"),
    }
}

/// What holds for a key of the configuration when nothing is said.
fn fallback(path: &str) -> &'static str {
    match KEYS.iter().find(|key| key.path == path).unwrap().fallback {
        Fallback::Is(value) => value,
        other => panic!("{path}: {other:?}"),
    }
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap()
}

#[test]
fn the_unit_starts_what_there_is_where_it_says() {
    let (service, socket) = (unit("certbind.service"), unit("certbind.socket"));
    let command = one(&service, "Service", "ExecStart");
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    assert_eq!(arguments, ["serve", "--config", "/etc/certbind/certbind.toml"]);
    let help = Command::new(env!("CARGO_BIN_EXE_certbind")).args([arguments[0], "--help"]).finish();
    assert!(String::from_utf8(help.stdout).unwrap().contains(arguments[1]));
    assert_eq!(one(&socket, "Socket", "ListenStream"), fallback("listen.mtls.address"));
    assert_eq!(one(&socket, "Socket", "FileDescriptorName"), "mtls");
    assert_eq!(one(&service, "Unit", "Requires"), "certbind.socket");
    assert_eq!(Path::new("/var/lib").join(one(&service, "Service", "StateDirectory")), Path::new(fallback("data_dir")));
}

#[test]
fn the_unit_of_the_guard_has_the_socket_where_the_samples_say() {
    let service = unit("certbind-guard.service");
    let command = one(&service, "Service", "ExecStart");
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    assert_eq!(arguments, ["guard", "--config", "/etc/certbind/guard.toml"]);
    let folder = Path::new("/run").join(one(&service, "Service", "RuntimeDirectory"));
    let socket = format!("unix:{}", folder.join("guard.sock").display());
    for gateway in ["nginx", "envoy", "caddy", "haproxy"] {
        assert!(house::read(&format!("deploy/{gateway}/guard.toml")).contains(&socket), "{gateway}");
    }
    // The users of proxies are seen as they are, and come to the socket.
    assert_eq!(one(&service, "Service", "PrivateUsers"), "no");
    assert_eq!(one(&service, "Service", "RuntimeDirectoryMode"), "0755");
}

#[test]
fn the_unit_of_the_agent_starts_what_there_is_and_others_reach_its_socket() {
    let service = unit("certbind-agent.service");
    let command = one(&service, "Service", "ExecStart");
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    let folder = Path::new("/run").join(one(&service, "Service", "RuntimeDirectory"));
    assert_eq!(arguments, ["agent", "--socket", folder.join("agent.sock").to_str().unwrap()]);
    let help = Command::new(env!("CARGO_BIN_EXE_certbind")).args([arguments[0], "--help"]).finish();
    let help = String::from_utf8(help.stdout).unwrap();
    for word in ["--socket", "--user", "CERTBIND_ISSUER", "CERTBIND_CLIENT_ID", "CERTBIND_CERT", "CERTBIND_KEY"] {
        assert!(help.contains(word), "{word}");
    }
    // `agent::daemon` holds the agent to what it tells a manager.
    assert_eq!(one(&service, "Service", "Type"), "notify");
    assert_eq!(one(&service, "Service", "TimeoutStartSec"), "infinity");
    assert_eq!(one(&service, "Service", "PrivateUsers"), "no");
    assert_eq!(one(&service, "Service", "RuntimeDirectoryMode"), "0755");
}

#[test]
fn the_unit_asks_for_no_right_that_it_does_not_need() {
    let server = unit("certbind.service");
    assert_eq!(one(&server, "Service", "Type"), "notify-reload");
    assert_eq!(one(&server, "Service", "StateDirectoryMode"), "0700");
    asks_for_nothing(&server);
    asks_for_nothing(&unit("certbind-guard.service"));
    asks_for_nothing(&unit("certbind-agent.service"));
    assert!(house::read("deploy/sysusers.conf").contains("u certbind "));
}

fn asks_for_nothing(service: &Unit) {
    for (key, value) in [
        ("User", "certbind"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("LimitCORE", "0"),
        ("MemoryDenyWriteExecute", "yes"),
        ("NoNewPrivileges", "yes"),
        ("PrivateDevices", "yes"),
        ("PrivateTmp", "yes"),
        ("ProtectHome", "yes"),
        ("ProtectSystem", "strict"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("UMask", "0077"),
    ] {
        assert_eq!(one(service, "Service", key), value, "{key}");
    }
    let filters = &service[&("Service".to_owned(), "SystemCallFilter".to_owned())];
    assert_eq!(filters, &["@system-service", "~@privileged @resources"]);
}

/// Only where systemd is: the two tests before this one hold the units to the program anywhere.
#[test]
fn systemd_takes_the_units_and_rates_the_service_well() {
    let dir = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_certbind");
    for name in ["certbind.service", "certbind.socket", "certbind-guard.service", "certbind-agent.service"] {
        let text = house::read(&format!("deploy/{name}")).replace("/usr/local/bin/certbind", binary);
        fs::write(dir.path().join(name), text).unwrap();
    }
    for name in ["certbind.service", "certbind-guard.service", "certbind-agent.service"] {
        rates_well(&dir.path().join(name));
    }
}

fn rates_well(service: &Path) {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        return;
    }
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(service).finish();
    let verified = analyze(&["verify", "--man=no"]);
    let complaints = String::from_utf8(verified.stderr).unwrap();
    // Of a systemd that is older than the type.
    let complaints: Vec<_> =
        complaints.lines().filter(|line| !line.contains("service type, ignoring: notify-reload")).collect();
    assert!(verified.status.success() && complaints.is_empty(), "{complaints:?}");
    let rated = analyze(&["security", "--offline=true", "--no-pager", &format!("--threshold={MOST_EXPOSURE}")]);
    assert!(rated.status.success(), "{}", String::from_utf8_lossy(&rated.stdout));
}

#[test]
fn the_image_is_small_pinned_and_run_by_nobody() {
    let text = house::read("deploy/Containerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let steps: Vec<(&str, &str)> = lines.map(|line| line.split_once(' ').unwrap()).collect();
    let all = |name: &str| steps.iter().filter(|(step, _)| *step == name).map(|(_, rest)| *rest).collect::<Vec<_>>();

    let bases = all("FROM");
    assert_eq!(bases.len(), 2, "one stage to build, one to run");
    for base in &bases {
        let (_, tag) = base.split(' ').next().unwrap().rsplit_once(':').unwrap_or_else(|| panic!("{base} has no tag"));
        assert_ne!(tag, "latest");
    }
    let manifest: toml::Table = house::read("Cargo.toml").parse().unwrap();
    let toolchain = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(bases[0].contains(&format!("/rust:{toolchain}-slim")), "{}", bases[0]);
    assert!(all("ADD").is_empty(), "ADD fetches and unpacks what nobody has looked at");
    assert!(all("RUN").iter().any(|run| run.contains("--locked")));

    let last = steps.iter().rposition(|(step, _)| *step == "FROM").unwrap();
    let image: Vec<_> = steps[last..].iter().map(|(step, _)| *step).collect();
    assert_eq!(image, ["FROM", "COPY", "USER", "EXPOSE", "VOLUME", "STOPSIGNAL", "ENTRYPOINT", "CMD"]);
    let user = all("USER")[0].split(':').next().unwrap();
    assert!(user.parse::<u32>().is_ok_and(|user| user > 0), "a number other than root's, as runAsNonRoot looks at it");
    let ports = [port(fallback("listen.mtls.address")), port(fallback("listen.ops.address"))];
    assert_eq!(all("EXPOSE")[0].split(' ').collect::<Vec<_>>(), ports);
    assert_eq!(all("VOLUME"), [fallback("data_dir")]);
    for form in ["ENTRYPOINT", "CMD"] {
        let words: Vec<String> = serde_json::from_str(all(form)[0]).expect("no shell");
        assert!(!words.is_empty());
    }
}
