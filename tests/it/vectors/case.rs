//! One case of the vectors: a good request and what is spoilt of it, and the verdict as the README of the vectors words it.
//!
//! Nothing here asks the verifier: what a case expects is written down by hand.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::keys::{self, BILLING, Key, Signatures};

pub(super) const ISSUER: &str = "https://auth.example.com";
pub(super) const AUDIENCE: &str = "https://api.example.com/payments";
pub(super) const NOW: i64 = 1_795_000_000;

/// What each file says for all of its cases, unless one says otherwise.
pub(super) fn defaults() -> Map<String, Value> {
    static DEFAULTS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
        object(json!({
            "jwks": keys::issuer_keys(),
            "settings": {
                "issuer": ISSUER,
                "audiences": [AUDIENCE],
                "algorithms": ["EdDSA", "ES256", "ES384", "PS256", "PS384", "RS256"],
                "clock_skew": 30,
                "realm": null,
                "resource_metadata": null,
            },
            "now": NOW,
            "certificate": BILLING,
            "demand": { "audience": null, "binding": "required", "max_age": null, "scope": "payments:read" },
            "revocations": null,
        }))
    });
    DEFAULTS.clone()
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(members) = value else { panic!("an object") };
    members
}

/// A case on its way.
pub(super) struct Case {
    pub(super) name: String,
    rule: &'static str,
    key: Key,
    header: Vec<u8>,
    payload: Vec<u8>,
    /// What is said of an accepted token.
    claims: Value,
    on_token: Vec<Change>,
    authorization: Option<Wrap>,
    /// Members that differ from [`defaults`].
    pub(super) differs: Map<String, Value>,
    verdict: &'static str,
}

type Change = Box<dyn Fn(&str) -> String>;
type Wrap = Box<dyn Fn(&str) -> Vec<String>>;

/// A good case of this name, and the section that it is about.
pub(super) fn case(name: impl Into<String>, rule: &'static str) -> Case {
    let claims = json!({
        "iss": ISSUER, "sub": "billing", "client_id": "billing", "aud": AUDIENCE, "scope": "payments:read payments:write",
        "iat": NOW - 10, "exp": NOW + 290, "jti": "a1", "cnf": { "x5t#S256": keys::thumbprint(BILLING) },
    });
    Case {
        name: name.into(),
        rule,
        key: Key::USUAL,
        header: header_of(Key::USUAL).to_string().into(),
        payload: claims.to_string().into(),
        claims,
        on_token: Vec::new(),
        authorization: None,
        differs: Map::new(),
        verdict: "accepted",
    }
}

fn header_of(key: Key) -> Value {
    json!({ "typ": "at+jwt", "alg": key.algorithm().as_str(), "kid": key.kid() })
}

impl Case {
    /// Signed by this one, whose header says so.
    pub(super) fn signed_by(mut self, key: Key) -> Self {
        self.key = key;
        self.header = header_of(key).to_string().into();
        self
    }

    /// With this member in the header.
    pub(super) fn header(self, name: &str, value: impl Into<Value>) -> Self {
        let mut header: Value = serde_json::from_slice(&self.header).unwrap();
        header[name] = value.into();
        self.raw_header(header.to_string())
    }

    /// With a header that is made from the usual one.
    pub(super) fn header_from(self, make: impl FnOnce(&str) -> String) -> Self {
        let header = make(&String::from_utf8(self.header.clone()).unwrap());
        self.raw_header(header)
    }

    /// Without this member.
    pub(super) fn without_header(self, name: &str) -> Self {
        let mut header: Map<String, Value> = serde_json::from_slice(&self.header).unwrap();
        header.remove(name);
        self.raw_header(Value::Object(header).to_string())
    }

    /// With exactly this as the header.
    pub(super) fn raw_header(mut self, header: impl Into<Vec<u8>>) -> Self {
        self.header = header.into();
        self
    }

    /// With this claim.
    pub(super) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self.payload = self.claims.to_string().into();
        self
    }

    /// Without this claim.
    pub(super) fn without_claim(mut self, name: &str) -> Self {
        self.claims.as_object_mut().unwrap().remove(name);
        self.payload = self.claims.to_string().into();
        self
    }

    /// With exactly this as the payload.
    pub(super) fn raw_payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// The same, made from the usual one.
    pub(super) fn payload_from(self, make: impl FnOnce(&str) -> String) -> Self {
        let payload = make(&self.claims.to_string());
        self.raw_payload(payload)
    }

    /// With a token that was changed after it was signed.
    pub(super) fn token(mut self, change: impl Fn(&str) -> String + 'static) -> Self {
        self.on_token.push(Box::new(change));
        self
    }

    /// With these `Authorization` headers, made from the token.
    pub(super) fn authorization(mut self, wrap: impl Fn(&str) -> Vec<String> + 'static) -> Self {
        self.authorization = Some(Box::new(wrap));
        self
    }

    /// With another value for a member of the defaults.
    pub(super) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.differs.insert(member.to_owned(), value.into());
        self
    }

    /// With another value for a member of `settings` or `demand`.
    pub(super) fn with_in(mut self, member: &str, name: &str, value: impl Into<Value>) -> Self {
        let mut whole = self.member(member);
        whole[name] = value.into();
        self.differs.insert(member.to_owned(), whole);
        self
    }

    /// What it ends with: `accepted`, or the reason of the denial. `400` before a reason says that the request is malformed.
    pub(super) fn ends(mut self, verdict: &'static str) -> Self {
        self.verdict = verdict;
        self
    }

    /// As it stands in the file: its members in the order in which one reads them.
    pub(super) fn members(&self, signatures: &Signatures) -> Vec<(String, Value)> {
        let token = signatures.sign(self.key, &self.header, &self.payload);
        let token = self.on_token.iter().fold(token, |token, change| change(&token));
        let authorization = match &self.authorization {
            Some(wrap) => wrap(&token),
            None => vec![format!("Bearer {token}")],
        };
        let verdict = match self.verdict {
            "accepted" => json!({ "accepted": self.accepted() }),
            _ => json!({ "denied": self.denied() }),
        };
        let first =
            [("name", json!(self.name)), ("rule", json!(self.rule))].map(|(name, value)| (name.to_owned(), value));
        let last = [("authorization", json!(authorization)), ("verdict", verdict)];
        first
            .into_iter()
            .chain(self.differs.clone())
            .chain(last.map(|(name, value)| (name.to_owned(), value)))
            .collect()
    }

    fn member(&self, name: &str) -> Value {
        self.differs.get(name).cloned().unwrap_or_else(|| defaults()[name].clone())
    }

    /// What a service learns of the token.
    fn accepted(&self) -> Value {
        let claims = &self.claims;
        let mut scope: Vec<&str> = claims["scope"].as_str().unwrap_or_default().split_terminator(' ').collect();
        scope.sort_unstable();
        scope.dedup();
        let audience = if claims["aud"].is_array() { claims["aud"].clone() } else { json!([claims["aud"]]) };
        let seconds = |name: &str| claims[name].as_f64().map(f64::floor).unwrap();
        #[expect(clippy::cast_possible_truncation, reason = "a date of our own")]
        let whole = |name: &str| seconds(name) as i64;
        json!({
            "client_id": claims["client_id"], "sub": claims["sub"], "scope": scope.join(" "), "audience": audience,
            "jti": claims["jti"], "issued_at": whole("iat"), "expires": whole("exp"), "thumbprint": claims["cnf"]["x5t#S256"],
        })
    }

    /// What the peer is answered, and what the log says.
    fn denied(&self) -> Value {
        let (is_malformed, reason) = match self.verdict.strip_prefix("400 ") {
            Some(reason) => (true, reason),
            None => (false, self.verdict),
        };
        let (status, error, description) = match reason {
            "token_missing" | "scheme_not_bearer" => (401, None, ""),
            "keys_unavailable" | "revocation_stale" => (503, None, ""),
            "scope_missing" => (403, Some("insufficient_scope"), "The access token does not allow this."),
            _ if is_malformed => {
                (400, Some("invalid_request"), "One access token belongs into one Authorization header.")
            }
            _ => (401, Some("invalid_token"), "The access token is not good here."),
        };
        let mut attributes = Vec::new();
        if let Some(realm) = self.member("settings")["realm"].as_str() {
            attributes.push(format!("realm=\"{}\"", realm.replace(['"', '\\', '\n', 'é'], "")));
        }
        if let Some(url) = self.member("settings")["resource_metadata"].as_str() {
            attributes.push(format!("resource_metadata=\"{url}\""));
        }
        if let Some(error) = error {
            attributes.push(format!("error=\"{error}\", error_description=\"{description}\""));
        }
        if status == 403 {
            let demand = self.member("demand");
            let mut scope: Vec<&str> = demand["scope"].as_str().unwrap().split(' ').collect();
            scope.sort_unstable();
            attributes.push(format!("scope=\"{}\"", scope.join(" ")));
        }
        let challenge = format!("Bearer {}", attributes.join(", "));
        let challenge = (status != 503).then_some(challenge.trim_end());
        json!({ "status": status, "error": error, "challenge": challenge, "reason": reason })
    }
}
