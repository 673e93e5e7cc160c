//! What a line of the audit log says: stable keys, never a secret.

use serde::Serialize;

/// The longest text of a peer's that is kept, in characters; the rest is cut.
const MAX_PEER_TEXT: usize = 256;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// A token was issued.
    #[serde(rename = "token.issued")]
    TokenIssued,
    /// A token was refused.
    #[serde(rename = "token.refused")]
    TokenRefused,
    /// Somebody asked what a token is good for (RFC 7662).
    #[serde(rename = "token.introspected")]
    TokenIntrospected,
    /// A token is no longer good (RFC 7009).
    #[serde(rename = "token.revoked")]
    TokenRevoked,
    /// Configuration, clients or revocation lists changed.
    #[serde(rename = "config.reloaded")]
    ConfigReloaded,
    /// A changed file is bad; the old state stays.
    #[serde(rename = "config.rejected")]
    ConfigRejected,
    /// A client was added, changed or removed.
    #[serde(rename = "client.changed")]
    ClientChanged,
    /// The signing keys changed: made, in use, or retired.
    #[serde(rename = "key.rotated")]
    KeyRotated,
}

/// How loud it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well, or a peer made a mistake.
    #[default]
    Info,
    /// An operator should look.
    Warn,
    /// An operator must look.
    Error,
}

/// One line. What does not apply is left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Event {
    /// RFC 3339 in UTC.
    pub ts: String,
    /// How loud it is.
    pub level: Level,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Kind>,
    /// The id that the peer got in `X-Request-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The listener that took the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// The client, once it is known to be registered; what an unknown one claimed, cut and escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The registered method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_method: Option<&'static str>,
    /// The grant that was asked for, when there is such a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_type: Option<&'static str>,
    /// What was granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// For which resources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aud: Vec<String>,
    /// The token's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The token's end, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// The certificate that the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cnf_x5t_s256: Option<String>,
    /// Subject of the certificate on the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_subject: Option<String>,
    /// Its serial number, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_serial: Option<String>,
    /// Its last second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_not_after: Option<String>,
    /// The peer's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The TLS version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<&'static str>,
    /// The key exchange group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kx: Option<&'static str>,
    /// Whether the TLS session was resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed: Option<bool>,
    /// `success` or `failure`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// The code on the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// The one reason; `certbind explain REASON` tells cause and cure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// More for a person, without anything secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How long it took, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
}

/// A text of a peer's, fit for a log: cut, and without characters that act on a terminal or end a line.
#[must_use]
pub fn peer_text(text: &str) -> String {
    if text.len() <= MAX_PEER_TEXT && text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return text.to_owned();
    }
    let cut = text.chars().take(MAX_PEER_TEXT);
    cut.map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_text_is_cut() {
        assert_eq!(peer_text(&"x".repeat(1_000_000)).len(), MAX_PEER_TEXT);
    }
}
