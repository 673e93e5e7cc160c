//! Says of a request whether it may go on, on behalf of a proxy that asks before it forwards.
//!
//! | file | takes | gives |
//! |---|---|---|
//! | `auth_request`, `ext_authz` | a question as this kind of proxy puts it | [`Asked`]; and its answer, from a [`Verdict`] |
//! | `route` | method and path | what this route demands |
//! | `mod` | [`Asked`] | a [`Verdict`], an event, a count |
//!
//! The verdict is that of `certbind-verify`, whichever door the question comes through. What cannot be understood is denied.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use certbind_proto::bearer;
use certbind_proto::entropy::{Entropy, unguessable_id};
use certbind_proto::forwarded::{Forwarded, ForwardedFault};
use certbind_proto::time::{Clock, Timestamp};
use certbind_verify::fetch::OnlineVerifier;
use certbind_verify::{Denied, Verified};

use crate::audit::{Audit, Event, Kind, peer_text};
use crate::net::ConnInfo;
use crate::proxy::CallerFault;

pub mod auth_request;
pub mod ext_authz;
mod metrics;
pub mod route;

pub use metrics::Metrics;
pub use route::{Route, RouteFault};

/// What the guard works with.
pub struct Guard {
    /// What requests are held against. A question sees one of these from its head to its answer.
    pub rules: ArcSwap<Rules>,
    /// Tells the time; a question asks it once.
    pub clock: Arc<dyn Clock>,
    /// Where ids are drawn from.
    pub entropy: Arc<dyn Entropy>,
    /// Where denials are written down.
    pub audit: Arc<dyn Audit>,
    /// Where questions are counted.
    pub metrics: Arc<Metrics>,
}

/// What requests are held against: made of one configuration, and exchanged as a whole when that is another one.
pub struct Rules {
    /// What each request is held against; the first route that fits.
    pub routes: Vec<Route>,
    /// Tells good tokens from bad ones.
    pub verifier: OnlineVerifier,
}

/// The request that a proxy asks about.
pub struct Asked<'r> {
    /// Its method.
    pub method: &'r str,
    /// Its target in origin-form, with the query.
    pub target: &'r str,
    /// The value of each of its `Authorization` headers.
    pub authorization: Vec<&'r [u8]>,
    /// The certificate that its client proved to the proxy.
    pub certificate: Option<Forwarded>,
}

/// Why a question got no answer from `certbind-verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unasked {
    /// Somebody asks who is not the proxy.
    #[error(transparent)]
    Caller(#[from] CallerFault),
    /// The certificate of the client is not known.
    #[error(transparent)]
    Forwarded(#[from] ForwardedFault),
    /// The question lacks the method or the target of the request, or has two.
    #[error("the proxy does not say which request it asks about")]
    Question,
    /// The request takes no route.
    #[error(transparent)]
    Route(#[from] RouteFault),
}

impl Unasked {
    /// The stable name for audit and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Caller(fault) => fault.reason(),
            Self::Forwarded(fault) => fault.reason(),
            Self::Question => "question_malformed",
            Self::Route(fault) => fault.reason(),
        }
    }
}

/// Whether the request may go on.
pub enum Verdict {
    /// It may.
    Allowed(Verified),
    /// It may not, for what `certbind-verify` says of it.
    Denied(Denied),
    /// It may not; nobody looked at its token.
    Refused(Unasked),
}

impl Verdict {
    /// The status of the answer to the request: 403 where another token would not help.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Allowed(_) => 200,
            Self::Denied(denied) => denied.status(),
            Self::Refused(_) => 403,
        }
    }

    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Allowed(_) => None,
            Self::Denied(denied) => Some(denied.reason()),
            Self::Refused(unasked) => Some(unasked.reason()),
        }
    }
}

/// Who the token was given to, what it allows, and whom it is about. The proxy replaces what its client sent under these names.
const CLIENT: &str = "x-certbind-client";
const SCOPE: &str = "x-certbind-scope";
const SUB: &str = "x-certbind-sub";

/// The id by which the audit log knows the question.
const REQUEST_ID: &str = "x-request-id";

/// What a client needs (RFC 6750 §3).
const CHALLENGE: &str = "www-authenticate";

/// A question and its answer, by the name under which the log has it.
pub struct Answered {
    /// Whether the request may go on.
    pub verdict: Verdict,
    /// The id by which the audit log knows a question that was denied.
    id: Option<String>,
}

impl Answered {
    /// What the proxy is told beside the status: for the service if the request may go on, and otherwise for the client.
    fn headers(&self) -> Vec<(&'static str, String)> {
        let id = self.id.as_ref().map(|id| (REQUEST_ID, id.clone()));
        match &self.verdict {
            Verdict::Allowed(verified) => vec![
                (CLIENT, verified.client_id().to_owned()),
                (SCOPE, verified.scope().to_string()),
                (SUB, verified.sub().to_owned()),
            ],
            Verdict::Denied(denied) => {
                let challenge = denied.challenge().map(|challenge| (CHALLENGE, challenge.to_owned()));
                challenge.into_iter().chain(id).collect()
            }
            Verdict::Refused(_) => id.into_iter().collect(),
        }
    }
}

impl Guard {
    /// Decides about one request. Every denial leaves one audit event.
    pub async fn decide(&self, connection: &ConnInfo, asked: Result<Asked<'_>, Unasked>) -> Answered {
        let (started, now) = (Instant::now(), self.clock.now());
        let verdict = match &asked {
            Ok(asked) => self.rules.load_full().judge(asked, now).await,
            Err(unasked) => Verdict::Refused(*unasked),
        };
        self.metrics.decided(verdict.reason(), started.elapsed());
        let id = verdict.reason().map(|reason| {
            let id = unguessable_id(&*self.entropy);
            self.record(reason, &id, connection, asked.as_ref().ok(), now);
            id
        });
        Answered { verdict, id }
    }

    fn record(&self, reason: &'static str, id: &str, connection: &ConnInfo, asked: Option<&Asked<'_>>, now: Timestamp) {
        let path = |asked: &Asked<'_>| {
            let path = asked.target.split('?').next().unwrap_or_default();
            peer_text(&format!("{} {path}", asked.method))
        };
        let certificate = asked.and_then(|asked| asked.certificate.as_ref());
        let summary = match certificate {
            Some(Forwarded::Certificate(certificate)) => certificate.summary(),
            Some(Forwarded::Hash(_)) | None => None,
        };
        self.audit.record(&Event {
            ts: now.to_string(),
            event: Some(Kind::RequestDenied),
            request_id: Some(id.to_owned()),
            listener: Some(connection.listener.to_string()),
            peer: Some(connection.peer_text()),
            outcome: Some("failure"),
            reason: Some(reason),
            cnf_x5t_s256: certificate.map(|certificate| certificate.thumbprint().to_string()),
            cert_subject: summary.map(|summary| peer_text(&summary.subject)),
            cert_serial: summary.map(|summary| peer_text(&summary.serial)),
            cert_not_after: summary.map(|summary| summary.not_after.clone()),
            detail: asked.map(path),
            ..Event::default()
        });
    }
}

impl Rules {
    async fn judge(&self, asked: &Asked<'_>, now: Timestamp) -> Verdict {
        let route = match route::find(&self.routes, asked.method, asked.target) {
            Ok(found) => found,
            Err(fault) => return Verdict::Refused(fault.into()),
        };
        // A token in the query alone counts as none (RFC 6750 §2.3); beside the header it is one too many (§2).
        if !asked.authorization.is_empty() && has_token_in_query(asked.target) {
            return Verdict::Denied(self.verifier.offline().deny_second_transport(&route.demand));
        }
        let certificate = asked.certificate.as_ref().map(Forwarded::thumbprint);
        let authorization = asked.authorization.iter().copied();
        match self.verifier.verify(authorization, certificate, &route.demand, now).await {
            Ok(verified) => Verdict::Allowed(verified),
            Err(denied) => Verdict::Denied(denied),
        }
    }
}

fn has_token_in_query(target: &str) -> bool {
    target.split_once('?').is_some_and(|(_, query)| bearer::is_in_query(query))
}
