//! `certbind dev`: the demo's set-up, kept running, with curl lines to paste.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use certbind_proto::assertion::CLIENT_ASSERTION_TYPE;

use super::Exit;
use super::serve::{survive_signals, until_told_to_stop};
use crate::config::Environment;

pub mod api;
pub mod caller;
pub mod running;
pub mod setup;

use running::Running;
use setup::{DevClient, Setup};

/// Where the set-up lives and listens.
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// The folder for keys, clients and store; a second start in it goes on with them.
    #[arg(long, value_name = "DIR", default_value = "certbind-dev")]
    dir: PathBuf,
    /// Where the server listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Where the protected API listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8444")]
    api: SocketAddr,
}

/// Runs until it is told to stop.
///
/// # Errors
/// When the set-up cannot be made, or an address is taken.
pub fn run(args: &DevArgs, _: &Environment, out: &mut dyn Write) -> anyhow::Result<Exit> {
    if !args.listen.ip().is_loopback() || !args.api.ip().is_loopback() {
        writeln!(std::io::stderr(), "certbind dev listens on loopback only: its keys lie about in plain files")?;
        return Ok(Exit::Usage);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let _survived = survive_signals()?;
        let running = Running::start(&args.dir, args.listen, args.api).await?;
        let dev_json = running.setup().write_dev_json()?;
        greet(out, running.setup())?;
        writeln!(out, "Ready: {} tells tools where everything is. Ctrl-C ends it.", dev_json.display())?;
        out.flush()?;
        until_told_to_stop().await?;
        running.stop().await;
        Ok(Exit::Done)
    })
}

fn greet(out: &mut dyn Write, setup: &Setup) -> std::io::Result<()> {
    writeln!(out, "server  {}", setup.issuer())?;
    writeln!(out, "API     {}/payments\n", setup.resource())?;
    for client in setup.clients() {
        writeln!(out, "# {} ({})", client.client_id, client.token_endpoint_auth_method)?;
        writeln!(out, "{}\n", curl(setup, &client))?;
    }
    let billing = &setup.clients()[0];
    writeln!(out, "# the API, with the token of billing in $TOKEN")?;
    writeln!(
        out,
        "curl --cacert {} --cert {} --key {} -H \"Authorization: Bearer $TOKEN\" {}/payments\n",
        quoted(&setup.path("ca.pem")),
        quoted(&billing.cert),
        quoted(&billing.key),
        setup.resource(),
    )
}

/// One line that gets a token. The assertion of `private_key_jwt` is made by `certbind` itself, afresh for each call.
fn curl(setup: &Setup, client: &DevClient) -> String {
    let mut line = format!(
        "curl --cacert {} --cert {} --key {} -d grant_type=client_credentials",
        quoted(&setup.path("ca.pem")),
        quoted(&client.cert),
        quoted(&client.key),
    );
    match &client.assertion_key {
        None => line += &format!(" -d client_id={}", client.client_id),
        Some(key) => {
            let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("certbind"));
            let assertion = format!(
                "{} token --issuer {} --client-id {} --assertion-key {} --assertion-only",
                quoted(&program),
                setup.issuer(),
                client.client_id,
                quoted(key),
            );
            line +=
                &format!(" -d client_assertion_type={CLIENT_ASSERTION_TYPE} -d client_assertion=\"$({assertion})\"");
        }
    }
    line + &format!(" {}/oauth2/token", setup.issuer())
}

/// A path as a shell reads it.
fn quoted(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+@:".contains(&b)) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
