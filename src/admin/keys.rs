//! The signing keys: listed, rotated and taken back, or what that would come to.

use std::error::Error;

use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::problem::Problem;
use super::query::{self, Meant};
use super::{Admin, Asked, reply};
use crate::audit::{Kind, peer_text};
use crate::mint::ring::{Caches, KeyInfo, Retirement, Timeline};
use crate::net::Reply;

/// The words for what caches know of a key.
pub(super) const CACHES: [&str; 2] = ["know", "may_not_know"];

impl Admin {
    /// Every key, in the order in which they sign.
    pub(super) fn list_keys(&self, request: &Request<Incoming>, asked: &Asked) -> Result<Reply, Problem> {
        query::none(request)?;
        let keys: Vec<Value> = self.keys.list(asked.now).iter().map(key).collect();
        Ok(reply::document(&json!({ "keys": keys })))
    }

    /// The next key.
    pub(super) async fn rotate_keys(&self, request: &Request<Incoming>, asked: &Asked) -> Result<Reply, Problem> {
        if Meant::of(request)? == Meant::DryRun {
            let planned = self.keys.plan_rotation(asked.now).await.map_err(told)?;
            return Ok(reply::document(&timeline(&planned, Meant::DryRun)));
        }
        self.record_request(asked, "rotate the signing key".to_owned()).await?;
        let done = self.keys.rotate(asked.now).await.map_err(told)?;
        let incoming = done.incoming.as_deref().unwrap_or_default();
        let detail = format!("{incoming} signs from {} instead of {}", done.signs_from, done.outgoing);
        self.record_change(asked, Kind::KeyRotated, detail);
        Ok(reply::document(&timeline(&done, Meant::Change)))
    }

    /// A key less, at once.
    pub(super) async fn retire_key(
        &self,
        request: &Request<Incoming>,
        kid: &str,
        asked: &Asked,
    ) -> Result<Reply, Problem> {
        if Meant::of(request)? == Meant::DryRun {
            let planned = self.keys.plan_retirement(kid, asked.now).await.map_err(told)?;
            return Ok(reply::document(&retirement(&planned, Meant::DryRun)));
        }
        self.record_request(asked, format!("retire the signing key {}", peer_text(kid))).await?;
        let done = self.keys.retire(kid, asked.now).await.map_err(told)?;
        let signer = done.signer.as_deref().unwrap_or_default();
        let detail = format!("{kid}, which was {}; {signer} signs", done.was.as_str());
        self.record_change(asked, Kind::KeyRetired, detail);
        Ok(reply::document(&retirement(&done, Meant::Change)))
    }
}

/// What a problem does not say is for the log.
fn told<E: Error + Into<Problem> + 'static>(error: E) -> Problem {
    tracing::warn!(error = &error as &dyn Error, "the signing keys were not changed");
    error.into()
}

fn key(key: &KeyInfo) -> Value {
    let mut shown = json!({
        "kid": key.kid,
        "alg": key.algorithm,
        "state": key.state.as_str(),
        "kept": key.kept,
        "created": key.created.to_string(),
        "signs_from": key.signs_from.to_string(),
    });
    for (name, time) in [("signs_until", key.signs_until), ("published_until", key.published_until)] {
        if let Some(time) = time {
            shown[name] = time.to_string().into();
        }
    }
    shown
}

fn timeline(timeline: &Timeline, meant: Meant) -> Value {
    let mut shown = json!({
        "dry_run": meant == Meant::DryRun,
        "alg": timeline.algorithm,
        "published_from": timeline.published_from.to_string(),
        "signs_from": timeline.signs_from.to_string(),
        "outgoing": timeline.outgoing,
        "outgoing_published_until": timeline.outgoing_published_until.to_string(),
    });
    if let Some(incoming) = &timeline.incoming {
        shown["incoming"] = incoming.as_str().into();
    }
    shown
}

fn retirement(retirement: &Retirement, meant: Meant) -> Value {
    let mut shown = json!({
        "dry_run": meant == Meant::DryRun,
        "kid": retirement.kid,
        "was": retirement.was.as_str(),
        "last_token": retirement.last_token.to_string(),
        "cached_until": retirement.cached_until.to_string(),
    });
    if let Some(signer) = &retirement.signer {
        shown["signer"] = signer.as_str().into();
    }
    match retirement.caches {
        Caches::Know => shown["caches"] = CACHES[0].into(),
        Caches::MayNotKnow { until } => {
            shown["caches"] = CACHES[1].into();
            shown["known_by"] = until.to_string().into();
        }
    }
    shown
}
