//! `POST /oauth2/token` (RFC 6749 §3.2).

use std::sync::Arc;

use certbind_proto::request::Form;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;

use super::{Endpoints, Reply, form, reply, request_id};
use crate::flow::{Context, Presented, RequestFault, TokenRequest};
use crate::net::ConnInfo;

impl Endpoints {
    pub(super) async fn token(&self, request: Request<Incoming>, connection: &ConnInfo) -> Reply {
        let context = self.context(connection);
        let request = self.read(request, connection).await;
        let outcome = self.flows.issue(request, &context).await;
        reply::token(outcome, &context.request_id)
    }

    /// A request as every endpoint reads it that authenticates its client.
    pub(super) async fn read(
        &self,
        request: Request<Incoming>,
        connection: &ConnInfo,
    ) -> Result<TokenRequest, RequestFault> {
        let authorization_header = request.headers().contains_key(AUTHORIZATION);
        let form = form::read(request, self.limits).await?;
        Ok(TokenRequest { presented: presented(&form, authorization_header, connection), form })
    }

    pub(super) fn context(&self, connection: &ConnInfo) -> Context {
        Context {
            request_id: request_id(&*self.entropy),
            listener: Arc::clone(&connection.listener),
            peer: connection.peer,
            tls: connection.tls.as_ref().map(|tls| tls.version.as_str()),
            kx: connection.tls.as_ref().and_then(|tls| tls.group),
            resumed: connection.tls.as_ref().is_some_and(|tls| tls.resumed),
        }
    }
}

/// What the client shows. Its certificate is the one proved in this connection's handshake and nothing else: no
/// header and no parameter can name one (RFC 8705 §2).
fn presented(form: &Form, authorization_header: bool, connection: &ConnInfo) -> Presented {
    let owned = |name| form.get(name).map(str::to_owned);
    Presented {
        client_id: owned("client_id"),
        assertion_type: owned("client_assertion_type"),
        assertion: owned("client_assertion"),
        client_secret: form.get("client_secret").is_some(),
        authorization_header,
        certificate: connection.certificate.clone(),
    }
}
