//! What the listeners answer by: made of one configuration, and exchanged as a whole when that is another one.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Incoming;

use crate::authn::trust::TrustGroups;
use crate::config::Checked;
use crate::flow::Limits;
use crate::http::{Endpoints, Front};
use crate::net::{ConnInfo, Reply, Service};

/// The configuration in force with all that is made of it. A request sees one of these from its head to its answer.
pub(super) struct InForce {
    pub(super) checked: Arc<Checked>,
    pub(super) trust: Arc<TrustGroups>,
    pub(super) limits: Arc<Limits>,
    pub(super) endpoints: Endpoints,
}

/// The one in force now.
pub(super) type Live = Arc<ArcSwap<InForce>>;

/// Answers what comes to one listener.
pub(super) struct OnListener {
    pub(super) live: Live,
    pub(super) front: Front,
}

impl Service for OnListener {
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Incoming>, connection: &Arc<ConnInfo>) -> Reply {
        let in_force = self.live.load_full();
        in_force.endpoints.call(request, connection, &self.front).await
    }
}
