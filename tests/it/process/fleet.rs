//! Several servers on one PostgreSQL: one decision about each assertion, and what still works while the database is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use certbind_proto::request::Form;
use hyper::header::RETRY_AFTER;
use hyper::{StatusCode, Version};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::client::{Answer, Asserter, Connection, billing, by_assertion};
use super::rig::{PKI, Process, Site, json_lines, output, within};
use crate::postgres::cluster::{self, Cluster, Database};
use crate::support::BUSY;
use crate::support::finish::Finish as _;

/// The longest wait for a refusal when the database is away (P3), and for its recovery.
const PROMISE: Duration = Duration::from_secs(2 + BUSY);
const RECOVERY: Duration = Duration::from_secs(5 + BUSY);

/// The site of a fleet: its configuration, for as many servers as are started.
pub(crate) fn site(database: &Database) -> Site {
    let site = Site::new();
    site.write("database", &database.url());
    site.write("keys.key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n");
    for name in ["database", "keys.key"] {
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(site.path(name), owner_only).unwrap();
    }
    let tables = "[log]\nlevel = \"info\"\naudit = \"file:audit.jsonl\"\n\
         [storage]\nengine = \"postgres\"\nurl = \"file:database\"\n[keys]\nencryption_key = \"file:keys.key\"\n";
    site.configure(tables, "");
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_2_of_one_assertion_at_two_servers_at_once_one_copy_is_accepted() {
    rounds(25, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and both cores; scripts/faults runs it"]
async fn fault_2_two_thousand_rounds_of_one_assertion_at_two_servers() {
    let began = Instant::now();
    rounds(2000, 100).await;
    println!("2,000 rounds of 2 x 100 copies: one accepted in each, {:.1?}", began.elapsed());
}

/// In each round every connection of two servers sends the same assertion at the same moment.
async fn rounds(rounds: usize, connections: usize) {
    let site = site(&cluster::database());
    let servers = [site.start(), site.start()];
    let mut open = Vec::new();
    for server in &servers {
        for _ in 0..connections {
            open.push(batch(server).await);
        }
    }
    let (barrier, asserter) = (Arc::new(Barrier::new(open.len())), Asserter::batch());
    let assertions: Arc<Vec<String>> = Arc::new((0..rounds).map(|_| asserter.fresh()).collect());
    let mut tasks = JoinSet::new();
    for mut connection in open {
        let (barrier, assertions) = (Arc::clone(&barrier), Arc::clone(&assertions));
        tasks.spawn(async move {
            let mut accepted = Vec::new();
            for (round, assertion) in assertions.iter().enumerate() {
                barrier.wait().await;
                let answer = connection.token(&by_assertion(assertion)).await.unwrap();
                match answer.status {
                    StatusCode::OK => accepted.push(round),
                    _ => assert_eq!(answer.error(), "invalid_client", "{}", answer.text),
                }
            }
            accepted
        });
    }
    let mut accepted: Vec<usize> = tasks.join_all().await.into_iter().flatten().collect();
    accepted.sort_unstable();
    assert_eq!(accepted, (0..rounds).collect::<Vec<_>>(), "one success in each round");
    for server in servers {
        assert!(server.terminate().success());
    }
    let issued = site.audit().iter().filter(|event| event["event"] == "token.issued").count();
    assert_eq!(issued, rounds, "and one token in the audit log for each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_4_while_the_database_is_away_what_needs_it_is_refused_and_all_else_goes_on() {
    let mut cluster = Cluster::start(&[]);
    let site = site(&cluster.database());
    let servers = [site.start(), site.start()];
    let asserter = Asserter::batch();
    let before = asserter.fresh();
    assert_eq!(send(&servers[0], &before).await.status, StatusCode::OK);
    for how in ["stopped", "halted"] {
        match how {
            "stopped" => cluster.stop("fast"),
            _ => cluster.signal_all("STOP"),
        }
        for server in &servers {
            refuses(server, &asserter).await;
            goes_on(server).await;
        }
        match how {
            "stopped" => cluster.resume(&[]),
            _ => cluster.signal_all("CONT"),
        }
        let began = Instant::now();
        for server in &servers {
            server.wait_ready(StatusCode::OK).await;
        }
        assert!(began.elapsed() < RECOVERY, "{how}: ready after {:?}", began.elapsed());
        let fresh = asserter.fresh();
        assert_eq!(send(&servers[0], &fresh).await.status, StatusCode::OK, "{how}");
        assert_eq!(send(&servers[1], &fresh).await.error(), "invalid_client", "{how}");
        assert_eq!(send(&servers[1], &before).await.error(), "invalid_client", "{how}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_fault_4_while_the_database_is_away_nothing_pretends_to_be_revoked_and_tokens_are_asked_about() {
    let mut cluster = Cluster::start(&[]);
    let site = site(&cluster.database());
    site.write("clients.d/api.toml", RESOURCE_SERVER);
    let servers = [site.start(), site.start()];
    let mut clients = Vec::new();
    let mut apis = Vec::new();
    for server in &servers {
        clients.push(server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.unwrap());
        apis.push(server.connect(Some(&PKI.sibling.identity), Version::HTTP_11).await.unwrap());
    }
    let token = clients[0].token(&billing()).await.unwrap().access_token();
    let revoking = Form::default().with("client_id", "billing").with("token", &token).encode();

    cluster.stop("fast");
    for (client, api) in clients.iter_mut().zip(&mut apis) {
        let began = Instant::now();
        let answer = client.post_to("/oauth2/revoke", revoking.clone(), &[]).await.unwrap();
        assert!(began.elapsed() < PROMISE, "{:?}", began.elapsed());
        let code = (answer.status, answer.error());
        assert_eq!(code, (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable".to_owned()));
        assert!(answer.headers.contains_key(RETRY_AFTER));
        assert!(is_active(api, &token).await, "no more than was said");
    }
    cluster.resume(&[]);
    for server in &servers {
        server.wait_ready(StatusCode::OK).await;
    }

    let answer = clients[1].post_to("/oauth2/revoke", revoking, &[]).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert!(!is_active(&mut apis[1], &token).await, "at once where it was asked for");
    let elsewhere = &mut apis[0];
    within(async {
        while is_active(elsewhere, &token).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// It serves what the clients ask for by default, and proves itself by the certificate of `sibling`.
const RESOURCE_SERVER: &str = r#"client_id = "api"
token_endpoint_auth_method = "tls_client_auth"
tls_client_auth_san_uri = "spiffe://certbind.dev/sibling"
grant_types = []

[certbind]
trust = "dev"
audiences = []
resource_server = ["https://localhost:8444"]
"#;

async fn is_active(api: &mut Connection, token: &str) -> bool {
    let form = Form::default().with("client_id", "api").with("token", token);
    let answer = api.post_to("/oauth2/introspect", form.encode(), &[]).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()["active"].as_bool().unwrap()
}

/// A way in which a database answers and records no use, and the way back.
const TROUBLES: [(&str, &str); 4] = [
    ("REVOKE INSERT ON certbind.replay FROM served", "GRANT INSERT ON certbind.replay TO served"),
    ("ALTER TABLE certbind.replay RENAME TO gone", "ALTER TABLE certbind.gone RENAME TO replay"),
    (
        "ALTER TABLE certbind.replay DROP CONSTRAINT replay_pkey",
        "ALTER TABLE certbind.replay ADD CONSTRAINT replay_pkey PRIMARY KEY (key)",
    ),
    ("ALTER TABLE certbind.replay_state RENAME TO gone", "ALTER TABLE certbind.gone RENAME TO replay_state"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_4_a_database_that_answers_and_records_no_use_is_told_once_and_no_server_is_ready() {
    let (cluster, asserter) = (Cluster::start(&[]), Asserter::batch());
    let database = cluster.database();
    database.execute("CREATE ROLE served LOGIN");
    database.execute(&format!("GRANT CREATE ON DATABASE {} TO served", database.name));
    let site = site(&database);
    site.write_private("database", &database.url().replace("user=certbind", "user=served"));
    let server = site.start();
    for (spoil, repair) in TROUBLES {
        assert_eq!(send(&server, &asserter.fresh()).await.status, StatusCode::OK, "before {spoil}");
        database.execute(spoil);
        for _ in 0..10 {
            refuses(&server, &asserter).await;
            assert_eq!(server.operations("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE, "{spoil}");
        }
        goes_on(&server).await;
        database.execute(repair);
        let start = Instant::now();
        server.wait_ready(StatusCode::OK).await;
        assert!(start.elapsed() < RECOVERY, "{repair}: {:?}", start.elapsed());
    }
    assert_eq!(send(&server, &asserter.fresh()).await.status, StatusCode::OK);
    let stderr = server.stderr_at_end();
    let lines = json_lines(&stderr);
    let count = |message: &str| lines.iter().filter(|line| line["message"] == message).count();
    let told = (count("the store fails; no assertion is accepted"), count("the store works again"));
    assert_eq!(told, (TROUBLES.len(), TROUBLES.len()), "{stderr}");
}

#[test]
fn attack_21_a_database_that_records_no_use_at_the_start_is_no_start() {
    let database = cluster::database();
    let site = site(&database);
    assert!(site.start().terminate().success());
    database.execute("ALTER TABLE certbind.replay DROP CONSTRAINT replay_pkey");
    let (_, stderr, status) = output(&mut site.serve());
    assert_eq!(status.code(), Some(1), "{stderr}");
}

#[test]
fn attack_21_a_database_that_is_away_at_the_start_is_no_start() {
    let mut cluster = Cluster::start(&[]);
    let site = site(&cluster.database());
    cluster.stop("fast");
    let output = site.serve().finish();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot open the store in PostgreSQL"), "{said}");
}

/// 503 in time, with a time to come back, and no token; readiness says so.
async fn refuses(server: &Process, asserter: &Asserter) {
    for _ in 0..5 {
        let began = Instant::now();
        let answer = send(server, &asserter.fresh()).await;
        assert!(began.elapsed() < PROMISE, "{:?}", began.elapsed());
        let code = (answer.status, answer.error());
        assert_eq!(code, (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable".to_owned()));
        assert!(answer.headers.contains_key(RETRY_AFTER));
    }
    server.wait_ready(StatusCode::SERVICE_UNAVAILABLE).await;
}

/// Clients with certificates, keys, metadata and liveness need no database.
async fn goes_on(server: &Process) {
    let mut connection = server.connect(Some(&PKI.billing.identity), Version::HTTP_11).await.unwrap();
    assert_eq!(connection.token(&billing()).await.unwrap().status, StatusCode::OK);
    for path in ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server"] {
        assert_eq!(connection.get(path).await.unwrap().status, StatusCode::OK, "{path}");
    }
    assert_eq!(server.operations("/livez").await.0, StatusCode::OK);
}

async fn batch(server: &Process) -> Connection {
    server.connect(Some(&PKI.batch.identity), Version::HTTP_11).await.unwrap()
}

async fn send(server: &Process, assertion: &str) -> Answer {
    batch(server).await.token(&by_assertion(assertion)).await.unwrap()
}
