//! The signing keys of a running server: looked after once a second, published, and told to audit log, metrics and log.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use certbind_proto::time::{Clock, Timestamp};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::report;
use crate::audit::{Audit, Event, Kind};
use crate::config::{KeySource, ModuleUri, Pin};
use crate::http::document::Document;
use crate::metrics::Metrics;
use crate::mint::Source;
use crate::mint::ring::{KeyEvent, KeyRing, Observer};
#[cfg(feature = "pkcs11")]
use crate::pkcs11::{self, Pkcs11Keys};
use crate::store::Revisions;

/// How often the store is asked when it tells of no change: time passes, too.
const EVERY: Duration = Duration::from_secs(1);

/// Publishes the keys and tells what becomes of them.
pub(super) struct Publisher {
    /// The JWKS of all listeners.
    pub(super) document: Arc<Document>,
    /// Where events go.
    pub(super) audit: Arc<dyn Audit>,
}

impl Observer for Publisher {
    fn publish(&self, jwks: &Value) {
        self.document.replace(jwks);
    }

    fn happened(&self, event: &KeyEvent, now: Timestamp) {
        let (kid, what) = match event {
            KeyEvent::Published { kid, algorithm, signs_from } => {
                (kid, format!("published ({algorithm}), signs from {signs_from}"))
            }
            KeyEvent::Signs { kid } => (kid, "signs".to_owned()),
            KeyEvent::Retired { kid } => (kid, "retired: neither signs nor is published".to_owned()),
            KeyEvent::Removed { kid } => (kid, "removed: nobody needs it any longer".to_owned()),
        };
        let kind = match event {
            KeyEvent::Retired { .. } => Kind::KeyRetired,
            KeyEvent::Published { .. } | KeyEvent::Signs { .. } | KeyEvent::Removed { .. } => Kind::KeyRotated,
        };
        tracing::info!(kid, "signing key {what}");
        self.audit.record(&Event {
            ts: now.to_string(),
            event: Some(kind),
            detail: Some(format!("{kid} {what}")),
            ..Event::default()
        });
    }
}

/// Looks after the keys until it is dropped.
pub(super) struct KeyWatch(JoinHandle<()>);

impl KeyWatch {
    /// Starts looking: at once when somebody changes the keys, and every second. `looked` is called after each look.
    pub(super) fn start(
        keys: Arc<KeyRing>,
        mut changes: watch::Receiver<Revisions>,
        clock: Arc<dyn Clock>,
        looked: impl Fn() + Send + 'static,
    ) -> Self {
        Self(tokio::spawn(async move {
            let mut was_well = true;
            loop {
                let seen = changes.borrow_and_update().keys;
                // No change comes from a store that is shut down; then the second is over, too.
                let _ = timeout(EVERY, changes.wait_for(|now| now.keys != seen)).await;
                let outcome = keys.refresh(clock.now()).await;
                match &outcome {
                    Err(error) if was_well => {
                        let signs = keys.is_ready(clock.now());
                        tracing::error!(
                            error = error as &dyn Error,
                            signs,
                            "the signing keys cannot be kept up to date"
                        );
                    }
                    Ok(()) if !was_well => tracing::info!("the signing keys are up to date again"),
                    _ => {}
                }
                was_well = outcome.is_ok();
                looked();
            }
        }))
    }
}

impl Drop for KeyWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where new keys come from.
///
/// # Errors
/// When the security module cannot be used.
pub(super) fn source(source: &KeySource, pin: Option<&Pin>) -> anyhow::Result<Source> {
    match source {
        KeySource::Auto => Ok(Source::Made),
        KeySource::Module(uri) => module(uri, pin.context("the PIN of the token was not read")?),
    }
}

#[cfg(feature = "pkcs11")]
fn module(uri: &ModuleUri, pin: &Pin) -> anyhow::Result<Source> {
    let keys = Pkcs11Keys::open(pkcs11::Settings {
        library: uri.library.clone(),
        token: uri.token.clone(),
        serial: uri.serial.clone(),
        object: uri.object.clone(),
        pin: zeroize::Zeroizing::new(pin.expose().to_owned()),
    });
    let keys = keys.with_context(|| format!("cannot use the security module {}", uri.library.display()))?;
    Ok(Source::Module(Arc::new(keys)))
}

/// A configuration that asks for it is refused before.
#[cfg(not(feature = "pkcs11"))]
fn module(_: &ModuleUri, _: &Pin) -> anyhow::Result<Source> {
    anyhow::bail!("certbind was built without the feature `pkcs11`")
}

/// Until when each key is good: the one that signs until its successor is due, an older one until its last token has
/// expired.
pub(super) fn show(keys: &KeyRing, metrics: &Metrics, now: Timestamp) {
    let published = keys.list(now).into_iter().filter(|key| key.state.is_published());
    let ends = published.filter_map(|key| Some((key.kid, report::seconds(key.published_until.or(key.signs_until)?))));
    metrics.signing_key_expiry(ends);
}
