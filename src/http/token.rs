//! `POST /oauth2/token` (RFC 6749 §3.2).

use std::sync::Arc;

use certbind_proto::cert::PeerCert;
use certbind_proto::request::Form;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;

use super::{Came, Endpoints, Reply, form, reply, request_id};
use crate::flow::{Context, Presented, RequestFault, TokenRequest};

impl Endpoints {
    pub(super) async fn token(&self, request: Request<Incoming>, came: &Came<'_>) -> Reply {
        let context = self.context(came);
        let request = self.read(request, came).await;
        let outcome = self.flows.issue(request, &context).await;
        reply::token(outcome, &context.request_id)
    }

    /// A request as every endpoint reads it that authenticates its client.
    pub(super) async fn read(&self, request: Request<Incoming>, came: &Came<'_>) -> Result<TokenRequest, RequestFault> {
        let certificate = came.certificate(request.headers())?;
        let authorization_header = request.headers().contains_key(AUTHORIZATION);
        let form = form::read(request, self.limits).await?;
        Ok(TokenRequest { presented: presented(&form, authorization_header, certificate), form })
    }

    pub(super) fn context(&self, came: &Came<'_>) -> Context {
        let connection = came.connection;
        Context {
            request_id: request_id(&*self.entropy),
            listener: Arc::clone(&connection.listener),
            peer: connection.peer,
            peer_text: connection.peer_text(),
            through: came.through(),
            tls: connection.tls.as_ref().map(|tls| tls.version.as_str()),
            kx: connection.tls.as_ref().and_then(|tls| tls.group),
            resumed: connection.tls.as_ref().is_some_and(|tls| tls.resumed),
        }
    }
}

/// What the client shows. Its certificate is the one that was proved in a handshake, here or at a proxy that is believed:
/// no parameter can name one, and no header of anybody else's (RFC 8705 §2).
fn presented(form: &Form, authorization_header: bool, certificate: Option<Arc<PeerCert>>) -> Presented {
    let owned = |name| form.get(name).map(str::to_owned);
    Presented {
        client_id: owned("client_id"),
        assertion_type: owned("client_assertion_type"),
        assertion: owned("client_assertion"),
        client_secret: form.get("client_secret").is_some(),
        authorization_header,
        certificate,
    }
}
