//! A guard that runs takes new routes from its file; what it cannot take changes nothing.

use std::process::Command;
use std::time::Duration;

use certbind_devpki::{Issuer, Validity};
use certbind_proto::time::{Clock as _, SystemClock};

use super::question::{forwarded, guard_file, token};
use super::rig::{issuer, start_guard};
use crate::process::rig::{PKI, Process, Site, within};
use crate::support::finish::Finish as _;

/// A guard, and what a proxy on its socket asks.
struct Asked {
    site: Site,
    guard: Process,
    server: Process,
}

impl Asked {
    fn start() -> Self {
        Self::with(|_| {})
    }

    /// The same with something changed before the guard starts.
    fn with(change: impl FnOnce(&Site)) -> Self {
        let (site, server, issuer) = issuer();
        guard_file(&site, &issuer, "certificate_from = \"haproxy\"\naddress = \"unix:guard.sock\"");
        change(&site);
        let guard = start_guard(&site);
        Self { site, guard, server }
    }

    /// What the guard says of `billing`'s request for this path.
    async fn verdict(&self, path: &str) -> u16 {
        let token = token(&self.server).await;
        let mut command = Command::new("curl");
        command.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--unix-socket"]);
        command.arg(self.site.path("guard.sock"));
        for header in [
            "X-Forwarded-Method: GET".to_owned(),
            format!("X-Forwarded-Uri: {path}"),
            format!("Authorization: Bearer {token}"),
            format!("X-SSL-Client-DER: {}", forwarded()),
        ] {
            command.args(["--header", &header]);
        }
        let output = command.arg("http://guard/verify").finish();
        String::from_utf8(output.stdout).unwrap().parse().unwrap()
    }

    fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.site.path("guard.toml")).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        self.site.write("guard.toml", &text.replacen(from, to, 1));
    }

    /// Waits until the log says this, and gives the line.
    async fn says(&self, what: &str) -> String {
        within(async {
            loop {
                if let Some(line) = self.guard.stderr().lines().find(|line| line.contains(what)) {
                    return line.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    async fn is_in_force(&self) -> bool {
        let (_, metrics) = self.guard.operations("/metrics").await;
        metrics.contains("certbind_config_last_reload_successful 1")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_routes_are_taken_while_questions_come() {
    let asked = Asked::start();
    assert_eq!((asked.verdict("/payments").await, asked.verdict("/reports").await), (200, 403));
    asked.edit("[[route]]\n", "[[route]]\npath = \"/reports\"\naudience = \"https://localhost:8444\"\n[[route]]\n");
    let told = asked.says("config.reloaded").await;
    assert!(told.contains("route.1.path"), "{told}");
    assert_eq!((asked.verdict("/payments").await, asked.verdict("/reports").await), (200, 200));

    // What is remembered of a token is held against the new rules as well.
    asked.edit(
        "path = \"/reports\"\naudience = \"https://localhost:8444\"\n",
        "path = \"/reports\"\naudience = \"https://reports.example\"\n",
    );
    asked.says("https://reports.example").await;
    assert_eq!((asked.verdict("/payments").await, asked.verdict("/reports").await), (200, 401));
    assert!(asked.is_in_force().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_wrong_or_needs_a_restart_changes_nothing() {
    let asked = Asked::start();
    let good = std::fs::read_to_string(asked.site.path("guard.toml")).unwrap();
    for (from, to, why) in [
        ("path = \"/payments\"", "path = \"/pay ments\"", "route.0.path"),
        (
            "[[route]]\n",
            "[log]\nlevel = \"debug\"\nformat = \"pretty\"\n[[route]]\n",
            "a restart is needed for a new value of log.format",
        ),
    ] {
        asked.edit(from, to);
        asked.guard.signal("HUP");
        let told = asked.says(why).await;
        assert!(told.contains("stays in force") || told.contains("config.rejected"), "{told}");
        assert!(!asked.is_in_force().await, "{why}");
        assert_eq!(asked.verdict("/payments").await, 200, "{why}");
        asked.site.write("guard.toml", &good);
        asked.guard.signal("HUP");
        within(async {
            while !asked.is_in_force().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_vouches_for_the_issuer_is_followed_in_the_file() {
    let stranger = Issuer::root("stranger", Validity::days_from(SystemClock.now().unix() - 3600, 30)).unwrap();
    let asked = Asked::with(|site| {
        let text = std::fs::read_to_string(site.path("guard.toml")).unwrap();
        site.write("guard.toml", &text.replace("file:ca.pem", "file:issuer.pem"));
        site.write("issuer.pem", &stranger.certificate_pem());
    });
    assert_ne!(asked.verdict("/payments").await, 200, "there are no keys from somebody whom nobody vouches for");
    asked.site.write("issuer.pem", &PKI.root.certificate_pem());
    asked.says("ca: taken over").await;
    within(async {
        while asked.verdict("/payments").await != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    asked.site.write("issuer.pem", "nobody");
    asked.says("the old state stays in force").await;
    assert_eq!(asked.verdict("/payments").await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_somebody_has_removed_is_made_again() {
    let asked = Asked::start();
    assert_eq!(asked.verdict("/payments").await, 200);
    std::fs::remove_file(asked.site.path("guard.sock")).unwrap();
    asked.says("making it again").await;
    within(async {
        while asked.verdict("/payments").await != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(asked.guard.operations("/readyz").await.0, 200);
}
