//! What is in the volumes of the manifests, as files in a folder.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use certbind_devpki::{Issuer, LeafSpec, Validity};
use certbind_proto::time::{Clock as _, SystemClock};
use serde_json::Value;

use super::read::{Workload, list, named, of_kind};

/// What the manifests name and do not make: each says in a comment where it comes from.
const FROM_ELSEWHERE: &[(&str, &[&str])] = &[
    ("certbind-trust", &["ca.crt"]),
    ("certbind-issuer-ca", &["ca.crt"]),
    ("certbind-database", &["url", "ca.crt"]),
    ("certbind-sealing", &["key"]),
    ("payments-envoy", &["envoy.yaml"]),
];

/// What cert-manager puts into the secret of a certificate.
const OF_CERTIFICATES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// A file, with its content if a manifest has it.
type File = (String, Option<String>);

/// Puts into a folder what a container sees.
pub(crate) fn fill(root: &Path, workload: &Workload, container: &'static Value) {
    let validity = Validity::days_from(SystemClock.now().unix() - 3600, 30);
    let ca = Issuer::root("CA", validity).unwrap();
    let certificate = named("Certificate", "certbind-server", workload.file).unwrap();
    let host = certificate.is.pointer("/spec/dnsNames/0").unwrap().as_str().unwrap();
    let server = ca.leaf(&LeafSpec::server(validity).dns(host)).unwrap();
    let made = |name: &str| match name {
        "tls.crt" | "server.pem" => server.chain_pem(),
        "tls.key" | "server.key" => server.key_pem(),
        "ca.crt" | "ca.pem" => ca.certificate_pem(),
        "url" => "postgres://certbind:secret@db.example.com/certbind?sslmode=verify-full".to_owned(),
        "key" => "1kQxPo2m0N7wYb4Jf9dZ3sVt8uHc5rLaEe6gXiTnWqM=".to_owned(),
        other => panic!("nobody knows what {other} is"),
    };
    for mount in list(&container["volumeMounts"]) {
        let folder = root.join(mount["mountPath"].as_str().unwrap().trim_start_matches('/'));
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in contents(workload.volume(&mount["name"]).unwrap(), workload.file) {
            let file = folder.join(&name);
            fs::write(&file, text.unwrap_or_else(|| made(&name))).unwrap();
            // As `fsGroup` and `defaultMode` have it.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        }
    }
}

/// The files in a volume; fails when nobody makes it.
pub(crate) fn contents(volume: &'static Value, file: &str) -> Vec<File> {
    let (kind, name, all) = match (volume.pointer("/configMap/name"), volume.pointer("/secret/secretName")) {
        (Some(name), _) => ("configMap", name, of_config_map(name.as_str().unwrap(), file)),
        (_, Some(name)) => {
            assert_eq!(volume["secret"]["defaultMode"], 0o440, "{name}: a key that others can read is refused");
            ("secret", name, of_certificate(name))
        }
        _ => return Vec::new(),
    };
    let elsewhere = || FROM_ELSEWHERE.iter().find(|(known, _)| name == known).map(|(_, keys)| nameless(keys));
    let all = all.or_else(elsewhere).unwrap_or_else(|| panic!("{file}: nobody makes {name}"));
    let mut items = list(&volume[kind]["items"]).peekable();
    if items.peek().is_none() {
        return all;
    }
    let renamed = items.map(|item| {
        let (_, text) = all.iter().find(|(key, _)| item["key"] == **key).unwrap_or_else(|| panic!("{name}: {item}"));
        (item["path"].as_str().unwrap().to_owned(), text.clone())
    });
    renamed.collect()
}

fn of_config_map(name: &str, file: &str) -> Option<Vec<File>> {
    let data = named("ConfigMap", name, file)?.is["data"].as_object().unwrap();
    Some(data.iter().map(|(key, text)| (key.clone(), Some(text.as_str().unwrap().to_owned()))).collect())
}

fn of_certificate(secret: &Value) -> Option<Vec<File>> {
    let is_its = |certificate: &Value| certificate["spec"]["secretName"] == *secret;
    of_kind("Certificate").any(|certificate| is_its(&certificate.is)).then(|| nameless(&OF_CERTIFICATES))
}

fn nameless(keys: &[&str]) -> Vec<File> {
    keys.iter().map(|key| ((*key).to_owned(), None)).collect()
}
