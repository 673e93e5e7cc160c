//! What administrators revoke: refused at once on their own server, on the others within a second, and known to verifiers.

use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certbind_devpki::{Identity, LeafSpec, Validity};
use certbind_proto::cert::Certificate;
use certbind_proto::request::Form;
use certbind_proto::time::{Clock as _, SystemClock, Timestamp};
use hyper::{Method, StatusCode, Version};
use serde_json::{Value, json};

use super::rig::{AdminSite, Api, Ask};
use crate::postgres::cluster;
use crate::process::client::{Connection, billing, client};
use crate::process::rig::{PKI, Process, certbind, output};
use crate::support::BUSY;

const REVOCATIONS: &str = "/admin/v1/revocations";

/// Until a revocation counts everywhere.
const SOON: Duration = Duration::from_secs(1 + BUSY);

fn month() -> Validity {
    Validity::days_from(SystemClock.now().unix() - 3600, 30)
}

/// One more certificate of `billing`.
fn certificate() -> Identity {
    PKI.intermediate.leaf(&LeafSpec::client("billing", month()).uri("spiffe://certbind.dev/billing")).unwrap()
}

fn thumbprint(identity: &Identity) -> String {
    Certificate::parse(identity.certificate()).unwrap().thumbprint().to_string()
}

/// The certificate alone, without those above it.
fn pem(identity: &Identity) -> String {
    Certificate::parse(identity.certificate()).unwrap().to_pem()
}

fn revoke(document: &Value) -> Ask {
    Ask::new(Method::POST, REVOCATIONS).json(document)
}

async fn token(connection: &mut Connection, form: &Form) -> String {
    let answer = connection.token(form).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.access_token()
}

/// Whether this server says that the token is good.
async fn is_active(server: &Process, token: &str) -> bool {
    let mut api = server.connect(Some(&PKI.api.identity), Version::HTTP_11).await.unwrap();
    let form = Form::default().with("client_id", "api").with("token", token);
    let answer = api.post_to("/oauth2/introspect", form.encode(), &[]).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()["active"].as_bool().unwrap()
}

/// The claims of the published list.
async fn published(server: &Process) -> Value {
    let mut connection = server.connect(None, Version::HTTP_11).await.unwrap();
    let answer = connection.get("/.well-known/certbind-revocations").await.unwrap();
    let payload = answer.text.split('.').nth(1).unwrap_or_default();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap_or_default()
}

/// As the list has it: the beginning of a hash.
fn short(hash: &str) -> String {
    URL_SAFE_NO_PAD.encode(&URL_SAFE_NO_PAD.decode(hash).unwrap()[..16])
}

async fn soon(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p4_a_certificate_that_is_revoked_by_an_administrator_is_out_in_the_whole_fleet() {
    is_out_in_the_whole_fleet(AdminSite::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p4_a_certificate_that_is_revoked_by_an_administrator_is_out_in_a_fleet_on_postgresql() {
    is_out_in_the_whole_fleet(AdminSite::on(&cluster::database())).await;
}

async fn is_out_in_the_whole_fleet(site: AdminSite) {
    let (one, mut api) = site.start("one.sock").await;
    let (two, _) = site.start("two.sock").await;
    let (stolen, renewed) = (certificate(), certificate());
    let mut here = one.connect(Some(&stolen), Version::HTTP_2).await.unwrap();
    let mut there = two.connect(Some(&stolen), Version::HTTP_11).await.unwrap();
    let old = token(&mut here, &billing()).await;
    token(&mut there, &billing()).await;
    assert!(is_active(&one, &old).await && is_active(&two, &old).await);

    let asked = revoke(&json!({ "certificate": pem(&stolen), "reason": "a stolen machine" }));
    let answer = api.gets(200, asked.clone()).await;
    let until = Timestamp::from_unix(month().not_after).plus(Duration::from_secs(86_400));
    let shown = answer.json();
    assert_eq!(
        (&shown["kind"], &shown["id"], &shown["blocks_authentication"], &shown["tokens_until"]),
        (&"certificate".into(), &thumbprint(&stolen).into(), &true.into(), &Value::Null)
    );
    assert!(shown["until"].as_str().unwrap() >= until.to_string().as_str(), "{shown}");

    let refused = here.token(&billing()).await.unwrap();
    assert_eq!(refused.error(), "invalid_client");
    assert_eq!(site.site.event(refused.request_id()).await["reason"], "certificate_revoked");
    assert!(!is_active(&one, &old).await);
    let began = Instant::now();
    soon("the other server hears of it", async || there.token(&billing()).await.unwrap().error() == "invalid_client")
        .await;
    println!("on the other server after {:.0?}", began.elapsed());
    soon("so does its introspection", async || !is_active(&two, &old).await).await;
    for server in [&one, &two] {
        let id = short(&thumbprint(&stolen));
        soon("the list has it", async || published(server).await["certificates"].get(&id).is_some()).await;
    }

    // Again it is the same, and another certificate of the client is good.
    assert_eq!(api.gets(200, asked).await.json(), shown);
    let mut good = one.connect(Some(&renewed), Version::HTTP_2).await.unwrap();
    let new = token(&mut good, &billing()).await;
    assert!(is_active(&one, &new).await && is_active(&two, &new).await);
    drop((here, there, good, api));
    assert!(one.terminate().success() && two.terminate().success());

    let (three, _) = site.start("one.sock").await;
    let mut after = three.connect(Some(&stolen), Version::HTTP_2).await.unwrap();
    assert_eq!(after.token(&billing()).await.unwrap().error(), "invalid_client", "after a restart");
    assert!(!is_active(&three, &old).await);
    drop(after);
    assert!(three.terminate().success());

    let id = answer.header("x-request-id");
    let audit = site.site.audit();
    let lines: Vec<_> = audit.iter().filter(|line| line["request_id"] == id).collect();
    let told: Vec<_> =
        lines.iter().map(|line| (line["event"].as_str().unwrap(), line["detail"].as_str().unwrap())).collect();
    let expected =
        [("admin.requested", "revoke the certificate: a stolen machine"), ("token.revoked", "a stolen machine")];
    assert_eq!(told, expected);
    for line in lines {
        assert_eq!(line["cnf_x5t_s256"], thumbprint(&stolen), "{line}");
        assert!(line["actor"].as_str().unwrap().starts_with("uid:"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p4_a_revocation_by_mistake_is_lifted_in_the_whole_fleet_and_gives_no_token_back() {
    let site = AdminSite::new();
    let (one, mut api) = site.start("one.sock").await;
    let (two, mut beside) = site.start("two.sock").await;
    let mistaken = certificate();
    let mut here = one.connect(Some(&mistaken), Version::HTTP_2).await.unwrap();
    let mut there = two.connect(Some(&mistaken), Version::HTTP_11).await.unwrap();
    let old = token(&mut here, &billing()).await;
    let path = format!("{REVOCATIONS}/certificate/{}", thumbprint(&mistaken));
    let undo = |reason: &str| Ask::new(Method::DELETE, &format!("{path}{reason}"));
    assert_eq!(api.gets(404, undo("")).await.problem(), "certificate-not-revoked");
    assert_eq!(
        api.gets(404, Ask::new(Method::DELETE, &format!("{REVOCATIONS}/certificate/x"))).await.problem(),
        "certificate-not-revoked"
    );
    api.gets(200, revoke(&json!({ "x5t#S256": thumbprint(&mistaken) }))).await;
    assert_eq!(here.token(&billing()).await.unwrap().error(), "invalid_client");
    for query in ["?why=x", "?reason=a&reason=b", "?reason=%07"] {
        assert_eq!(api.gets(400, undo(query)).await.problem(), "query-malformed", "{query}");
    }

    // By the other server, which may not have heard of it yet: the store decides.
    let lifted = beside.gets(200, undo("?reason=a+typing+error")).await;
    let shown = lifted.json();
    assert_eq!(shown["blocks_authentication"], false);
    assert!(shown["tokens_until"].as_str() < shown["until"].as_str(), "{shown}");
    token(&mut there, &billing()).await;
    soon("the other server hears of it", async || here.token(&billing()).await.unwrap().status == StatusCode::OK).await;
    // `iat` counts in seconds.
    soon("new tokens are good", async || {
        let new = token(&mut here, &billing()).await;
        is_active(&one, &new).await && is_active(&two, &new).await
    })
    .await;
    assert!(!is_active(&one, &old).await && !is_active(&two, &old).await);
    assert_eq!(api.gets(404, undo("")).await.problem(), "certificate-not-revoked");
    assert_eq!(api.gets(200, Ask::get(REVOCATIONS)).await.json(), json!({ "revocations": [shown] }));
    drop((here, there, api, beside));
    assert!(one.terminate().success() && two.terminate().success());
    let audit = site.site.audit();
    let lines = audit.iter().filter(|line| line["request_id"] == lifted.header("x-request-id"));
    let told: Vec<_> = lines.map(|line| (line["event"].as_str().unwrap(), line["detail"].as_str().unwrap())).collect();
    let expected = [
        ("admin.requested", "lift the revocation of the certificate: a typing error"),
        ("revocation.lifted", "a typing error"),
    ];
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p4_all_tokens_of_a_client_are_revoked_and_later_ones_are_good() {
    let site = AdminSite::new();
    let (one, mut api) = site.start("one.sock").await;
    let (two, _) = site.start("two.sock").await;
    let mut ledger = one.connect(Some(&PKI.ledger.identity), Version::HTTP_2).await.unwrap();
    let mut billed = one.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.unwrap();
    let (old, of_another) = (token(&mut ledger, &client("ledger")).await, token(&mut billed, &billing()).await);
    let answer = api.gets(200, revoke(&json!({ "client_id": "ledger" }))).await;
    let shown = answer.json();
    assert_eq!((&shown["kind"], &shown["client_id"]), (&"client".into(), &"ledger".into()));
    assert!(shown["tokens_until"].as_str() < shown["until"].as_str(), "{shown}");
    assert!(!is_active(&one, &old).await && is_active(&one, &of_another).await);
    soon("the other server hears of it", async || !is_active(&two, &old).await).await;
    let id = short(shown["id"].as_str().unwrap());
    soon("the list has it", async || published(&one).await["clients"].get(&id).is_some()).await;
    // `iat` counts in seconds.
    soon("a later one is good", async || {
        let new = token(&mut ledger, &client("ledger")).await;
        is_active(&one, &new).await
    })
    .await;
    assert!(!is_active(&one, &old).await);
    let event = site.site.event(answer.header("x-request-id")).await;
    assert_eq!((&event["client_id"], &event["detail"]), (&"ledger".into(), &"revoke all tokens of the client".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_clear_revokes_nothing_and_all_that_is_wrong_is_said() {
    let site = AdminSite::new();
    let (_server, mut api) = site.start("admin.sock").await;
    let two = pem(&certificate()) + &pem(&certificate());
    for (document, pointers) in [
        (json!({}), vec![Value::Null]),
        (json!({ "client_id": "billing", "x5t#S256": thumbprint(&certificate()) }), vec![Value::Null]),
        (json!({ "certificate": two }), vec!["#/certificate".into()]),
        (
            json!({ "certificate": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n" }),
            vec!["#/certificate".into()],
        ),
        (
            json!({ "x5t#S256": "short", "jti": "a", "reason": "a\u{7}" }),
            vec!["#/jti".into(), "#/x5t#S256".into(), "#/reason".into()],
        ),
        (json!({ "client_id": ["billing"] }), vec!["#/client_id".into()]),
    ] {
        let refused = api.gets(400, revoke(&document)).await;
        assert_eq!(refused.problem(), "revocation-invalid", "{document}");
        let errors: Vec<_> =
            refused.json()["errors"].as_array().unwrap().iter().map(|e| e["pointer"].clone()).collect();
        assert_eq!(errors, pointers, "{document}: {}", refused.text());
    }
    assert_eq!(api.gets(404, revoke(&json!({ "client_id": "biling" }))).await.problem(), "client-unknown");
    assert_eq!(api.gets(415, Ask::new(Method::POST, REVOCATIONS)).await.problem(), "media-type");
    assert_eq!(api.gets(400, Ask::get(&format!("{REVOCATIONS}?kind=key"))).await.problem(), "query-malformed");
    assert_eq!(api.gets(200, Ask::get(REVOCATIONS)).await.json(), json!({ "revocations": [] }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_revocations_have_each_once_and_name_the_next() {
    let site = AdminSite::new();
    let (server, mut api) = site.start("admin.sock").await;
    let mut thumbprints: Vec<String> = (0..5).map(|_| thumbprint(&certificate())).collect();
    for thumbprint in &thumbprints {
        // Nobody knows when it ends, so it is revoked for good.
        let shown = api.gets(200, revoke(&json!({ "x5t#S256": thumbprint }))).await.json();
        assert_eq!(shown, json!({ "kind": "certificate", "id": thumbprint, "blocks_authentication": true }));
    }
    api.gets(200, revoke(&json!({ "client_id": "batch" }))).await;
    let mut billed = server.connect(Some(&PKI.billing.identity), Version::HTTP_11).await.unwrap();
    let token = token(&mut billed, &billing()).await;
    let form = Form::default().with("client_id", "billing").with("token", &token);
    assert_eq!(billed.post_to("/oauth2/revoke", form.encode(), &[]).await.unwrap().status, StatusCode::OK);

    let (mut seen, mut path) = (Vec::new(), format!("{REVOCATIONS}?limit=3"));
    loop {
        let page = api.gets(200, Ask::get(&path)).await;
        seen.extend(
            page.json()["revocations"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| (r["kind"].clone(), r["id"].as_str().unwrap().to_owned())),
        );
        let Some(link) = page.headers.get("link") else { break };
        path = link.to_str().unwrap().trim_start_matches('<').split('>').next().unwrap().to_owned();
    }
    let of = |kind: &str| seen.iter().filter(|(k, _)| k == kind).map(|(_, id)| id.clone()).collect::<Vec<_>>();
    assert_eq!((seen.len(), of("client").len(), of("token").len()), (7, 1, 1));
    let mut certificates = of("certificate");
    certificates.sort();
    thumbprints.sort();
    assert_eq!(certificates, thumbprints);
    let clients = api.gets(200, Ask::get(&format!("{REVOCATIONS}?kind=client"))).await.json();
    assert_eq!(clients["revocations"][0]["client_id"], "batch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_whose_end_some_client_does_not_look_at_is_revoked_for_good() {
    let site = AdminSite::new();
    let text = std::fs::read_to_string(site.site.path("clients.d/ledger.toml")).unwrap();
    site.site.write(
        "clients.d/ledger.toml",
        &text.replace("[certbind]\n", "[certbind]\nignore_certificate_validity = true\n"),
    );
    let (_server, mut api) = site.start("admin.sock").await;
    let shown = api.gets(200, revoke(&json!({ "certificate": pem(&PKI.ledger.identity) }))).await.json();
    assert_eq!((&shown["blocks_authentication"], &shown["until"]), (&true.into(), &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_while_the_store_is_away_nothing_pretends_to_be_revoked() {
    let site = AdminSite::new();
    let (server, mut api) = site.start("admin.sock").await;
    let stolen = certificate();
    let mut here = server.connect(Some(&stolen), Version::HTTP_2).await.unwrap();
    let old = token(&mut here, &billing()).await;
    let database = rusqlite::Connection::open(site.site.path("data/certbind.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();
    let refused = api.gets(503, revoke(&json!({ "x5t#S256": thumbprint(&stolen) }))).await;
    assert_eq!((refused.problem().as_str(), refused.header("retry-after")), ("store-unavailable", "1"));
    assert!(began.elapsed() < Duration::from_secs(2 + BUSY), "{:?}", began.elapsed());
    assert!(is_active(&server, &old).await);
    assert_eq!(api.gets(200, Ask::get(REVOCATIONS)).await.json(), json!({ "revocations": [] }));
    database.execute_batch("ROLLBACK").unwrap();
    api.gets(200, revoke(&json!({ "x5t#S256": thumbprint(&stolen) }))).await;
    assert!(!is_active(&server, &old).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_clients_are_revoked_and_listed_from_the_command_line() {
    let site = AdminSite::new();
    let (server, _api) = site.start("admin.sock").await;
    let run = |arguments: &[&str]| {
        let mut command: Command = certbind();
        command.arg("revoke").args(arguments).current_dir(site.site.dir()).env("CERTBIND_ADMIN", "unix:admin.sock");
        let (out, said, status) = output(&mut command);
        (status.code().unwrap(), out, said)
    };
    let [by_file, by_hash] = [certificate(), certificate()];
    site.site.write("stolen.pem", &by_file.chain_pem());
    let (code, out, said) = run(&["--certificate", "stolen.pem", "--reason", "gone from the rack", "-o", "json"]);
    assert_eq!(code, 0, "{said}");
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["id"], thumbprint(&by_file));
    // As `openssl x509 -fingerprint -sha256` prints it.
    let bytes = URL_SAFE_NO_PAD.decode(thumbprint(&by_hash)).unwrap();
    let hex = bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
    let (code, out, _) = run(&["--thumbprint", &hex, "-o", "plain"]);
    let line = format!("certificate\t{}\tauthentication and all tokens\tfor good\n", thumbprint(&by_hash));
    assert_eq!((code, out), (0, line));
    let (code, out, _) = run(&["--client", "batch"]);
    assert!(code == 0 && out.starts_with("client  batch  tokens until 20"), "{out}");
    for identity in [&by_file, &by_hash] {
        let mut connection = server.connect(Some(identity), Version::HTTP_11).await.unwrap();
        assert_eq!(connection.token(&billing()).await.unwrap().error(), "invalid_client");
    }

    let (code, out, _) = run(&["list"]);
    let heading: Vec<_> = out.lines().next().unwrap().split_whitespace().collect();
    assert_eq!((code, heading), (0, vec!["KIND", "WHAT", "REFUSED", "UNTIL"]));
    assert_eq!(out.lines().count(), 4, "{out}");
    let (_, out, _) = run(&["list", "--kind", "client", "-o", "plain"]);
    assert_eq!(out.lines().map(|line| line.split('\t').nth(1).unwrap()).collect::<Vec<_>>(), ["batch"]);
    let (_, out, _) = run(&["list", "-o", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["revocations"].as_array().unwrap().len(), 3);

    let (code, out, said) = run(&["undo", "--certificate", "stolen.pem", "--reason", "found it", "-o", "plain"]);
    assert!(code == 0 && out.contains("\ttokens until 20"), "{out}{said}");
    let mut found = server.connect(Some(&by_file), Version::HTTP_11).await.unwrap();
    token(&mut found, &billing()).await;

    for (arguments, code, word) in [
        (&["undo", "--certificate", "stolen.pem"][..], 3, "or it is lifted already"),
        (&["undo"], 2, "--certificate <FILE>|--thumbprint <HASH>"),
        (&["--client", "biling"], 3, "There is no such client."),
        (&["--client", "batch", "--thumbprint", &hex], 2, "cannot be used with"),
        (&["--reason", "x"], 2, "--certificate <FILE>|--thumbprint <HASH>|--client <ID>"),
        (&["--thumbprint", "abc"], 2, "a thumbprint has 43 characters"),
        (&["--certificate", "gone.pem"], 1, "gone.pem"),
        (&["--certificate", "clients/billing.key"], 1, "holds no PEM certificate"),
    ] {
        let (ended, out, said) = run(arguments);
        assert_eq!(ended, code, "{arguments:?}: {out}{said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
}

/// An administrator over TLS whose certificate is revoked by its thumbprint is one no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_an_administrator_whose_certificate_is_revoked_by_another_is_out_on_an_open_connection() {
    use super::tls;
    let site = tls::site(&[("san_uri", "spiffe://a/alice", "operator"), ("san_uri", "spiffe://a/bob", "admin")]);
    let server = site.start();
    let [alice, bob] = ["alice", "bob"].map(|name| tls::person(|spec| spec.uri(&format!("spiffe://a/{name}"))));
    let mut of_alice: Api = tls::open(&server, &alice, "h2").await;
    let mut of_bob = tls::open(&server, &bob, "h2").await;
    of_bob.gets(200, Ask::get(REVOCATIONS)).await;
    of_alice.gets(200, revoke(&json!({ "x5t#S256": thumbprint(&bob) }))).await;
    let refused = of_bob.gets(403, Ask::get(REVOCATIONS)).await;
    assert_eq!(
        (refused.problem().as_str(), &refused.json()["reason"]),
        ("admin-certificate", &"certificate_revoked".into())
    );
    of_alice.gets(200, Ask::get(REVOCATIONS)).await;
}
