//! Client assertions as raw header and claims, signed by a given key: what no builder would make.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certbind_proto::jws::{Algorithm, SigningKey};
use certbind_proto::time::Timestamp;
use serde_json::{Map, Value, json};

use super::{ISSUER, PKI};

/// The key of `batch`, published as `batch-1`.
pub(crate) static BATCH_KEY: LazyLock<Arc<SigningKey>> =
    LazyLock::new(|| Arc::new(SigningKey::from_pkcs8_der(PKI.batch_assertion.key_pkcs8(), Algorithm::Es256).unwrap()));

static COUNT: AtomicU64 = AtomicU64::new(0);

/// An assertion before it is signed; good until something is changed.
#[derive(Clone)]
pub(crate) struct Assertion {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    key: Arc<SigningKey>,
}

impl Assertion {
    /// A good one of `batch`, fresh at `now`, for one minute.
    pub(crate) fn of_batch(now: Timestamp) -> Self {
        Self::of("batch", "batch-1", Arc::clone(&BATCH_KEY), now)
    }

    /// A good one of any client.
    pub(crate) fn of(client_id: &str, kid: &str, key: Arc<SigningKey>, now: Timestamp) -> Self {
        let jti = format!("jti-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Self {
            header: object(json!({"alg": key.algorithm().as_str(), "kid": kid, "typ": "client-authentication+jwt"})),
            claims: object(json!({
                "iss": client_id, "sub": client_id, "aud": ISSUER, "jti": jti,
                "iat": now.unix(), "exp": now.unix() + 60,
            })),
            key,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: Value) -> Self {
        self.header.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name);
        self
    }

    pub(crate) fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Signed by another key; the header stays.
    pub(crate) fn key(mut self, key: &Arc<SigningKey>) -> Self {
        self.key = Arc::clone(key);
        self
    }

    pub(crate) fn header_json(&self) -> String {
        Value::Object(self.header.clone()).to_string()
    }

    pub(crate) fn claims_json(&self) -> String {
        Value::Object(self.claims.clone()).to_string()
    }

    pub(crate) fn sign(&self) -> String {
        self.sign_raw(self.header_json().as_bytes(), self.claims_json().as_bytes())
    }

    /// These very bytes, signed.
    pub(crate) fn sign_raw(&self, header: &[u8], claims: &[u8]) -> String {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.key.sign(input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => panic!("an object"),
    }
}
