//! `certbind token --agent`: the token that a running `certbind agent` has.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use certbind_proto::request::Form;
use certbind_proto::time::parse_duration;
use http_body_util::Full;
use hyper::Request;
use hyper::header::HOST;
use serde_json::Value;

use super::{AskArgs, Format, print};
use crate::cli::admin_api::over_socket;
use crate::cli::{Exit, Misused};

/// Asks, and prints what comes back.
///
/// # Errors
/// When an option is wrong or nothing can be printed. What the agent says is an exit code.
pub(super) fn ask(
    socket: &Path,
    ask: &AskArgs,
    min_ttl: Option<&str>,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let target = format!("/token?{}", question(ask, min_ttl)?.encode());
    let request = Request::get(target).header(HOST, "agent").body(Full::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let patience = Duration::from_secs(ask.server.timeout);
    let answer = runtime.block_on(async { tokio::time::timeout(patience, over_socket(socket, request)).await });
    let answer = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Ok(unreachable(&format!("{error:#}"))),
        Err(_) => return Ok(unreachable(&format!("no answer within {patience:?}"))),
    };
    let said: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    match said["access_token"].as_str().filter(|_| answer.status().is_success()) {
        Some(token) => print(format, token, &said, out).map(|()| Exit::Done),
        None => Ok(refused(&said)),
    }
}

fn question(ask: &AskArgs, min_ttl: Option<&str>) -> Result<Form, Misused> {
    let mut form = Form::default();
    if let Some(scope) = &ask.scope {
        form = form.with("scope", scope);
    }
    for resource in &ask.resource {
        form = form.with("resource", resource);
    }
    if let Some(text) = min_ttl {
        parse_duration(text).map_err(|_| Misused(format!("--min-ttl {text}: a duration is wanted, as 60s")))?;
        form = form.with("min_ttl", text);
    }
    Ok(form)
}

fn unreachable(why: &str) -> Exit {
    eprintln!("certbind: the agent cannot be asked: {why}");
    Exit::Unreachable
}

/// The same code as when the server is asked.
fn refused(said: &Value) -> Exit {
    let text = |member: &str| said[member].as_str().unwrap_or_default();
    eprintln!("certbind: the agent has no token ({}): {}", text("error"), text("error_description"));
    if let Some(request_id) = said["request_id"].as_str() {
        eprintln!("the server's audit log has the reason under request_id {request_id}");
    }
    match text("error") {
        "agent_caller" | "server_refused" | "certificate_refused_within_tls" => Exit::Refused,
        "server_unreachable" | "server_busy" => Exit::Unreachable,
        _ => Exit::Failure,
    }
}
