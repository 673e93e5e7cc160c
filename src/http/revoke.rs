//! `POST /oauth2/revoke` (RFC 7009 §2).

use hyper::Request;
use hyper::body::Incoming;

use super::{Came, Endpoints, Reply, reply};

impl Endpoints {
    pub(super) async fn revoke(&self, request: Request<Incoming>, came: &Came<'_>) -> Reply {
        let context = self.context(came);
        let request = self.read(request, came).await;
        let outcome = self.flows.revoke(request, &context).await;
        reply::revocation(outcome, &context.request_id)
    }
}
