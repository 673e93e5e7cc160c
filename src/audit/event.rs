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
    /// A certificate that an administrator revoked authenticates again.
    #[serde(rename = "revocation.lifted")]
    RevocationLifted,
    /// The guard let a request to an API not pass.
    #[serde(rename = "request.denied")]
    RequestDenied,
    /// Configuration, clients or revocation lists changed.
    #[serde(rename = "config.reloaded")]
    ConfigReloaded,
    /// A changed file is bad; the old state stays.
    #[serde(rename = "config.rejected")]
    ConfigRejected,
    /// A client was added, changed or removed.
    #[serde(rename = "client.changed")]
    ClientChanged,
    /// Somebody asked the admin API for a change, which is about to be made.
    #[serde(rename = "admin.requested")]
    AdminRequested,
    /// The admin API refused, or the change that was asked for could not be made.
    #[serde(rename = "admin.refused")]
    AdminRefused,
    /// The signing keys changed: one was made, is in use, or is no longer needed.
    #[serde(rename = "key.rotated")]
    KeyRotated,
    /// An operator took a signing key back.
    #[serde(rename = "key.retired")]
    KeyRetired,
    /// Commits of the store may be missing, and assertions from before this start are refused.
    #[serde(rename = "store.fenced")]
    StoreFenced,
    /// A process begins to write.
    #[serde(rename = "audit.opened")]
    AuditOpened,
    /// A process has written its last line.
    #[serde(rename = "audit.closed")]
    AuditClosed,
    /// A process still writes, although there may be nothing to tell.
    #[serde(rename = "audit.checkpoint")]
    AuditCheckpoint,
    /// Lines are about to be dropped, as they are older than they are to be kept.
    #[serde(rename = "audit.expired")]
    AuditExpired,
    /// Lines are missing that could not be written.
    #[serde(rename = "audit.lost")]
    AuditLost,
    /// A line was found that had been cut off.
    #[serde(rename = "audit.torn")]
    AuditTorn,
}

impl Kind {
    /// Whether what it tells of gives somebody something, so that it has to be written down before where that is
    /// required. What refuses, takes away or has happened already is told without a wait.
    #[must_use]
    pub const fn waits_for_the_disk(self) -> bool {
        match self {
            Self::TokenIssued
            | Self::AdminRequested
            | Self::ClientChanged
            | Self::KeyRotated
            | Self::RevocationLifted => true,
            Self::TokenRefused
            | Self::TokenIntrospected
            | Self::TokenRevoked
            | Self::RequestDenied
            | Self::AdminRefused
            | Self::KeyRetired
            | Self::ConfigReloaded
            | Self::ConfigRejected
            | Self::StoreFenced
            | Self::AuditOpened
            | Self::AuditClosed
            | Self::AuditCheckpoint
            | Self::AuditExpired
            | Self::AuditLost
            | Self::AuditTorn => false,
        }
    }
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
    /// Who asked the admin API, as it knows them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
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
    /// The thumbprint of the client's certificate: the one of the connection, or the one that a proxy forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_x5t_s256: Option<String>,
    /// Subject of that certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_subject: Option<String>,
    /// Its serial number, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_serial: Option<String>,
    /// Its last second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_not_after: Option<String>,
    /// The format in which a proxy forwarded that certificate; not there when it is the one of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded_from: Option<&'static str>,
    /// The proxy that the request came through: the name of its certificate, or its user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
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
    /// Which process it is that writes; of what the log says about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// How many lines are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// The chain whose oldest lines are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired: Option<String>,
    /// The last of them, by its number in that chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired_seq: Option<i64>,
    /// The hash of that line, which what is left goes on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired_head: Option<String>,
    /// The hash of what is left of a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torn: Option<String>,
    /// How many bytes that are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torn_bytes: Option<u64>,
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
