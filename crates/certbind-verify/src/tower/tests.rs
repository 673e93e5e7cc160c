use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::atomic::{AtomicUsize, Ordering};

use certbind_proto::access_token;
use certbind_proto::jws::{Algorithm, Signer, SigningKey};
use certbind_proto::time::FixedClock;
use certbind_proto::time::Timestamp;
use serde_json::json;

use super::*;
use crate::{JwkSet, Keys, Requirement, ResourceMetadata, Settings};

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "https://api.example.com/payments";
const NOW: Timestamp = Timestamp::from_unix(1_795_000_000);

fn mine() -> Thumbprint {
    Thumbprint::of_der(b"my certificate")
}

/// What stands behind the layer: it counts its calls, and says whose token it was given.
#[derive(Clone, Debug, Default)]
struct Api {
    calls: Arc<AtomicUsize>,
    is_ready: bool,
}

impl Service<Request<&'static str>> for Api {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<&'static str>) -> Self::Future {
        assert!(mem::take(&mut self.is_ready), "called without being asked whether it is ready");
        self.calls.fetch_add(1, Ordering::Relaxed);
        let verified: &Verified = request.extensions().get().expect("a service behind the layer sees who calls");
        ready(Ok(Response::new(format!("{} {}", verified.client_id(), request.body()))))
    }
}

struct Rig {
    signer: Signer,
    verifier: Verifier,
    api: Api,
}

impl Rig {
    fn new() -> Self {
        let signer = Signer::new(SigningKey::generate(Algorithm::Es256).unwrap(), access_token::TYP, Some("k"));
        let keys = Keys::fixed(JwkSet::new(vec![signer.key().public_jwk("k")]));
        Self { signer, verifier: Verifier::new(Settings::new(ISSUER, AUDIENCE), keys), api: Api::default() }
    }

    fn bearer(&self) -> String {
        self.bearer_of(json!({ "x5t#S256": mine().to_string() }))
    }

    fn bearer_of(&self, cnf: serde_json::Value) -> String {
        let mut claims = json!({
            "iss": ISSUER, "sub": "billing", "client_id": "billing", "aud": AUDIENCE, "scope": "payments:read",
            "iat": NOW.unix() - 10, "exp": NOW.unix() + 290, "jti": "id",
        });
        if cnf.is_object() {
            claims["cnf"] = cnf;
        }
        format!("Bearer {}", self.signer.sign_claims(&claims).unwrap())
    }

    /// Status, challenge and body.
    async fn send(&self, demand: Demand, request: Request<&'static str>) -> (u16, Option<String>, String) {
        let layer = VerifyLayer::with_clock(self.verifier.clone(), demand, Arc::new(FixedClock::at(NOW)));
        let mut service = layer.layer(self.api.clone());
        std::future::poll_fn(|context| service.poll_ready(context)).await.unwrap();
        let response = service.call(request).await.unwrap();
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let kept = header(CACHE_CONTROL);
        assert_eq!(
            kept.as_deref(),
            (status != 200).then_some("no-store"),
            "a denial is not kept by a cache, and nothing else is said about caching"
        );
        (status, header(WWW_AUTHENTICATE), response.into_body())
    }

    fn calls(&self) -> usize {
        self.api.calls.load(Ordering::Relaxed)
    }
}

fn request(path: &str, authorization: &[&str], certificate: Option<Thumbprint>) -> Request<&'static str> {
    let mut builder = Request::get(path);
    for header in authorization {
        builder = builder.header(AUTHORIZATION, *header);
    }
    let mut request = builder.body("pays").unwrap();
    if let Some(certificate) = certificate {
        request.extensions_mut().insert(ProvedCertificate(certificate));
    }
    request
}

fn demand() -> Demand {
    Demand { scope: "payments:read".parse().unwrap(), ..Demand::default() }
}

#[tokio::test]
async fn rfc8705_3_the_service_is_called_for_a_good_token_and_learns_whose_it_is() {
    let rig = Rig::new();
    let good = rig.send(demand(), request("/", &[&rig.bearer()], Some(mine()))).await;
    assert_eq!(good, (200, None, "billing pays".to_owned()));
    assert_eq!(rig.calls(), 1);
}

#[tokio::test]
async fn rfc6750_3_1_what_is_denied_is_answered_and_never_reaches_the_service() {
    let rig = Rig::new();
    let bearer = rig.bearer();
    let thief = Some(Thumbprint::of_der(b"thief"));
    let invalid_token = r#"Bearer error="invalid_token", error_description="The access token is not good here.""#;
    let invalid_request = r#"Bearer error="invalid_request", error_description="One access token belongs into one Authorization header.""#;
    let insufficient_scope = r#"Bearer error="insufficient_scope", error_description="The access token does not allow this.", scope="admin""#;
    let admin = Demand { scope: "admin".parse().unwrap(), ..Demand::default() };
    let unbound = rig.bearer_of(json!(null));
    let in_query = format!("/?a=b&access_token={}", &bearer[7..]);
    for (name, demand, request, status, challenge) in [
        ("no header", demand(), request("/", &[], Some(mine())), 401, "Bearer"),
        ("another scheme", demand(), request("/", &["Basic YTpi"], Some(mine())), 401, "Bearer"),
        ("in the query alone", demand(), request(&in_query, &[], Some(mine())), 401, "Bearer"),
        ("in the query too", demand(), request(&in_query, &[&bearer], Some(mine())), 400, invalid_request),
        ("twice", demand(), request("/", &[&bearer, &bearer], Some(mine())), 400, invalid_request),
        ("another certificate", demand(), request("/", &[&bearer], thief), 401, invalid_token),
        ("nobody put a certificate in", demand(), request("/", &[&bearer], None), 401, invalid_token),
        ("bound to nothing", demand(), request("/", &[&unbound], Some(mine())), 401, invalid_token),
        ("too little scope", admin, request("/", &[&bearer], Some(mine())), 403, insufficient_scope),
    ] {
        let answer = rig.send(demand, request).await;
        assert_eq!(answer, (status, Some(challenge.to_owned()), String::new()), "{name}");
    }
    assert_eq!(rig.calls(), 0);
}

#[tokio::test]
async fn rfc9068_4_without_keys_the_answer_is_503_and_no_challenge() {
    let mut rig = Rig::new();
    rig.verifier = Verifier::new(Settings::new(ISSUER, AUDIENCE), Keys::none(Keys::FRESHNESS));
    let answer = rig.send(demand(), request("/", &[&rig.bearer()], Some(mine()))).await;
    assert_eq!(answer, (503, None, String::new()));
    assert_eq!(rig.calls(), 0);
}

#[tokio::test]
async fn rfc8705_3_a_header_is_no_certificate() {
    let rig = Rig::new();
    let mut spoofed = request("/", &[&rig.bearer()], None);
    for name in ["client-cert", "x-forwarded-client-cert", "x-client-cert-thumbprint"] {
        spoofed.headers_mut().insert(name, HeaderValue::from_str(&mine().to_string()).unwrap());
    }
    assert_eq!(rig.send(demand(), spoofed).await.0, 401);
}

#[tokio::test]
async fn a_route_that_says_so_takes_tokens_that_are_bound_to_nothing() {
    let rig = Rig::new();
    let relaxed = Demand { binding: Requirement::WhenBound, ..demand() };
    let unbound = rig.bearer_of(json!(null));
    assert_eq!(rig.send(relaxed.clone(), request("/", &[&unbound], None)).await.0, 200);
    assert_eq!(rig.send(relaxed, request("/", &[&rig.bearer()], None)).await.0, 401, "one that is bound stays so");
}

#[tokio::test]
async fn rfc9728_3_the_metadata_are_served_to_whoever_asks_and_the_rest_goes_on() {
    let rig = Rig::new();
    let metadata = ResourceMetadata::new(AUDIENCE, ISSUER).unwrap();
    let layer = VerifyLayer::with_clock(rig.verifier.clone(), demand(), Arc::new(FixedClock::at(NOW)));
    let mut service = MetadataLayer::new(&metadata).layer(layer.layer(rig.api.clone()));
    let path = "/.well-known/oauth-protected-resource/payments";
    let beside = [format!("{path}?a=b"), format!("{path}/"), "/.well-known/oauth-protected-resource".to_owned()];
    for (method, target, status, body) in [
        ("GET", path, 200, metadata.to_json()),
        ("HEAD", path, 200, metadata.to_json()),
        ("POST", path, 405, String::new()),
        ("GET", &beside[0], 401, String::new()),
        ("GET", &beside[1], 401, String::new()),
        ("GET", &beside[2], 401, String::new()),
        ("GET", "/payments", 401, String::new()),
    ] {
        let request = Request::builder().method(method).uri(target).body("").unwrap();
        std::future::poll_fn(|context| service.poll_ready(context)).await.unwrap();
        let response = service.call(request).await.unwrap();
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let kind = header(http::header::CONTENT_TYPE);
        assert_eq!(kind.as_deref(), (status == 200).then_some("application/json"), "{method} {target}");
        assert_eq!(header(http::header::ALLOW).is_some(), status == 405, "{method} {target}");
        assert_eq!((response.status().as_u16(), response.into_body()), (status, body), "{method} {target}");
    }
    assert_eq!(rig.calls(), 0);
}

#[test]
fn nothing_of_a_verifier_that_prints_is_secret() {
    let layer = VerifyLayer::new(Rig::new().verifier, demand());
    assert!(format!("{layer:?}").contains("payments:read"));
}
