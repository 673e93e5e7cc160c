//! Clients in the words that people read: one line each, or one line for each member.

use std::io::{self, Write};

use certbind_proto::cert::Certificate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use crate::cli::config::Output;
use crate::cli::print;

const COLUMNS: [&str; 6] = ["CLIENT", "METHOD", "STATE", "SOURCE", "SCOPE", "CHANGED"];

/// One line for each client.
///
/// # Errors
/// When nothing can be written.
pub(super) fn list(out: &mut dyn Write, output: Output, clients: &[Value]) -> io::Result<()> {
    let text =
        |client: &Value, pointer: &str| client.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let row = |client: &Value| {
        let in_force = client.pointer("/registration/in_force") == Some(&Value::Bool(true));
        let state = if in_force { text(client, "/certbind/state") } else { "not in force".to_owned() };
        vec![
            text(client, "/client_id"),
            text(client, "/token_endpoint_auth_method"),
            state,
            text(client, "/registration/source"),
            text(client, "/scope"),
            text(client, "/registration/updated"),
        ]
    };
    print::rows(out, output, &COLUMNS, &clients.iter().map(row).collect::<Vec<_>>())
}

/// Everything about one client.
///
/// # Errors
/// When nothing can be written.
pub(super) fn client(out: &mut dyn Write, output: Output, client: &Value) -> io::Result<()> {
    if output == Output::Json {
        return writeln!(out, "{client:#}");
    }
    let mut rows = Vec::new();
    members("", client, &mut rows);
    // What people look for first stands first.
    let rank = |name: &str| {
        let first = ["client_id", "client_name", "token_endpoint_auth_method", "certbind.state"];
        first
            .iter()
            .position(|known| *known == name)
            .unwrap_or(first.len() + usize::from(name.starts_with("registration")))
    };
    rows.sort_by(|a, b| rank(&a[0]).cmp(&rank(&b[0])));
    print::rows(out, output, &[], &rows)
}

/// A line for each member; lists have one for each of their values.
fn members(prefix: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(inner) => {
            for (name, value) in inner {
                let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                members(&name, value, rows);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| match (prefix, value) {
            ("jwks.keys", key) => rows.push(vec![prefix.to_owned(), key_line(key)]),
            (_, value) => members(prefix, value, rows),
        }),
        Value::String(text) if prefix == "certbind.certificates" => {
            rows.push(vec![prefix.to_owned(), certificate(text)])
        }
        Value::String(text) => rows.push(vec![prefix.to_owned(), text.clone()]),
        value => rows.push(vec![prefix.to_owned(), value.to_string()]),
    }
}

/// A certificate in one line.
fn certificate(pem: &str) -> String {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok();
    let Some(certificate) = der.and_then(|der| Certificate::parse(&der).ok()) else { return "unreadable".to_owned() };
    format!("{} until {} x5t#S256 {}", certificate.subject(), certificate.not_after(), certificate.thumbprint())
}

fn key_line(key: &Value) -> String {
    let named = ["kid", "kty", "crv", "alg"].into_iter();
    let told = named.filter_map(|name| Some(format!("{name} {}", key[name].as_str()?)));
    told.collect::<Vec<_>>().join(", ")
}
