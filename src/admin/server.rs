//! The server itself: how it stands, whom it trusts, and what it reads again.

use certbind_proto::cert::Certificate;
use certbind_proto::dn::Dn;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{Admin, Asked, query, reply};
use crate::authn::trust::TrustGroup;
use crate::net::Reply;
use crate::registry::Registry as _;
use crate::registry::fault::Warning;

impl Admin {
    /// How the server stands, in one look.
    pub(super) fn read_status(&self, request: &Request<Incoming>, asked: &Asked) -> Result<Reply, Problem> {
        query::none(request)?;
        let standing = self.host.standing();
        let (files, stored) = (self.clients.files.all().len(), self.clients.stored.held());
        let faulty = stored.iter().filter(|record| record.client.is_err()).count();
        let certificates: Vec<Value> =
            self.host.certificates().iter().map(|(listener, own)| server_certificate(listener, own)).collect();
        let groups: Vec<String> = self.host.trust().all().iter().map(|group| group.name().to_owned()).collect();
        Ok(reply::document(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "issuer": standing.issuer,
            "token_endpoint": standing.token_endpoint,
            "now": asked.now.to_string(),
            "started": standing.started.to_string(),
            "store": { "engine": standing.engine, "healthy": standing.is_store_healthy },
            "clients": {
                "of_files": files,
                "of_store": stored.iter().count(),
                "not_in_force": faulty,
                "shadowed": self.clients.shadowed(),
            },
            "trust_groups": groups,
            "certificates": certificates,
            "not_ready": standing.not_ready,
            "refused": standing.refused,
            "warnings": standing.warnings,
        })))
    }

    /// Whom the server trusts to vouch for clients, and until when.
    pub(super) fn list_trust_anchors(&self, request: &Request<Incoming>) -> Result<Reply, Problem> {
        query::none(request)?;
        let groups: Vec<Value> = self.host.trust().all().iter().map(|group| trust_group(group)).collect();
        let mut shown = json!({ "trust_groups": groups });
        if let Some(group) = self.host.trust_of_administrators() {
            shown["administrators"] = trust_group(&group);
        }
        Ok(reply::document(&shown))
    }

    /// Which clients share a name, so that the certificate of one is good for the others.
    pub(super) async fn list_shared_subjects(&self, request: &Request<Incoming>) -> Result<Reply, Problem> {
        query::none(request)?;
        let clients = self.clients.clone();
        // An error means that the process ends.
        let shared = tokio::task::spawn_blocking(move || clients.shared_subjects()).await.unwrap_or_default();
        let shown = shared.into_iter().map(|Warning::SharedSubject { trust, subject, clients }| {
            json!({ "trust": trust, "subject": subject, "clients": clients })
        });
        Ok(reply::document(&json!({ "shared_subjects": shown.collect::<Vec<_>>() })))
    }

    /// Takes whatever has changed in files.
    pub(super) async fn reload(&self, request: &Request<Incoming>, asked: &Asked) -> Result<Reply, Problem> {
        query::none(request)?;
        self.record_request(asked, "reload".to_owned()).await?;
        let host = self.host.clone();
        // An error means that the process ends.
        let reloaded = tokio::task::spawn_blocking(move || host.reload()).await;
        let reloaded = reloaded.map_err(|_| Problem::StoreUnavailable)?;
        Ok(reply::document(&json!(reloaded)))
    }
}

fn trust_group(group: &TrustGroup) -> Value {
    let anchors: Vec<Value> = group.anchors().iter().map(anchor).collect();
    let lists = group.revocation_lists();
    let lists: Vec<Value> = lists
        .iter()
        .map(|list| {
            json!({
                "issuer": Dn::from_der(list.issuer_der()).map(|dn| dn.to_string()).unwrap_or_default(),
                "this_update": list.this_update().to_string(),
                "next_update": list.next_update().to_string(),
            })
        })
        .collect();
    json!({ "name": group.name(), "anchors": anchors, "revocation_lists": lists })
}

fn server_certificate(listener: &str, certificate: &Certificate) -> Value {
    let mut shown = anchor(certificate);
    shown["listener"] = listener.into();
    shown
}

fn anchor(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject().to_string(),
        "serial": certificate.serial_hex(),
        "not_before": certificate.not_before().to_string(),
        "not_after": certificate.not_after().to_string(),
        "x5t#S256": certificate.thumbprint().to_string(),
    })
}
