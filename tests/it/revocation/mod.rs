//! Revocation and introspection, black box: requests over real TLS in, answers and audit lines out.

mod found;
mod introspect;
mod list;
mod revoke;
mod signed;
mod verifier;

use crate::support::setup::client;
use crate::support::{API, Ask, PKI, Setup};

const INTROSPECT: &str = "/oauth2/introspect";
const REVOKE: &str = "/oauth2/revoke";

/// A client that proves itself as `ask` does, and wants this token revoked.
pub(crate) fn revoking(ask: Ask, token: &str) -> Ask {
    ask.path(REVOKE).without("grant_type").with("token", token)
}

/// A resource server that proves itself as `ask` does, and asks about this token.
pub(crate) fn asking(ask: Ask, token: &str) -> Ask {
    ask.path(INTROSPECT).without("grant_type").with("token", token)
}

/// `api` serves the usual resource and `other` another one; neither gets tokens.
pub(crate) fn resource_servers(setup: &mut Setup) {
    let text = resource_server("api", "san_uri", "spiffe://certbind.dev/sibling", API);
    setup.client("api", text);
    setup.client("other", resource_server("other", "san_dns", "by-dns.certbind.dev", "https://other.test"));
}

fn resource_server(client_id: &str, name: &str, value: &str, resource: &str) -> String {
    let members = format!(
        "grant_types = []\ntoken_endpoint_auth_method = \"tls_client_auth\"\ntls_client_auth_{name} = '{value}'\n"
    );
    client(client_id, &members, &format!("trust = \"dev\"\naudiences = []\nresource_server = [\"{resource}\"]"))
}

/// The resource server of the usual resource.
pub(crate) fn api() -> Ask {
    Ask::by_certificate("api", &PKI.sibling.identity)
}

/// That of another resource.
fn other() -> Ask {
    Ask::by_certificate("other", &PKI.by_dns.identity)
}
