//! Who asks: authentication as every endpoint does it, and what the audit log says of the request.

use std::sync::Arc;
use std::time::Instant;

use certbind_proto::access_token::AccessToken;
use certbind_proto::cert::PeerCert;
use certbind_proto::client::Client;
use certbind_proto::time::Timestamp;

use super::{Blame, Context, Flows, Presented, Refusal, RequestFault};
use crate::audit::{self, Event, Level};
use crate::authn::{AuthenticatedClient, Denied};

/// What is known about a request by the time it is decided; for the audit log.
#[derive(Default)]
pub(super) struct Known {
    pub(super) client: Option<Arc<Client>>,
    claimed_client_id: Option<String>,
    certificate: Option<Arc<PeerCert>>,
    pub(super) grant_type: Option<&'static str>,
    /// The token that was sent in, once its signature is known to be ours.
    pub(super) token: Option<AccessToken>,
}

impl Known {
    /// The registered method of the client, as metrics and audit log name it.
    pub(super) fn auth_method(&self) -> Option<&'static str> {
        self.client.as_ref().map(|client| client.method.name().as_str())
    }
}

impl Flows {
    /// Authenticates the client of a request, whatever endpoint it came to: one code, one audience, one memory of used
    /// assertions.
    pub(super) async fn authenticate(
        &self,
        presented: &Presented,
        context: &Context,
        now: Timestamp,
        known: &mut Known,
    ) -> Result<AuthenticatedClient, Refusal> {
        known.claimed_client_id.clone_from(&presented.client_id);
        known.certificate.clone_from(&presented.certificate);
        match self.authenticator.authenticate(presented, now).await {
            Ok(client) => {
                known.client = Some(client.registration());
                self.note_use(&client, now);
                Ok(client)
            }
            Err(Denied { client, claimed, fault }) => {
                known.client = client;
                known.claimed_client_id = claimed.or(known.claimed_client_id.take());
                Err(self.denied(fault.into(), context))
            }
        }
    }

    /// What the client proved itself with is in use; who looks after renewals wants to know.
    fn note_use(&self, client: &AuthenticatedClient, now: Timestamp) {
        let client_id = &client.client().client_id;
        if let Some(key) = client.key() {
            self.usages.key(client_id, &key.thumbprint, key.kid.as_deref(), now);
        }
        if let Some(Ok(certificate)) = client.proven_certificate().map(PeerCert::leaf) {
            self.usages.certificate(client_id, certificate, now);
        }
    }

    /// A failed authentication counts against its address; past the limit the answer is the same for every cause.
    fn denied(&self, refusal: Refusal, context: &Context) -> Refusal {
        if refusal.blame() == Blame::Us || self.limits.may_fail(context.peer.ip()) {
            return refusal;
        }
        self.metrics.rate_limited(refusal.reason());
        Refusal::FailedTooOften
    }

    /// Counts a refusal, if it was one of authentication.
    pub(super) fn count_refusal(&self, refusal: &Refusal, known: &Known) {
        if let Refusal::Authn(fault) = refusal {
            self.metrics.client_auth_failure(known.auth_method().unwrap_or("unknown"), fault.reason());
        }
    }
}

/// What every audit event says of its request.
pub(super) fn base_event(context: &Context, known: &Known, now: Timestamp, started: Instant) -> Event {
    let certificate = known.certificate.as_ref().and_then(|certificate| certificate.summary());
    let registered = known.client.as_ref().map(|client| client.client_id.clone());
    let (token, through) = (known.token.as_ref(), context.through.as_ref());
    Event {
        ts: now.to_string(),
        request_id: Some(context.request_id.clone()),
        listener: Some(context.listener.to_string()),
        client_id: registered.or_else(|| known.claimed_client_id.as_deref().map(audit::peer_text)),
        auth_method: known.auth_method(),
        grant_type: known.grant_type,
        scope: token.map(|token| token.scope.to_string()),
        aud: token.map(|token| token.aud.clone()).unwrap_or_default(),
        jti: token.map(|token| token.jti.clone()),
        exp: token.map(|token| token.exp.unix()),
        cnf_x5t_s256: token.and_then(|token| token.cnf).map(|cnf| cnf.x5t_s256.to_string()),
        cert_x5t_s256: known.certificate.as_ref().map(|certificate| certificate.thumbprint().to_string()),
        cert_subject: certificate.map(|certificate| audit::peer_text(&certificate.subject)),
        cert_serial: certificate.map(|certificate| audit::peer_text(&certificate.serial)),
        cert_not_after: certificate.map(|certificate| certificate.not_after.clone()),
        forwarded_from: known.certificate.as_ref().and(through).map(|through| through.format),
        proxy: through.map(|through| audit::peer_text(&through.proxy)),
        peer: Some(context.peer_text.clone()),
        tls: context.tls,
        kx: context.kx,
        resumed: Some(context.resumed),
        duration_us: Some(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)),
        ..Event::default()
    }
}

/// What an audit event says of a refusal.
pub(super) fn describe_refusal(event: &mut Event, refusal: &Refusal) {
    event.outcome = Some("failure");
    event.error = Some(refusal.code().as_str());
    event.reason = Some(refusal.reason());
    if refusal.blame() == Blame::Us {
        event.level = Level::Error;
        event.detail = Some(refusal.to_string());
    }
    // Mostly a proxy that is set up otherwise than was thought, so that nobody gets in.
    if let Refusal::Request(RequestFault::Caller(fault)) = refusal {
        event.level = Level::Warn;
        event.detail = Some(fault.to_string());
    }
}
