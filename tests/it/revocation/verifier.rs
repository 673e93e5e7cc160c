//! Resource servers that learn of revocations from a real server, by polling its list and by asking it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use certbind::cli::dev::caller::Caller;
use certbind::cli::dev::running::Running;
use certbind_devpki::Identity;
use certbind_proto::assertion;
use certbind_proto::jws::{Algorithm, Signer, SigningKey};
use certbind_proto::request::Form;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock as _, SystemClock};
use certbind_verify::fetch::{
    self, AddressPolicy, Asking, Credential, Identity as Shown, OnlineVerifier, Polling, Revocation,
};
use certbind_verify::{Demand, Policy, Settings, WhenStale};
use serde_json::json;
use tempfile::TempDir;

use crate::support::PKI;

/// Nothing in these tests takes this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Server and API on loopback, and an open connection of `billing` to the server.
struct Scene {
    dir: TempDir,
    running: Running,
    server: Caller,
}

impl Scene {
    async fn set() -> Self {
        let dir = TempDir::new().unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let running = Running::start_with_pki(dir.path(), any, any, &PKI).await.unwrap();
        let server = Self::connect(running.server_address()).await;
        Self { dir, running, server }
    }

    async fn connect(address: SocketAddr) -> Caller {
        Caller::connect(address, PKI.root.certificate(), Some(&PKI.billing.identity)).await.unwrap()
    }

    async fn token(&mut self) -> String {
        let form = Form::default().with("grant_type", "client_credentials").with("client_id", "billing");
        let answer = self.server.post("/oauth2/token", &form).await.unwrap();
        answer.text("access_token").unwrap().to_owned()
    }

    async fn revoke(&mut self, token: &str) {
        let form = Form::default().with("client_id", "billing").with("token", token);
        assert_eq!(self.server.post("/oauth2/revoke", &form).await.unwrap().status, 200);
    }

    fn verifier(&self, revocation: Revocation) -> OnlineVerifier {
        let setup = self.running.setup();
        let settings = Settings::new(setup.issuer(), setup.resource());
        let roots = fetch::Authorities::new(std::slice::from_ref(PKI.root.certificate())).unwrap();
        let fetch = fetch::Settings { revocation, ..fetch::Settings::new(roots, AddressPolicy::AllowPrivate) };
        OnlineVerifier::new(settings, fetch).unwrap()
    }
}

async fn reason(verifier: &OnlineVerifier, token: &str) -> &'static str {
    let header = format!("Bearer {token}");
    let certificate = Thumbprint::of_der(PKI.billing.identity.certificate());
    let now = SystemClock.now();
    let outcome = verifier.verify([header.as_bytes()], Some(&certificate), &Demand::default(), now).await;
    outcome.map_or_else(|denied| denied.reason(), |_| "good")
}

async fn until(verifier: &OnlineVerifier, token: &str, expected: &str) -> Duration {
    let began = Instant::now();
    loop {
        let reason = reason(verifier, token).await;
        if reason == expected {
            return began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "not {expected} but {reason}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn shown(identity: &Identity) -> Shown {
    Shown { chain: identity.chain().to_vec(), key: identity.key() }
}

#[tokio::test]
async fn p4_fapi_5_3_4_3_a_revocation_reaches_every_polling_verifier_within_one_poll() {
    let mut scene = Scene::set().await;
    let (kept, revoked) = (scene.token().await, scene.token().await);
    let polled = |every| Revocation::Polled(Polling { every, ..Polling::default() });
    let verifiers = [(); 3].map(|()| scene.verifier(polled(Duration::from_millis(200))));
    let ignorant = scene.verifier(Revocation::Ignored);
    let mut api = Scene::connect(scene.running.api_address()).await;
    for verifier in verifiers.iter().chain([&ignorant]) {
        assert!(verifier.warm_up(SystemClock.now()).await);
        assert_eq!(reason(verifier, &revoked).await, "good");
    }
    assert_eq!(api.get("/payments", &revoked).await.unwrap().status, 200);

    scene.revoke(&revoked).await;
    for verifier in &verifiers {
        let took = until(verifier, &revoked, "token_revoked").await;
        // One poll; the rest is for a machine that is busy with other tests.
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_eq!(reason(verifier, &kept).await, "good");
    }
    assert_eq!(reason(&ignorant, &revoked).await, "good", "who looks nowhere learns nothing");
    let began = Instant::now();
    loop {
        let answer = api.get("/payments", &revoked).await.unwrap();
        if answer.status == 401 {
            assert_eq!((answer.error(), answer.text("reason")), (Some("invalid_token"), Some("token_revoked")));
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the open connection to the API still serves the token");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(api.get("/payments", &kept).await.unwrap().status, 200);
    scene.running.stop().await;
}

#[tokio::test]
async fn fault_23_when_the_server_is_gone_verifiers_go_on_for_as_long_as_was_decided() {
    let mut scene = Scene::set().await;
    let token = scene.token().await;
    let patient = Policy::default();
    let impatient = Policy { max_age: Duration::ZERO, when_stale: WhenStale::Deny };
    let polled =
        |policy| Revocation::Polled(Polling { every: Duration::from_millis(50), policy, ..Polling::default() });
    let (patient, impatient) = (scene.verifier(polled(patient)), scene.verifier(polled(impatient)));
    assert_eq!((reason(&patient, &token).await, reason(&impatient, &token).await), ("good", "good"));
    let Scene { running, .. } = scene;
    running.stop().await;
    assert_eq!(reason(&patient, &token).await, "good");
    // Thirty seconds of skew are granted to a list as well, so the time is told instead of waited for.
    let (header, certificate) = (format!("Bearer {token}"), Thumbprint::of_der(PKI.billing.identity.certificate()));
    let later = SystemClock.now().plus(Duration::from_secs(120));
    let verify = async |verifier: &OnlineVerifier| {
        let outcome = verifier.verify([header.as_bytes()], Some(&certificate), &Demand::default(), later).await;
        outcome.map_or_else(|denied| (denied.status(), denied.reason()), |_| (200, "good"))
    };
    assert_eq!(verify(&patient).await, (200, "good"));
    assert_eq!(verify(&impatient).await, (503, "revocation_stale"));
}

#[tokio::test]
async fn rfc7662_2_1_a_verifier_asks_the_server_as_a_resource_server_by_certificate_and_by_assertion() {
    let mut scene = Scene::set().await;
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let jwks = json!({ "keys": [key.public_jwk("api-1").to_json()] });
    fs::write(scene.dir.path().join("clients/signing-api.jwks.json"), jwks.to_string()).unwrap();
    let client = format!(
        "client_id = \"signing-api\"\ngrant_types = []\ntoken_endpoint_auth_method = \"private_key_jwt\"\n\
         jwks = \"file:../clients/signing-api.jwks.json\"\n\n[certbind]\nresource_server = [\"{}\"]\n",
        scene.running.setup().resource()
    );
    fs::write(scene.dir.path().join("clients.d/signing-api.toml"), client).unwrap();
    let asked = |client_id: &str, credential, remember| {
        Revocation::Asked(Asking { remember, ..Asking::new(client_id, credential) })
    };
    let at_once = Duration::ZERO;
    let signer = Arc::new(Signer::new(key, assertion::TYP, Some("api-1")));
    let by_certificate = Credential::Certificate(shown(&PKI.api.identity));
    let verifiers = [
        scene.verifier(asked("api", by_certificate.clone(), at_once)),
        scene.verifier(asked("signing-api", Credential::Assertion(signer), at_once)),
    ];
    let token = scene.token().await;
    for verifier in &verifiers {
        // The second client is new, and the first questions may come before it is.
        until(verifier, &token, "good").await;
    }
    let remembering = scene.verifier(asked("api", by_certificate, Duration::from_secs(60)));
    assert_eq!(reason(&remembering, &token).await, "good");
    scene.revoke(&token).await;
    for verifier in &verifiers {
        assert_eq!(reason(verifier, &token).await, "token_revoked", "with the next request");
    }
    assert_eq!(reason(&remembering, &token).await, "good", "for as long as an answer is remembered");
    let thief = Credential::Certificate(shown(&PKI.thief.identity));
    let nobody = scene.verifier(asked("api", thief, at_once));
    assert_eq!(reason(&nobody, &scene.token().await).await, "revocation_stale", "who is not answered knows nothing");
    scene.running.stop().await;
}
