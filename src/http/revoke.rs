//! `POST /oauth2/revoke` (RFC 7009 §2).

use hyper::Request;
use hyper::body::Incoming;

use super::{Endpoints, Reply, reply};
use crate::net::ConnInfo;

impl Endpoints {
    pub(super) async fn revoke(&self, request: Request<Incoming>, connection: &ConnInfo) -> Reply {
        let context = self.context(connection);
        let request = self.read(request, connection).await;
        let outcome = self.flows.revoke(request, &context).await;
        reply::revocation(outcome, &context.request_id)
    }
}
