//! A registration in a file, TOML as in `clients.d` or JSON, to the self-contained JSON that the admin API takes.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use certbind_proto::cert::Certificate;
use certbind_proto::json;
use certbind_proto::jwk::Jwk;
use certbind_proto::time::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value};

/// Reads a registration; files that it names are put in their place, relative to its own folder.
///
/// # Errors
/// When a file cannot be read or is none.
pub(in crate::cli) fn read(path: &Path) -> anyhow::Result<Map<String, Value>> {
    let named = || format!("{}", path.display());
    let text = fs::read_to_string(path).with_context(named)?;
    let mut document = if path.extension().is_some_and(|extension| extension == "json") {
        json::parse_object(text.as_bytes()).with_context(named)?
    } else {
        toml::from_str::<Map<String, Value>>(&text).with_context(named)?
    };
    resolve(&mut document, path.parent().unwrap_or(Path::new("."))).with_context(named)?;
    Ok(document)
}

fn resolve(document: &mut Map<String, Value>, folder: &Path) -> anyhow::Result<()> {
    if let Some(Value::String(reference)) = document.get("jwks") {
        let set = key_set(&file_of(reference, folder)?)?;
        document.insert("jwks".to_owned(), set);
    }
    let certificates = document.get_mut("certbind").and_then(|ours| ours.get_mut("certificates"));
    for entry in certificates.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(reference) = entry.as_str().filter(|text| text.starts_with("file:")) {
            *entry = certificate(&file_of(reference, folder)?)?.to_pem().into();
        }
    }
    Ok(())
}

fn file_of(reference: &str, folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let path = reference.strip_prefix("file:").context("a file is named as file:PATH")?;
    Ok(folder.join(path))
}

/// The key set in a file.
///
/// # Errors
/// When it cannot be read or is none.
pub(super) fn key_set(path: &Path) -> anyhow::Result<Value> {
    let bytes = fs::read(path).with_context(|| format!("{}", path.display()))?;
    let set = json::parse_object(&bytes).with_context(|| format!("{} is no JSON object", path.display()))?;
    Ok(Value::Object(set))
}

/// The public keys in a file, one JWK or a set of them, each as it stands there.
///
/// # Errors
/// When it cannot be read, is none, or holds a private key.
pub(super) fn keys(path: &Path) -> anyhow::Result<Vec<(Map<String, Value>, Jwk)>> {
    let Value::Object(document) = key_set(path)? else { return Ok(Vec::new()) };
    let members = match document.get("keys") {
        Some(keys) => keys.as_array().into_iter().flatten().filter_map(Value::as_object).cloned().collect(),
        None => vec![document],
    };
    anyhow::ensure!(!members.is_empty(), "{} holds no key", path.display());
    let read = |members: Map<String, Value>| {
        let key = Jwk::parse(&members).with_context(|| format!("{}", path.display()))?;
        Ok((members, key))
    };
    members.into_iter().map(read).collect()
}

/// The certificate in a file, PEM or DER; the first, where its issuers stand behind it.
///
/// # Errors
/// When it cannot be read or is none.
pub(in crate::cli) fn certificate(path: &Path) -> anyhow::Result<Certificate> {
    let bytes = fs::read(path).with_context(|| format!("{}", path.display()))?;
    let der = match bytes.first() {
        Some(0x30) => CertificateDer::from(bytes),
        _ => CertificateDer::from_pem_slice(&bytes)
            .with_context(|| format!("{} holds no PEM certificate", path.display()))?,
    };
    Certificate::parse(&der).with_context(|| format!("{}", path.display()))
}

/// Says of a certificate that is to be registered that it is over: unless the registration says that its dates do not
/// count, it authenticates nobody.
pub(super) fn warn_of_end(certificate: &Certificate, now: Timestamp) {
    if certificate.is_expired(now) {
        let since = certificate.not_after();
        eprintln!("certbind: warning: this certificate ended at {since}");
    }
}
