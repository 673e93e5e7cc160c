//! The documents of the manifests, and what is where in them.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use crate::house;
use crate::support::finish::Finish as _;

/// Python's packages that have the schemas.
const PACKAGES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/manifests-1");

/// A document of a file.
pub(crate) struct Document {
    pub(crate) file: String,
    pub(crate) is: Value,
}

/// All of them, read once and held against the schemas of their kinds by `read.py`.
pub(crate) static DOCUMENTS: LazyLock<Vec<Document>> = LazyLock::new(|| {
    let python = Path::new(PACKAGES).join("bin/python");
    assert!(python.exists(), "{} is not there: scripts/test installs it", python.display());
    let files = ["deploy/kubernetes", "deploy/istio"].iter().flat_map(|folder| house::files(folder));
    let files: Vec<String> = files.filter(|file| file.ends_with(".yaml")).collect();
    let script = house::root().join("tests/it/manifests/read.py");
    let read = Command::new(python).arg(script).args(&files).current_dir(house::root()).finish();
    let said = String::from_utf8(read.stderr).unwrap();
    assert!(read.status.success(), "{said}");
    assert_eq!(said, "install.istio.io/v1alpha1 IstioOperator: syntax only\n");
    let documents: Vec<Value> = serde_json::from_slice(&read.stdout).unwrap();
    assert!(documents.len() > files.len());
    let of =
        |entry: Value| Document { file: entry["file"].as_str().unwrap().to_owned(), is: entry["document"].clone() };
    documents.into_iter().map(of).collect()
});

/// A file of YAML, as JSON.
pub(crate) fn as_json(file: &Path) -> Value {
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let read = Command::new(Path::new(PACKAGES).join("bin/python")).args(["-c", script]).arg(file).finish();
    serde_json::from_slice(&read.stdout).unwrap()
}

/// What the `EnvoyFilter` of a file merges into a filter of Envoy.
pub(crate) fn merged_into(filter: &str, file: &str) -> Value {
    let filters = of_kind("EnvoyFilter").filter(|document| document.file == file);
    let patches = filters.flat_map(|document| list(&document.is["spec"]["configPatches"]));
    let is_for = |patch: &&Value| {
        let of = patch.pointer("/match/listener/filterChain/filter").unwrap_or(&Value::Null);
        let names = [of["name"].as_str(), of["subFilter"]["name"].as_str()];
        names.into_iter().flatten().last() == Some(filter)
    };
    let mut patches = patches.filter(is_for).map(|patch| &patch["patch"]);
    let (Some(patch), None) = (patches.next(), patches.next()) else { panic!("{file}: {filter}") };
    assert_eq!(patch["operation"], "MERGE", "{file}: {filter}");
    patch["value"]["typed_config"].clone()
}

/// Those of a kind.
pub(crate) fn of_kind(kind: &str) -> impl Iterator<Item = &'static Document> {
    DOCUMENTS.iter().filter(move |document| document.is["kind"] == kind)
}

/// The one that has this kind and name, in this file if there are two: some files are ways to do the same.
pub(crate) fn named(kind: &str, name: &str, file: &str) -> Option<&'static Document> {
    let all: Vec<_> = of_kind(kind).filter(|document| document.is["metadata"]["name"] == name).collect();
    all.iter().find(|document| document.file == file).or(all.first()).copied()
}

/// A workload: the pods that a document makes.
pub(crate) struct Workload {
    pub(crate) file: &'static str,
    pub(crate) labels: &'static Value,
    pub(crate) pod: &'static Value,
    claims: &'static Value,
}

/// All of them.
pub(crate) fn workloads() -> Vec<Workload> {
    let of = |document: &'static Document| {
        let template = document.is.pointer("/spec/template")?;
        let (labels, pod) = (&template["metadata"]["labels"], &template["spec"]);
        Some(Workload { file: &document.file, labels, pod, claims: &document.is["spec"]["volumeClaimTemplates"] })
    };
    DOCUMENTS.iter().filter_map(of).collect()
}

impl Workload {
    pub(crate) fn containers(&self) -> impl Iterator<Item = &'static Value> {
        list(&self.pod["initContainers"]).chain(list(&self.pod["containers"]))
    }

    /// A volume by its name: its own, or one that is claimed for each pod.
    pub(crate) fn volume(&self, name: &Value) -> Option<&'static Value> {
        let mut claims = list(self.claims);
        let own = list(&self.pod["volumes"]).find(|volume| volume["name"] == *name);
        own.or_else(|| claims.find(|claim| claim["metadata"]["name"] == *name))
    }
}

/// The ports of a container.
pub(crate) fn ports(container: &'static Value) -> impl Iterator<Item = &'static Value> {
    list(&container["ports"])
}

/// Whether a container runs certbind.
pub(crate) fn is_ours(container: &Value) -> bool {
    container["image"].as_str().unwrap().contains("/certbind:")
}

/// The elements of a list; none where there is none.
pub(crate) fn list(value: &'static Value) -> impl Iterator<Item = &'static Value> + Clone {
    value.as_array().into_iter().flatten()
}
