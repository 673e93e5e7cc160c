//! What every end-to-end test starts from: a server in this process, good requests to spoil, and the audit log to look into.

mod ask;
pub(crate) mod assertion;
pub(crate) mod caller;
pub(crate) mod finish;
pub(crate) mod golden;
mod jwks_server;
pub(crate) mod rig;
pub(crate) mod setup;
mod token;

use std::sync::LazyLock;

use certbind_devpki::{DevPki, Identity, Validity};
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock as _, SystemClock, Timestamp};
use serde_json::Value;

pub(crate) use ask::Ask;
pub(crate) use assertion::Assertion;
pub(crate) use caller::{Answer, Caller, Http};
pub(crate) use jwks_server::JwksServer;
pub(crate) use rig::Rig;
pub(crate) use setup::Setup;
pub(crate) use token::Token;

/// What a machine that is busy with other tests may add to what is promised, in seconds.
pub(crate) const BUSY: u64 = 6;

/// The issuer of every rig. Nobody resolves it: callers connect to the address, and name what they like.
pub(crate) const ISSUER: &str = "https://auth.test";
/// The default audience of every client.
pub(crate) const API: &str = "https://api.test";
/// The scope of every client.
pub(crate) const SCOPE: &str = "payments:read payments:write";
/// Where tokens are asked for.
pub(crate) const TOKEN: &str = "/oauth2/token";

/// Certificates and keys of everybody, made once.
pub(crate) static PKI: LazyLock<DevPki> = LazyLock::new(|| DevPki::generate(validity()).unwrap());

/// When the tests began; every rig's clock starts here and stands still.
pub(crate) static START: LazyLock<Timestamp> = LazyLock::new(|| Timestamp::from_unix(SystemClock.now().unix()));

/// Since yesterday, for thirty days.
pub(crate) fn validity() -> Validity {
    Validity::days_from(START.unix() - 86_400, 30)
}

/// The thumbprint of a certificate.
pub(crate) fn thumbprint(identity: &Identity) -> String {
    Thumbprint::of_der(identity.certificate()).to_string()
}

/// What lines of the audit log tell of: without those that it writes about itself, and without the chain.
pub(crate) fn happenings(mut lines: Vec<Value>) -> Vec<Value> {
    lines.retain(|line| !line["event"].as_str().is_some_and(|event| event.starts_with("audit.")));
    for line in &mut lines {
        line.as_object_mut().unwrap().retain(|name, _| !matches!(name.as_str(), "chain" | "seq" | "prev"));
    }
    lines
}
