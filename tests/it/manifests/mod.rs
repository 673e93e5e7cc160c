//! The manifests of deploy/kubernetes and deploy/istio: each document is one of its kind, they fit together, ask for no right that is
//! not needed, and the configurations in them are ones that the program takes.

pub(crate) mod read;
pub(crate) mod volumes;

use std::fs;

use serde_json::{Value, json};

use self::read::{Workload, is_ours, list, named, of_kind, ports, workloads};
use self::volumes::{contents, fill};
use crate::process::rig::{certbind, output};

#[test]
fn every_manifest_is_one_of_its_kind_and_what_it_names_is_there() {
    for workload in workloads() {
        for container in workload.containers() {
            let name = format!("{}: {}", workload.file, container["name"]);
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                let asks = ["/httpGet/port", "/tcpSocket/port"].iter().find_map(|at| container[probe].pointer(at));
                assert!(asks.is_none_or(|port| ports(container).any(|own| own["name"] == *port)), "{name}: {probe}");
            }
            for mount in list(&container["volumeMounts"]) {
                assert!(workload.volume(&mount["name"]).is_some(), "{name}: {mount}");
                assert!(mount.get("subPath").is_none(), "{name}: Kubernetes never swaps it");
            }
        }
        for volume in list(&workload.pod["volumes"]) {
            contents(volume, workload.file);
        }
    }
    for kind in ["Service", "NetworkPolicy", "PodDisruptionBudget"] {
        for document in of_kind(kind) {
            let selects = ["/spec/selector/matchLabels", "/spec/podSelector/matchLabels", "/spec/selector"];
            let wanted = selects.iter().find_map(|at| document.is.pointer(at)).unwrap().as_object().unwrap();
            let all = workloads();
            let mut chosen = all
                .iter()
                .filter(|workload| wanted.iter().all(|(key, value)| workload.labels[key] == *value))
                // Two files may be two ways to run it.
                .filter(|workload| workload.file == document.file || named_elsewhere(&document.file))
                .peekable();
            assert!(chosen.peek().is_some(), "{}: {kind}: {wanted:?}", document.file);
            for workload in chosen {
                has_ports_of(workload, &document.is);
            }
        }
    }
}

/// server.yaml has the service of what runs in the files of stores.
fn named_elsewhere(file: &str) -> bool {
    file == "deploy/kubernetes/server.yaml"
}

fn has_ports_of(workload: &Workload, service: &'static Value) {
    for wanted in list(&service["spec"]["ports"]) {
        let has = workload.containers().flat_map(ports).any(|own| own["name"] == wanted["targetPort"]);
        assert!(has, "{}: {wanted}", workload.file);
    }
}

#[test]
fn no_container_has_a_right_that_it_does_not_need() {
    for workload in workloads() {
        for container in workload.containers() {
            let name = format!("{}: {}", workload.file, container["name"]);
            let (own, of_pod) = (&container["securityContext"], &workload.pod["securityContext"]);
            let of = |key: &str| own.get(key).or(of_pod.get(key)).unwrap_or_else(|| panic!("{name}: {key}"));
            assert_eq!(of("runAsNonRoot"), &json!(true), "{name}");
            assert!(of("runAsUser").as_u64().is_some_and(|user| user > 0), "{name}");
            assert_eq!(of("seccompProfile"), &json!({"type": "RuntimeDefault"}), "{name}");
            assert_eq!(own["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(own["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(own["capabilities"], json!({"drop": ["ALL"]}), "{name}");
            if is_ours(container) {
                assert_eq!(of_pod["fsGroup"], 65532, "{name}: keys are for a group");
                if !is_agent(container) {
                    assert_eq!(container.pointer("/livenessProbe/httpGet/path").unwrap(), "/livez", "{name}");
                }
                assert!(container.pointer("/resources/limits/memory").is_some(), "{name}");
                let (grace, drain) = (&workload.pod["terminationGracePeriodSeconds"], 10);
                let sleep = container.pointer("/lifecycle/preStop/sleep/seconds").and_then(Value::as_u64).unwrap_or(0);
                assert!(grace.as_u64().unwrap() > sleep + drain, "{name}: limits.drain_timeout");
            }
        }
    }
}

#[test]
fn every_configuration_in_a_manifest_is_one_that_the_program_takes() {
    let mut checked = Vec::new();
    for workload in workloads() {
        for container in workload.containers().filter(|container| is_ours(container) && !is_agent(container)) {
            let arguments: Vec<&str> = list(&container["args"]).map(|argument| argument.as_str().unwrap()).collect();
            let [command, "--config", config] = arguments[..] else { panic!("{}: {arguments:?}", workload.file) };
            let root = tempfile::tempdir().unwrap();
            fill(root.path(), &workload, container);
            let file = root.path().join(config.trim_start_matches('/'));
            let mut text =
                fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {config}: {error}", workload.file));
            // Whatever it names lies where a volume is mounted, or is not found now.
            for (before, folder) in ["\"", "file:", "unix:"]
                .iter()
                .flat_map(|before| ["/etc/", "/run/", "/var/"].map(|folder| (before, folder)))
            {
                text =
                    text.replace(&format!("{before}{folder}"), &format!("{before}{}{folder}", root.path().display()));
            }
            fs::write(&file, text).unwrap();
            let check: &[&str] = if command == "serve" { &["config", "check"] } else { &["guard", "--check"] };
            let (stdout, stderr, status) = output(certbind().args(check).arg("--config").arg(&file));
            assert!(status.success(), "{}: {stdout}{stderr}", workload.file);
            // /metrics and the probes are in plain text, for the node and for Prometheus.
            let said = format!("{stdout}{stderr}");
            let mut warnings = said.lines().filter(|line| line.contains("warning"));
            assert!(warnings.all(|line| line.contains("listen.ops.address")), "{}: {said}", workload.file);
            checked.push(format!("{} {command}", workload.file));
        }
    }
    checked.sort();
    let expected = [
        "deploy/istio/workload.yaml guard",
        "deploy/kubernetes/guard.yaml guard",
        "deploy/kubernetes/sidecar.yaml guard",
        "deploy/kubernetes/store-embedded.yaml serve",
        "deploy/kubernetes/store-postgres.yaml serve",
    ];
    assert_eq!(checked, expected);
}

/// The agent has no configuration but its command line, and no port.
fn is_agent(container: &Value) -> bool {
    container["args"][0] == "agent"
}

#[test]
fn the_agent_of_a_manifest_is_started_as_it_can_be_and_its_program_has_its_folder_and_user() {
    let all = workloads();
    let of_agents = all.iter().flat_map(|workload| workload.containers().map(move |container| (workload, container)));
    let agents: Vec<_> = of_agents.filter(|(_, container)| is_agent(container)).collect();
    assert_eq!(agents.len(), 1);
    for (workload, container) in agents {
        let arguments = list(&container["args"]).map(|argument| argument.as_str().unwrap());
        let (help, stderr, status) = output(certbind().args(arguments.clone()).arg("--help"));
        assert!(status.success(), "{stderr}");
        let root = tempfile::tempdir().unwrap();
        fill(root.path(), workload, container);
        for variable in list(&container["env"]) {
            let (name, value) = (variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
            assert!(help.contains(&format!("[{name}]")), "{name}");
            assert!(!value.starts_with('/') || root.path().join(&value[1..]).exists(), "{name}: {value}");
        }
        let dir = arguments.skip_while(|argument| *argument != "--dir").nth(1).unwrap();
        let has_it = |container: &&'static Value| {
            let mut mounts = list(&container["volumeMounts"]).map(|mount| mount["mountPath"].as_str().unwrap());
            mounts.any(|mount| dir.starts_with(&format!("{mount}/")))
        };
        assert_eq!(workload.containers().filter(has_it).count(), 2);
        let users = workload.containers().filter(|container| container["securityContext"].get("runAsUser").is_some());
        assert_eq!(users.count(), 0, "the user of the pod for both");
    }
}

#[test]
fn whoever_a_guard_of_the_manifests_believes_is_the_proxy_there() {
    let listen = |name: &str, file: &str| -> toml::Value {
        let config = named("ConfigMap", name, file).unwrap();
        config.is["data"]["guard.toml"].as_str().unwrap().parse::<toml::Table>().unwrap()["listen"].clone()
    };
    // Over TLS: the name in the certificate of the gateway.
    let gateway = named("Certificate", "certbind-guard-client", "deploy/istio/gateway.yaml").unwrap();
    let believed = listen("certbind-guard", "deploy/kubernetes/guard.yaml");
    assert_eq!(gateway.is.pointer("/spec/uris/0").unwrap(), believed["allow"][0]["san_uri"].as_str().unwrap());
    // Over a socket: the number of the proxy's user.
    let sidecar = "deploy/kubernetes/sidecar.yaml";
    let envoys = workloads().into_iter().filter(|workload| workload.file == sidecar).flat_map(|workload| {
        workload.containers().filter(|container| container["name"] == "envoy").collect::<Vec<_>>()
    });
    let users: Vec<_> = envoys.map(|envoy| envoy["securityContext"]["runAsUser"].to_string()).collect();
    assert_eq!(users, [listen("payments-guard", sidecar)["users"][0].as_str().unwrap()]);
    assert_eq!(listen("payments-guard", "deploy/istio/workload.yaml")["users"][0].as_str(), Some("1337"));
}

#[test]
fn the_proxy_of_the_mesh_stays_out_of_what_the_guard_needs_before_it() {
    let file = "deploy/istio/workload.yaml";
    let annotations = &named("Deployment", "payments", file).unwrap().is["spec"]["template"]["metadata"]["annotations"];
    let config = named("ConfigMap", "payments-guard", file).unwrap();
    let guard: toml::Table = config.is["data"]["guard.toml"].as_str().unwrap().parse().unwrap();
    let port = |address: &toml::Value| address.as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    assert_eq!(annotations["traffic.sidecar.istio.io/excludeOutboundPorts"], port(&guard["issuer"]));
    assert_eq!(annotations["traffic.sidecar.istio.io/excludeInboundPorts"], port(&guard["listen"]["ops"]["address"]));
}

#[test]
fn the_mesh_asks_guards_that_there_are_and_fails_closed() {
    let mesh = of_kind("IstioOperator").next().unwrap();
    let providers: Vec<_> = list(mesh.is.pointer("/spec/meshConfig/extensionProviders").unwrap()).collect();
    assert_eq!(providers.len(), 2);
    for provider in providers {
        let has_its_name = |policy: &Value| policy.pointer("/spec/provider/name") == Some(&provider["name"]);
        assert!(of_kind("AuthorizationPolicy").any(|policy| has_its_name(&policy.is)), "{provider}");
        let asked = &provider["envoyExtAuthzGrpc"];
        assert_eq!(
            (&asked["failOpen"], &asked["statusOnError"], &asked["timeout"]),
            (&json!(false), &json!("503"), &json!("2s"))
        );
        let (namespace, host) = asked["service"].as_str().unwrap().split_once('/').unwrap();
        let is_it = |service: &Value| {
            let name = format!("{}.{namespace}.svc.cluster.local", service["metadata"]["name"].as_str().unwrap());
            let has_port = list_of(&service["spec"]["ports"])
                .any(|port| port["port"] == asked["port"] || port["number"] == asked["port"]);
            let has_name = name == host || service.pointer("/spec/hosts/0").is_some_and(|own| own == host);
            service["metadata"]["namespace"] == namespace && has_name && has_port
        };
        let services = of_kind("Service").chain(of_kind("ServiceEntry"));
        assert_eq!(services.filter(|service| is_it(&service.is)).count(), 1, "{host}");
        let rules = of_kind("DestinationRule").filter(|rule| rule.is["spec"]["host"] == host);
        let modes: Vec<_> = rules.map(|rule| rule.is.pointer("/spec/trafficPolicy/tls/mode").unwrap()).collect();
        assert_eq!(modes, [if namespace == "payments" { "DISABLE" } else { "MUTUAL" }], "{host}");
    }
}

fn list_of(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
