//! The examples as other people's services would run them: mTLS, HTTP, and an issuer beside it (RFC 8705 §3; RFC 6750).

use std::sync::Arc;

use bytes::Bytes;
use certbind_devpki::{Identity, LeafSpec, Validity};
use certbind_https::{AddressPolicy, Fetcher, Limits, client_config};
use certbind_proto::jws::Signer;
use certbind_verify::fetch::{self, OnlineVerifier};
use certbind_verify::{Clock as _, ResourceMetadata, Settings, SystemClock, Thumbprint};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::{Request, Response};
use tokio::net::TcpListener;

use super::hyper_example::{Api, tls};
use super::issuer::{ALWAYS, AUDIENCE, StubIssuer, signer};
use super::{axum_example, hyper_example};

const NOTHING: &str = r#"Bearer resource_metadata="https://localhost/.well-known/oauth-protected-resource/payments""#;
const INVALID_TOKEN: &str = r#"Bearer resource_metadata="https://localhost/.well-known/oauth-protected-resource/payments", error="invalid_token", error_description="The access token is not good here.""#;

#[derive(Clone, Copy, Debug)]
enum Program {
    Axum,
    Hyper,
}

const PROGRAMS: [Program; 2] = [Program::Axum, Program::Hyper];

struct Rig {
    api: String,
    issuer: StubIssuer,
    signer: Signer,
}

impl Rig {
    async fn new(program: Program) -> Self {
        let (issuer, signer) = (StubIssuer::start().await, signer("k"));
        issuer.publishes(&[&signer]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let server = issuer.leaf(&LeafSpec::server(ALWAYS));
        let tls = tls::config(server.chain().to_vec(), server.key()).unwrap();
        let fetch = fetch::Settings::new(issuer.authorities(), AddressPolicy::AllowPrivate);
        let metadata = ResourceMetadata::new(AUDIENCE, &issuer.url()).unwrap();
        let settings = Settings { resource_metadata: Some(metadata.url()), ..Settings::new(&issuer.url(), AUDIENCE) };
        let verifier = OnlineVerifier::new(settings, fetch).unwrap();
        match program {
            Program::Axum => {
                let routes = axum_example::routes(&verifier, metadata).unwrap();
                drop(tokio::spawn(axum_example::serve(listener, tls, routes)));
            }
            Program::Hyper => drop(tokio::spawn(hyper_example::serve(listener, tls, Api { verifier, metadata }))),
        }
        Self { api, issuer, signer }
    }

    fn token_for(&self, identity: &Identity) -> String {
        self.issuer.token(&self.signer, &Thumbprint::of_der(identity.certificate()), SystemClock.now())
    }

    /// Status and challenge.
    async fn call(&self, path: &str, headers: &[String], identity: Option<&Identity>) -> (u16, Option<String>) {
        let response = self.send(path, headers, identity).await;
        let challenge = response.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), challenge)
    }

    async fn send(&self, path: &str, headers: &[String], identity: Option<&Identity>) -> Response<Bytes> {
        let identity =
            identity.map(|identity| certbind_https::Identity { chain: identity.chain().to_vec(), key: identity.key() });
        let tls = client_config(&[self.issuer.root()], identity).unwrap();
        let fetcher = Fetcher::new(Arc::new(tls), AddressPolicy::AllowPrivate, Limits::default());
        let mut request = Request::get(format!("{}{path}", self.api));
        for header in headers {
            request = request.header(AUTHORIZATION, header);
        }
        fetcher.send(request.body(Bytes::new()).unwrap()).await.unwrap()
    }
}

#[tokio::test]
async fn rfc8705_3_a_stolen_token_is_worth_nothing() {
    for program in PROGRAMS {
        let rig = Rig::new(program).await;
        let (billing, thief) = (
            rig.issuer.leaf(&LeafSpec::client("billing", ALWAYS)),
            rig.issuer.leaf(&LeafSpec::client("billing", ALWAYS)),
        );
        let token = [format!("Bearer {}", rig.token_for(&billing))];
        let refused = (401, Some(INVALID_TOKEN.to_owned()));
        assert_eq!(rig.call("/payments", &token, Some(&billing)).await, (200, None));
        assert_eq!(rig.call("/payments", &token, Some(&thief)).await, refused);
        assert_eq!(rig.call("/payments", &token, None).await, refused);
        assert_eq!(rig.call("/payments", &token, Some(&billing)).await, (200, None));
    }
}

#[tokio::test]
async fn rfc8705_6_2_the_resource_needs_no_chain_to_check_the_binding() {
    for program in PROGRAMS {
        let rig = Rig::new(program).await;
        let expired = Validity { not_before: 0, not_after: 1_000 };
        for spec in [LeafSpec::client("ledger", ALWAYS), LeafSpec::client("ledger", expired)] {
            let self_signed = Identity::self_signed(&spec).unwrap();
            let token = [format!("bEARER {}", rig.token_for(&self_signed))];
            assert_eq!(rig.call("/payments", &token, Some(&self_signed)).await, (200, None));
        }
    }
}

#[tokio::test]
async fn rfc6750_3_1_what_is_answered_to_what() {
    for program in PROGRAMS {
        let rig = Rig::new(program).await;
        let billing = rig.issuer.leaf(&LeafSpec::client("billing", ALWAYS));
        let token = rig.token_for(&billing);
        let bearer = format!("Bearer {token}");
        let in_query = format!("/payments?a=b&access_token={token}");
        let invalid_request = r#"Bearer resource_metadata="https://localhost/.well-known/oauth-protected-resource/payments", error="invalid_request", error_description="One access token belongs into one Authorization header.""#;
        let insufficient_scope = r#"Bearer resource_metadata="https://localhost/.well-known/oauth-protected-resource/payments", error="insufficient_scope", error_description="The access token does not allow this.", scope="payments:refund""#;
        for (name, path, headers, status, challenge) in [
            ("good", "/payments", vec![bearer.clone()], 200, None),
            ("nothing", "/payments", vec![], 401, Some(NOTHING)),
            ("query only", &in_query, vec![], 401, Some(NOTHING)),
            ("query beside the header", &in_query, vec![bearer.clone()], 400, Some(invalid_request)),
            ("two headers", "/payments", vec![bearer.clone(), bearer.clone()], 400, Some(invalid_request)),
            ("two words", "/payments", vec!["Bearer a b".to_owned()], 400, Some(invalid_request)),
            ("garbage", "/payments", vec!["Bearer garbage".to_owned()], 401, Some(INVALID_TOKEN)),
            ("short of scope", "/refunds", vec![bearer.clone()], 403, Some(insufficient_scope)),
            ("elsewhere", "/", vec![bearer], 404, None),
        ] {
            let answer = rig.call(path, &headers, Some(&billing)).await;
            assert_eq!(answer, (status, challenge.map(str::to_owned)), "{program:?}: {name}");
        }
    }
}

#[tokio::test]
async fn rfc9728_3_2_who_has_no_token_learns_from_the_challenge_where_there_are_some() {
    for program in PROGRAMS {
        let rig = Rig::new(program).await;
        let (_, challenge) = rig.call("/payments", &[], None).await;
        let challenge = challenge.unwrap();
        let (_, url) = challenge.trim_end_matches('"').split_once("resource_metadata=\"").unwrap();
        let path = url.strip_prefix("https://localhost").unwrap();
        let response = rig.send(path, &[], None).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()[CONTENT_TYPE]),
            (200, &"application/json".parse().unwrap())
        );
        let document: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(document["resource"], AUDIENCE, "{program:?}");
        assert_eq!(document["authorization_servers"], serde_json::json!([rig.issuer.url()]), "{program:?}");
        assert_eq!(document["tls_client_certificate_bound_access_tokens"], true, "{program:?}");
    }
}
