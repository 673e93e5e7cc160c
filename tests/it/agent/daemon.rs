//! `certbind agent`: what it answers at its socket, whom, and what it leaves behind.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use certbind_devpki::{Issuer, LeafSpec, Validity};
use certbind_proto::time::{Clock as _, SystemClock};
use serde_json::Value;

use super::rig::{
    AUTHORITIES, Answer, Asker, Running, SHORT, World, ask, bound_to, content, mode, renewed, thumbprint, until,
    until_status,
};
use crate::process::rig::{PKI, certbind, output};

/// An agent that answers at `agent.sock`.
fn agent(world: &World, more: &[&str]) -> Running {
    Running::start(world, &mut world.certbind("agent", &[&["--socket", "agent.sock"], more].concat()))
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8705_3_a_program_asks_at_the_socket_and_gets_a_bound_token() {
    let world = World::start();
    let mut agent = agent(&world, &["--file", "token"]);
    let socket = world.path("agent.sock");
    let answer = until_status(&socket, "/token", 200).await;
    let told = answer.json();
    let mine = thumbprint(&PKI.billing.identity);
    assert_eq!((&told["token_type"], &told["scope"]), (&"Bearer".into(), &"payments:read".into()));
    assert!((200..=300).contains(&told["expires_in"].as_u64().unwrap()), "{told}");
    assert_eq!(told["certificate"]["x5t#S256"], mine.as_str());
    assert!(told["certificate"]["not_after"].as_str().unwrap().ends_with('Z'), "{told}");
    let token = told["access_token"].as_str().unwrap();
    assert_eq!(bound_to(token), mine);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(mode(&socket), 0o600);
    let curl = "curl --silent --fail --unix-socket agent.sock --header 'Accept: text/plain' http://agent/token";
    let (bare, ..) = output(Command::new("sh").args(["-c", curl]).current_dir(world.site.dir()));
    assert_eq!(bare, token);
    assert_eq!(until("the file", || content(&world.path("token"))), token);

    let cli = |more: &[&str]| output(certbind().args(["token", "--agent"]).arg(&socket).args(more));
    assert_eq!(cli(&["--min-ttl", "60s"]).0.trim_end(), token);
    assert_eq!(cli(&["--format", "header"]).0.trim_end(), format!("Authorization: Bearer {token}"));
    let (told, ..) = cli(&["--format", "json", "--scope", "payments:read"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&told).unwrap()["certificate"]["x5t#S256"], mine.as_str());
    let (_, stderr, status) = cli(&["--scope", "admin"]);
    assert_eq!(status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("server_refused") && stderr.contains("request_id"), "{stderr}");
    assert_eq!(cli(&["--min-ttl", "60"]).2.code(), Some(2));

    let status = ask(&socket, "/status").await;
    assert_eq!(status.json()["tokens"][0]["certificate"]["x5t#S256"], mine.as_str());
    assert!(!status.text.contains(token), "{}", status.text);
    assert_eq!(ask(&socket, "/livez").await.status, 200);
    for (path, status, error) in [
        ("/nowhere", 404, "agent_path"),
        ("/token?audience=x", 400, "agent_parameters"),
        ("/token?min_ttl=60", 400, "agent_parameters"),
        ("/token?resource=x", 400, "agent_parameters"),
        ("/token?scope=a&scope=b", 400, "agent_parameters"),
    ] {
        let answer = ask(&socket, path).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{path}: {}", answer.text);
    }
    // Somebody sweeps the folder: nobody would find the agent without its socket.
    fs::remove_file(&socket).unwrap();
    until_status(&socket, "/livez", 200).await;
    assert!(agent.stderr().contains("making it again"), "{}", agent.stderr());

    agent.signal("TERM");
    assert!(agent.ended().success(), "{}", agent.stderr());
    assert!(!socket.exists() && !world.path("token").exists(), "nothing stays behind");
    let nobody = output(certbind().args(["token", "--agent"]).arg(&socket));
    assert_eq!(nobody.2.code(), Some(5), "{}", nobody.1);
    assert!(!agent.stderr().contains(token), "no token is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_questions_are_one_request_at_the_server() {
    let world = World::start();
    let _agent = agent(&world, &[]);
    let socket = world.path("agent.sock");
    until("the socket", || socket.exists().then_some(()));
    let programs: Vec<_> = (0..50)
        .map(|_| {
            let socket = socket.clone();
            tokio::spawn(async move {
                let mut asker = Asker::connect(&socket).await;
                let mut tokens = Vec::new();
                for _ in 0..20 {
                    let answer = asker.get("/token", "text/plain").await;
                    assert_eq!(answer.status, 200, "{}", answer.text);
                    tokens.push(answer.text);
                }
                tokens
            })
        })
        .collect();
    let mut tokens = Vec::new();
    for program in programs {
        tokens.extend(program.await.unwrap());
    }
    assert_eq!(tokens.len(), 1000);
    tokens.dedup();
    assert_eq!(tokens.len(), 1);
    world.has_issued(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8707_3_each_question_has_a_token_of_its_own_and_there_are_so_many() {
    let world = World::start();
    let _agent = agent(&world, &[]);
    let socket = world.path("agent.sock");
    let first = until_status(&socket, "/token", 200).await.json()["access_token"].clone();
    let resource = world.dev["resource"].as_str().unwrap().replace(':', "%3A");
    for path in ["/token?scope=payments%3Aread", &format!("/token?resource={resource}")] {
        let told = ask(&socket, path).await.json();
        assert_ne!(told["access_token"], first, "{path}");
        assert_eq!(ask(&socket, path).await.json()["access_token"], told["access_token"], "{path}");
    }
    world.has_issued(3);
    // Longer than the server gives them: one more request, and not one for each question.
    for _ in 0..5 {
        assert_eq!(ask(&socket, "/token?min_ttl=1h").await.status, 200);
    }
    world.has_issued(4);

    let refused = ask(&socket, "/token?scope=admin").await;
    assert_eq!((refused.status, refused.error().as_str()), (503, "server_refused"), "{}", refused.text);
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    let id = refused.json()["request_id"].as_str().unwrap().to_owned();
    assert_eq!(world.site.event(&id).await["reason"], "scope_not_allowed");
    let mut asker = Asker::connect(&socket).await;
    for number in 0..60 {
        let answer: Answer = asker.get(&format!("/token?scope=s{number}"), "*/*").await;
        assert_eq!(answer.error(), "server_refused", "{number}");
    }
    let answer = asker.get("/token?scope=one-more", "*/*").await;
    assert_eq!((answer.status, answer.error().as_str()), (503, "agent_questions"), "{}", answer.text);
    assert_eq!(asker.get("/token?scope=payments%3Aread", "*/*").await.status, 200, "those that are there stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_certain_users_may_ask() {
    let world = World::start();
    if fs::metadata(world.site.dir()).map(|folder| std::os::unix::fs::MetadataExt::uid(&folder)).unwrap() != 0 {
        // Nobody but root can become another user.
        return;
    }
    world.site.open_to_all();
    let _agent = agent(&world, &["--user", "65534"]);
    let socket = world.path("agent.sock");
    until_status(&socket, "/token", 200).await;
    let as_user = |uid: u32| {
        let script = format!(
            "import os, socket\nos.setgid(65534); os.setuid({uid})\ns = socket.socket(socket.AF_UNIX)\ns.connect('agent.sock')\n\
             s.sendall(b'GET /token HTTP/1.1\\r\\nHost: agent\\r\\nConnection: close\\r\\n\\r\\n')\n\
             print(b''.join(iter(lambda: s.recv(4096), b'')).decode())"
        );
        output(Command::new("python3").args(["-c", &script]).current_dir(world.site.dir())).0
    };
    let nobody = as_user(65534);
    assert!(nobody.starts_with("HTTP/1.1 200 "), "{nobody}");
    let stranger = as_user(65533);
    assert!(stranger.starts_with("HTTP/1.1 403 ") && stranger.contains("agent_caller"), "{stranger}");
    assert!(!stranger.contains("access_token"), "{stranger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_with_its_first_token_and_stays_up_without_one() {
    let mut world = World::start_with(SHORT);
    let start = world.stop_server();
    let notify = UnixDatagram::bind(world.path("notify")).unwrap();
    notify.set_nonblocking(true).unwrap();
    let mut command = world.certbind("agent", &["--socket", "agent.sock", "--file", "token", "--timeout", "2"]);
    let mut agent = Running::start(&world, command.env("NOTIFY_SOCKET", world.path("notify")));
    let socket = world.path("agent.sock");
    let answer = until_status(&socket, "/token", 503).await;
    assert_eq!(answer.error(), "server_unreachable");
    assert!(answer.headers.contains_key("retry-after"));
    let status = ask(&socket, "/status").await.json();
    assert!(status["tokens"][0]["retry_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{status}");
    let mut said = [0; 256];
    assert!(notify.recv(&mut said).is_err(), "not ready");
    assert!(agent.is_alive());

    start(&mut world);
    until_status(&socket, "/token", 200).await;
    let length = until("the word for the manager", || notify.recv(&mut said).ok());
    assert!(String::from_utf8_lossy(&said[..length]).contains("READY=1"));
    let token = world.path("token");
    let first = until("the file", || content(&token));

    let start = world.stop_server();
    until_status(&socket, "/token", 503).await;
    until("the end of the token", || (!token.exists()).then_some(()));
    assert!(ask(&socket, "/status").await.json()["tokens"][0]["last_failure"]["error"].is_string());
    start(&mut world);
    assert_ne!(until("the next", || content(&token)), first);
    assert!(agent.stderr().contains("could not be reached"), "{}", agent.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_is_told_of_and_a_good_certificate_mends_it() {
    let mut world = World::start();
    world.rotate(&PKI.thief.identity);
    let mut agent = agent(&world, &[]);
    let socket = world.path("agent.sock");
    let refused = until_status(&socket, "/token", 503).await;
    assert_eq!(refused.error(), "server_refused", "{}", refused.text);
    let id = refused.json()["request_id"].as_str().unwrap().to_owned();
    assert!(!world.site.event(&id).await["reason"].is_null());
    let identity = renewed();
    world.rotate(&identity);
    agent.signal("HUP");
    let answer = until_status(&socket, "/token", 200).await;
    assert_eq!(answer.json()["certificate"]["x5t#S256"], thumbprint(&identity).as_str());
    assert!(agent.is_alive());
    until("a word of it", || agent.stderr().contains("the files of the credential were looked at").then_some(()));

    // A certificate that disappears changes nothing, and is told of.
    fs::remove_file(world.path("tls/..data")).unwrap();
    let began = std::time::Instant::now();
    let fault = loop {
        let status = ask(&socket, "/status").await.json();
        match status["tokens"][0]["files"]["fault"].as_str() {
            Some(fault) => break fault.to_owned(),
            None => assert!(began.elapsed().as_secs() < 20, "{status}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(fault.contains("cannot be read"), "{fault}");
    let told = ask(&socket, "/token").await.json();
    assert_eq!(bound_to(told["access_token"].as_str().unwrap()), thumbprint(&identity));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_may_vouch_for_the_server_from_one_renewal_to_the_next() {
    let mut world = World::start_with(SHORT);
    let agent = agent(&world, &["--file", "token"]);
    let token = world.path("token");
    until("the first token", || content(&token));
    let month = Validity::days_from(SystemClock.now().unix() - 3600, 30);
    let next = Issuer::root("next", month).unwrap();
    // As it is done: the new one beside the old one, then the server's certificate, then the new one alone.
    world.site.write(AUTHORITIES, &format!("{}{}", PKI.root.certificate_pem(), next.certificate_pem()));
    until("both", || agent.stderr().contains("\"count\":2").then_some(()));
    let identity = next.leaf(&LeafSpec::server(month)).unwrap();
    let is_taken = |event: &Value| {
        event["event"] == "config.reloaded" && event["detail"].as_str().unwrap().contains("listen.mtls")
    };
    world.site.write_private("server.key", &identity.key_pem());
    world.site.write("server.pem", &identity.chain_pem());
    until("the certificate of the server", || world.site.audit().iter().any(is_taken).then_some(()));
    world.site.write(AUTHORITIES, &next.certificate_pem());
    until("the new one alone", || agent.stderr().contains("\"count\":1").then_some(()));
    let identity = renewed();
    world.rotate(&identity);
    until("a token from it", || (bound_to(&content(&token)?) == thumbprint(&identity)).then_some(()));

    world.site.write(AUTHORITIES, "nobody");
    until("a word of it", || agent.stderr().contains("gives no certificate authorities").then_some(()));
    let identity = renewed();
    world.rotate(&identity);
    until("a token with the one of before", || (bound_to(&content(&token)?) == thumbprint(&identity)).then_some(()));
}
