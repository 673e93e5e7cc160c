//! Files that change under traffic: nobody who is still good notices, who is taken back is refused, and what is broken changes nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use certbind_devpki::{Client, CrlSpec, Identity, Issuer, LeafSpec, Validity};
use certbind_proto::cert::Certificate;
use certbind_proto::time::{Clock as _, SystemClock};
use hyper::{StatusCode, Version};
use rustls_pki_types::CertificateDer;
use serde_json::Value;

use super::client::{Asserter, Connection, billing, by_assertion, client, tls};
use super::rig::{PKI, Process, Site, certbind, within};
use super::traffic::{Load, Traffic};
use crate::support::BUSY;

/// Replaces the list of revoked certificates by one that has these as well.
fn revoke(site: &Site, number: u64, clients: &[&Client]) {
    site.write("crl.pem", &revoked(number, clients));
}

fn revoked(number: u64, clients: &[&Client]) -> String {
    PKI.revoke(number, clients, month()).unwrap().pem() + &PKI.root_crl.pem()
}

/// Since an hour, for thirty days.
fn month() -> Validity {
    Validity::days_from(SystemClock.now().unix() - 3600, 30)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_14_reloads_of_each_kind_fail_nobody_and_count_at_once() {
    Rounds::run(3, (12, Duration::from_millis(50))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half a minute and both cores; scripts/faults runs it"]
async fn fault_14_twenty_reloads_of_each_kind_at_500_requests_a_second() {
    let (tokens, took) = Rounds::run(20, (50, Duration::from_millis(100))).await;
    let rate = tokens as f64 / took.as_secs_f64();
    println!(
        "20 reloads of each of 5 kinds and 20 bad files in {took:.1?}: {tokens} tokens, {rate:.0}/s, none refused"
    );
}

/// Everything that can change, changed round after round: there in the odd ones, gone in the even ones.
struct Rounds {
    site: Site,
    server: Process,
    other: Issuer,
    others_crl: String,
    guest: Connection,
    sibling: Connection,
    toggled: Connection,
    billing: Connection,
}

/// A text that is neither PEM nor TOML.
const BROKEN: &str = "= broken =";

impl Rounds {
    /// So many rounds under this load. Gives the number of tokens, and how long it took.
    async fn run(rounds: usize, load: Load) -> (usize, Duration) {
        let mut this = Self::new().await;
        let began = Instant::now();
        let traffic = Traffic::over(&this.server, load).await;
        for round in 1..=rounds {
            this.certificate().await;
            this.authority(round).await;
            this.revocation(round).await;
            this.client(round).await;
            this.limits(round).await;
            this.broken(round).await;
        }
        let tokens = traffic.stop().await;
        let took = began.elapsed();
        assert!(tokens > rounds * load.0, "{tokens} tokens: there was hardly any load");
        this.server.assert_healthy().await;
        (tokens, took)
    }

    async fn new() -> Self {
        let site = Site::new();
        let other = Issuer::root("another root", month()).unwrap();
        let nobody =
            CrlSpec { next_update: month().not_after, number: 1, revoked: vec![], this_update: month().not_before };
        let others_crl = other.crl(&nobody).unwrap().pem();
        site.write("crl.pem", &(revoked(0, &[]) + &others_crl));
        let guest = other.leaf(&LeafSpec::client("guest", month()).uri("spiffe://certbind.dev/guest")).unwrap();
        let registration = fs::read_to_string(site.path("clients.d/billing.toml")).unwrap();
        for name in ["guest", "sibling"] {
            site.write(&format!("clients.d/{name}.toml"), &registration.replace("billing", name));
        }
        let toggled = registration.replace("client_id = \"billing\"", "client_id = \"toggled\"");
        site.write("clients.d/toggled.toml", &toggled);
        let server = site.start();
        let open = async |who, version| server.connect(Some(who), version).await.unwrap();
        let guest = open(&guest, Version::HTTP_11).await;
        let sibling = open(&PKI.sibling.identity, Version::HTTP_2).await;
        let toggled = open(&PKI.billing.identity, Version::HTTP_11).await;
        let billing = open(&PKI.billing.identity, Version::HTTP_2).await;
        Self { site, server, other, others_crl, guest, sibling, toggled, billing }
    }

    async fn certificate(&self) {
        let mut renewed = None;
        self.site.after(|| renewed = Some(renew(&self.site, 20)), "config.reloaded", "server certificate").await;
        let renewed = renewed.unwrap();
        assert_eq!(shown(&self.server).await, renewed.chain());
    }

    async fn authority(&mut self, round: usize) {
        let there = is_odd(round);
        let more = if there { self.other.certificate_pem() } else { String::new() };
        let write = || self.site.write("ca.pem", &(PKI.root.certificate_pem() + &more));
        self.site.after(write, "config.reloaded", "trust group `dev`").await;
        let refused = (!there).then_some("chain_untrusted");
        assert_answer(&self.site, &mut self.guest, "guest", refused).await;
    }

    async fn revocation(&mut self, round: usize) {
        let there = is_odd(round);
        let listed: &[&Client] = if there { &[&PKI.sibling] } else { &[] };
        let write = || self.site.write("crl.pem", &(revoked(round as u64, listed) + &self.others_crl));
        self.site.after(write, "config.reloaded", "trust group `dev`").await;
        let refused = there.then_some("certificate_revoked");
        assert_answer(&self.site, &mut self.sibling, "sibling", refused).await;
    }

    async fn client(&mut self, round: usize) {
        const ENABLED: &str = "[certbind]\n";
        const DISABLED: &str = "[certbind]\nstate = \"disabled\"\n";
        let there = is_odd(round);
        let text = fs::read_to_string(self.site.path("clients.d/toggled.toml")).unwrap();
        let text = if there { text.replace(ENABLED, DISABLED) } else { text.replace(DISABLED, ENABLED) };
        self.site.after(|| self.site.write("clients.d/toggled.toml", &text), "client.changed", "changed").await;
        let refused = there.then_some("client_disabled");
        assert_answer(&self.site, &mut self.toggled, "toggled", refused).await;
    }

    async fn limits(&mut self, round: usize) {
        let (from, to) = ("[limits]\n", "[limits]\nmax_body_bytes = 4096\n");
        let there = is_odd(round);
        if there {
            self.site.edit(from, to)
        } else {
            self.site.edit(to, from)
        }
        self.site.events("config.reloaded", "limits.max_body_bytes", round).await;
        let long = format!("{}&x={}", billing().encode(), "x".repeat(5000));
        let answer = self.billing.post(long, &[]).await.unwrap();
        let expected = if there { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::OK };
        assert_eq!(answer.status, expected, "round {round}: {}", answer.text);
    }

    /// One file after the other is broken, and whole again; the server goes on with what it had.
    async fn broken(&mut self, round: usize) {
        const FILES: [&str; 5] = ["server.pem", "ca.pem", "crl.pem", "clients.d/toggled.toml", "certbind.toml"];
        let name = FILES[round % FILES.len()];
        let whole = fs::read_to_string(self.site.path(name)).unwrap();
        self.site.after(|| self.site.write(name, BROKEN), "config.rejected", "").await;
        let metrics = async || self.server.operations("/metrics").await.1;
        assert!(metrics().await.contains("certbind_config_last_reload_successful 0"), "{name}");
        let answer = self.billing.token(&billing()).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{name}: {}", answer.text);
        match name.ends_with("toggled.toml") {
            true => self.site.write(name, &whole),
            false => self.site.after(|| self.site.write(name, &whole), "config.reloaded", "").await,
        }
        within(async {
            while metrics().await.contains("certbind_config_last_reload_successful 0") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

fn is_odd(round: usize) -> bool {
    round % 2 == 1
}

/// The very next answer on an open connection is a token, or a refusal for this reason.
async fn assert_answer(site: &Site, connection: &mut Connection, client_id: &str, refused: Option<&str>) {
    let answer = connection.token(&client(client_id)).await.unwrap();
    let event = site.event(answer.request_id()).await;
    assert_eq!(
        (answer.status == StatusCode::OK, event["reason"].as_str()),
        (refused.is_none(), refused),
        "{client_id}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_41_a_broken_file_changes_nothing_and_is_told() {
    let site = Site::new();
    revoke(&site, 1, &[&PKI.billing]);
    let server = site.start();
    let mut connection = server.connect(Some(&PKI.billing.identity), Version::HTTP_2).await.unwrap();
    let good = fs::read_to_string(site.path("crl.pem")).unwrap();
    let cut = &good[..good.len() / 2];
    for (round, broken) in ["", "garbage", cut].into_iter().enumerate() {
        site.write("crl.pem", broken);
        site.events("config.rejected", "", round + 1).await;
        assert_eq!(connection.token(&billing()).await.unwrap().error(), "invalid_client", "{broken}");
        let (_, metrics) = server.operations("/metrics").await;
        assert!(metrics.contains("certbind_config_last_reload_successful 0"), "{metrics}");
    }
    fs::remove_file(site.path("crl.pem")).unwrap();
    site.events("config.rejected", "", 4).await;
    assert_eq!(connection.token(&billing()).await.unwrap().error(), "invalid_client");

    revoke(&site, 2, &[]);
    site.events("config.reloaded", "", 1).await;
    assert_eq!(connection.token(&billing()).await.unwrap().status, StatusCode::OK);
    let (_, metrics) = server.operations("/metrics").await;
    assert!(metrics.contains("certbind_config_last_reload_successful 1"), "{metrics}");
}

/// Replaces the server's certificate and its key, one after the other.
/// `--config certbind.toml` from the folder itself, so that every path is a relative one; a clients' folder that is a link,
/// swapped as a whole; a client's file that is a link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_client_is_disabled_within_a_second_by_relative_paths_and_by_links() {
    let site = Site::new();
    let enabled = fs::read_to_string(site.path("clients.d/billing.toml")).unwrap();
    let disabled = enabled.replace("[certbind]\n", "[certbind]\nstate = \"disabled\"\n");
    let mut relative = certbind();
    relative.current_dir(site.dir()).args(["serve", "--config", "certbind.toml"]);
    let in_place = |text: &str| site.write("clients.d/billing.toml", text);
    assert_toggles(&site, Process::ready(relative), [&disabled, &enabled], in_place).await;

    fs::rename(site.path("clients.d/billing.toml"), site.path("billing.toml")).unwrap();
    symlink("../billing.toml", site.path("clients.d/billing.toml")).unwrap();
    let behind_link = |text: &str| site.write("billing.toml", text);
    assert_toggles(&site, site.start(), [&disabled, &enabled], behind_link).await;

    fs::rename(site.path("clients.d"), site.path("clients.0")).unwrap();
    symlink("clients.0", site.path("clients.d")).unwrap();
    let mut generation = 0;
    let swapped = |text: &str| {
        let before = site.path(&format!("clients.{generation}"));
        generation += 1;
        let name = format!("clients.{generation}");
        fs::create_dir(site.path(&name)).unwrap();
        for file in fs::read_dir(before).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), site.path(&name).join(file.file_name())).unwrap();
        }
        site.write(&format!("{name}/billing.toml"), text);
        symlink(&name, site.path("clients.new")).unwrap();
        fs::rename(site.path("clients.new"), site.path("clients.d")).unwrap();
    };
    assert_toggles(&site, site.start(), [&disabled, &enabled], swapped).await;
}

/// Each of several changes is in force in time; the first may be seen by the look that every start makes.
async fn assert_toggles(site: &Site, server: Process, [disabled, enabled]: [&str; 2], mut write: impl FnMut(&str)) {
    const BOUND: Duration = Duration::from_secs(1 + BUSY);
    let mut connection = server.connect(Some(&PKI.billing.identity), Version::HTTP_11).await.unwrap();
    assert_answer(site, &mut connection, "billing", None).await;
    for (text, expected) in [(disabled, false), (enabled, true), (disabled, false), (enabled, true)] {
        write(text);
        let written = Instant::now();
        while (connection.token(&billing()).await.unwrap().status == StatusCode::OK) != expected {
            assert!(written.elapsed() < BOUND, "not after {BOUND:?}\n{text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert!(server.terminate().success());
}

fn renew(site: &Site, days: i64) -> Identity {
    let validity = Validity::days_from(SystemClock.now().unix() - 3600, days);
    let renewed = PKI.intermediate.leaf(&LeafSpec::server(validity)).unwrap();
    site.write("server.pem", &renewed.chain_pem());
    site.write_private("server.key", &renewed.key_pem());
    renewed
}

/// The chain that a new connection is shown.
async fn shown(server: &Process) -> Vec<CertificateDer<'static>> {
    let stream = tls(server.address, None, &["h2"]).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_renewed_server_certificate_is_shown_and_a_bad_pair_is_not() {
    let site = Site::new();
    let server = site.start();
    let traffic = Traffic::start(&server).await;
    let renewed = renew(&site, 20);
    site.events("config.reloaded", "", 1).await;
    assert_eq!(shown(&server).await, renewed.chain());
    let ends = |days| format!("certbind_server_certificate_expiry_timestamp_seconds{{listener=\"mtls\"}} {days}");
    let not_after = Certificate::parse(renewed.certificate()).unwrap().not_after().unix();
    let (_, metrics) = server.operations("/metrics").await;
    assert!(metrics.contains(&ends(not_after)), "{metrics}");

    site.write("server.pem", &PKI.billing.identity.chain_pem());
    site.events("config.rejected", "", 1).await;
    assert!(site.audit().iter().any(|event| event["detail"].to_string().contains("listen.mtls.key")));
    assert_eq!(shown(&server).await, renewed.chain());
    let (_, metrics) = server.operations("/metrics").await;
    assert!(metrics.contains("certbind_config_last_reload_successful 0") && metrics.contains(&ends(not_after)));

    let again = renew(&site, 25);
    site.events("config.reloaded", "", 2).await;
    assert_eq!(shown(&server).await, again.chain());
    let (_, metrics) = server.operations("/metrics").await;
    assert!(metrics.contains("certbind_config_last_reload_successful 1") && !metrics.contains(&ends(not_after)));
    assert!(traffic.stop().await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_25_killed_in_the_middle_of_a_reload_it_comes_back_by_itself() {
    let site = Site::new();
    for round in 1..=5 {
        let server = site.start();
        let assertion = Asserter::batch().fresh();
        let mut connection = batch(&server).await;
        assert_eq!(connection.token(&by_assertion(&assertion)).await.unwrap().status, StatusCode::OK);
        revoke(&site, round, &[]);
        tokio::time::sleep(Duration::from_millis(60 * round)).await;
        server.kill();

        let server = site.start();
        let mut connection = batch(&server).await;
        assert_eq!(connection.token(&by_assertion(&assertion)).await.unwrap().error(), "invalid_client");
        server.assert_healthy().await;
    }
    let torn = |event: &Value| event["event"].is_null();
    assert!(!site.audit().iter().any(torn), "a line of the audit log is torn");
}

async fn batch(server: &Process) -> Connection {
    server.connect(Some(&PKI.batch.identity), Version::HTTP_11).await.unwrap()
}
