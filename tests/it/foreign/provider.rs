//! Our client against `oidc-provider`, an authorization server that shares no code with us and speaks RFC 8705.

use std::process::Command;
use std::sync::Arc;

use certbind::cli::dev::setup::DevClient;
use certbind_client::{AssertionKey, ClientCertificate, Credential, Error, TokenSource, trusted_authorities};
use certbind_proto::entropy::OsEntropy;
use certbind_proto::time::{Clock as _, SystemClock};
use certbind_verify::fetch::{self, AddressPolicy, OnlineVerifier};
use certbind_verify::{Demand, Thumbprint};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tempfile::TempDir;

use super::rig::{dev_clients, program, scripts};
use crate::process::rig::{Process, Site, certbind, free_address, output};

/// The resource that the foreign server knows.
const API: &str = "https://api.example";
const SCOPE: &str = "payments:read";

/// The foreign server, which knows the clients of `certbind dev`.
struct Provider {
    site: Site,
    issuer: String,
    _scripts: TempDir,
    process: Process,
}

impl Provider {
    fn start() -> Self {
        let (site, scripts) = (Site::new(), scripts());
        let [issuer, mtls] = [free_address(), free_address()];
        let url = |port| format!("https://localhost:{port}");
        let mut command = program(&scripts.path().join("oidc-provider.mjs"));
        command.env("CERTBIND_ISSUER", url(issuer.port())).env("MTLS", url(mtls.port()));
        command.env("API", API).env("SITE", site.dir());
        let process = Process::listening(&mut command, issuer);
        Self { site, issuer: url(issuer.port()), _scripts: scripts, process }
    }

    fn clients(&self) -> [DevClient; 3] {
        dev_clients(&self.site)
    }

    /// `certbind token`, as this client.
    fn token(&self, client: &DevClient, more: &[&str]) -> (String, String, Option<i32>) {
        let mut command = certbind();
        command.args(["token", "--issuer", &self.issuer, "--client-id", client.client_id]);
        command.arg("--cert").arg(&client.cert).arg("--key").arg(&client.key).arg("--ca").arg(self.site.path("ca.pem"));
        if let Some(key) = &client.assertion_key {
            command.arg("--assertion-key").arg(key);
        }
        ended(command.args(more))
    }

    /// `certbind verify`, for a token that comes with the certificate of this client or thief.
    fn verify(&self, token: &str, who: &str) -> (String, String, Option<i32>) {
        let mut command = certbind();
        command.args(["verify", token.trim(), "--issuer", &self.issuer, "--audience", API, "--scope", SCOPE]);
        command.arg("--cert").arg(self.site.path(&format!("clients/{who}.pem")));
        ended(command.arg("--ca").arg(self.site.path("ca.pem")))
    }

    /// The crate, as this client.
    fn source(&self, client: &DevClient) -> TokenSource {
        let certificate = ClientCertificate::from_files(&client.cert, &client.key).unwrap();
        let credential = match &client.assertion_key {
            None => Credential::Certificate(certificate),
            Some(path) => {
                let key = AssertionKey::from_file(path, None, None).unwrap();
                Credential::PrivateKeyJwt { certificate: Some(certificate), key }
            }
        };
        let roots = trusted_authorities(&self.site.path("ca.pem")).unwrap();
        let mut settings = certbind_client::Settings::new(&self.issuer, client.client_id, credential, roots);
        settings.addresses = AddressPolicy::AllowPrivate;
        settings.scope = SCOPE.parse().unwrap();
        TokenSource::new(settings, Arc::new(SystemClock), Arc::new(OsEntropy)).unwrap()
    }

    fn verifier(&self) -> OnlineVerifier {
        let roots = trusted_authorities(&self.site.path("ca.pem")).unwrap();
        let fetch = fetch::Settings::new(roots, AddressPolicy::AllowPrivate);
        OnlineVerifier::new(certbind_verify::Settings::new(&self.issuer, API), fetch).unwrap()
    }

    fn thumbprint(&self, who: &str) -> Thumbprint {
        let path = self.site.path(&format!("clients/{who}.pem"));
        Thumbprint::of_der(&CertificateDer::from_pem_file(path).unwrap())
    }
}

#[test]
fn rfc8705_2_certbind_token_gets_a_bound_token_of_a_foreign_server_by_every_method() {
    let provider = Provider::start();
    for client in provider.clients() {
        let method = client.token_endpoint_auth_method;
        let (token, said, code) = provider.token(&client, &["--scope", SCOPE]);
        assert_eq!(code, Some(0), "{method}: {said}{}", provider.process.stderr());
        let (good, said, code) = provider.verify(&token, client.client_id);
        assert_eq!((code, good.contains("verdict    good")), (Some(0), true), "{method}: {good}{said}");
        let (stolen, said, code) = provider.verify(&token, "thief");
        assert_eq!((code, stolen.contains("refused: binding_mismatch")), (Some(4), true), "{method}: {stolen}{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_3_the_crates_get_and_verify_a_bound_token_of_a_foreign_server_by_every_method() {
    let provider = Provider::start();
    let verifier = provider.verifier();
    let demand = Demand { scope: SCOPE.parse().unwrap(), ..Demand::default() };
    for client in provider.clients() {
        let method = client.token_endpoint_auth_method;
        let token = provider.source(&client).token().await.unwrap_or_else(|error| panic!("{method}: {error:?}"));
        let header = format!("Bearer {}", token.as_str());
        let now = SystemClock.now();
        let [own, thief] = [client.client_id, "thief"].map(|who| provider.thumbprint(who));
        let verified = verifier.verify([header.as_bytes()], Some(&own), &demand, now).await;
        assert_eq!(verified.as_ref().map(|verified| verified.client_id()), Ok(client.client_id), "{method}");
        let denied = verifier.verify([header.as_bytes()], Some(&thief), &demand, now).await.unwrap_err();
        assert_eq!(denied.reason(), "binding_mismatch", "{method}");
    }
}

/// Each refusal of the foreign server is said in its own words, with the exit code that scripts rely on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc6749_5_2_refusals_of_a_foreign_server_are_readable() {
    let mut provider = Provider::start();
    let [billing, ledger, batch] = provider.clients();
    let thief = |own: &DevClient| {
        let [cert, key] = ["pem", "key"].map(|kind| provider.site.path(&format!("clients/thief.{kind}")));
        DevClient { cert, key, ..own.clone() }
    };
    let other_key = DevClient { assertion_key: Some(billing.key.clone()), ..batch.clone() };
    let nobody = DevClient { client_id: "nobody", ..billing.clone() };
    let cases: &[(&str, &DevClient, &[&str], &str)] = &[
        ("a certificate that nobody vouches for", &thief(&billing), &[], "refused: invalid_client"),
        ("one that is not registered", &thief(&ledger), &[], "refused: invalid_client"),
        ("an assertion of another key", &other_key, &[], "refused: invalid_client"),
        ("a client that is not registered", &nobody, &[], "refused: invalid_client"),
        ("a scope that the client has not", &billing, &["--scope", "payments:write"], "refused: invalid_scope"),
        ("a resource that is not known", &billing, &["--resource", "https://other.example"], "refused: invalid_target"),
    ];
    for (case, client, more, expected) in cases {
        let (_, said, code) = provider.token(client, more);
        assert_eq!((code, said.contains(expected)), (Some(3), true), "{case}: {said}");
    }
    let refused = provider.source(&thief(&billing)).token().await.unwrap_err();
    let Error::Refused(refusal) = refused else { panic!("{refused:?}") };
    assert_eq!((refusal.code.as_str(), refusal.status), ("invalid_client", 401));

    provider.process.signal("TERM");
    provider.process.ended();
    let (_, said, code) = provider.token(&billing, &[]);
    assert_eq!((code, said.contains("could not be reached")), (Some(5), true), "{said}");
}

fn ended(command: &mut Command) -> (String, String, Option<i32>) {
    let (stdout, stderr, status) = output(command);
    (stdout, stderr, status.code())
}
