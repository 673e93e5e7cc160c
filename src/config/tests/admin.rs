//! `[listen.admin]`: a Unix socket, or mutual TLS that names whom it lets in; and nothing in between.

use super::*;

/// To be put behind [`GOOD`].
const TLS: &str = r#"
[listen.admin]
address = "0.0.0.0:9444"
cert = "file:server.pem"
key = "file:server.key"
ca = "file:ca.pem"
crl = ["file:corp.crl"]

[[listen.admin.allow]]
san_uri = "spiffe://example.com/ops/alice"
role = "admin"

[[listen.admin.allow]]
subject_dn = "CN=bob,O=Example"
role = "viewer"
"#;

/// What is typed instead of what in [`TLS`], and all complaints that follow.
const WRONG: &[(&str, &str, &[&str])] = &[
    ("cert = \"file:server.pem\"\n", "", &["certbind.toml:21:9: listen.admin.cert: is missing"]),
    ("key = \"file:server.key\"\n", "", &["certbind.toml:21:9: listen.admin.key: is missing"]),
    ("ca = \"file:ca.pem\"\n", "", &["certbind.toml:21:9: listen.admin.ca: is missing"]),
    ("file:server.pem", "file:gone.pem", &["certbind.toml:23:1: listen.admin.cert: gone.pem does not exist"]),
    (
        "file:server.key",
        "file:other.key",
        &[
            "certbind.toml:24:1: listen.admin.key: is not the private key of the (first) certificate in `listen.admin.cert`",
        ],
    ),
    (
        "file:ca.pem",
        "file:server.pem",
        &[
            "certbind.toml:25:1: listen.admin.ca: holds a certificate that is not a CA's (RFC 5280 §4.2.1.9): CN=localhost,O=certbind dev",
        ],
    ),
    (
        "file:corp.crl",
        "file:text",
        &[
            "certbind.toml:26:1: listen.admin.crl: file:text holds no revocation list that can be read; PEM with BEGIN X509 CRL, or DER, is wanted",
        ],
    ),
    (
        "0.0.0.0:9444",
        "127.0.0.1:8443",
        &["certbind.toml:22:1: listen.admin.address: `listen.mtls.address` waits at this address already"],
    ),
    (
        "0.0.0.0:9444",
        "localhost:9444",
        &[
            "certbind.toml:22:1: listen.admin.address: \"localhost:9444\" is no address for this listener; write unix:PATH, as in \"unix:/run/certbind/admin.sock\", or an IP address with a port, as in \"[::]:9444\", for mutual TLS",
        ],
    ),
    (
        "0.0.0.0:9444",
        "unix:admin.sock",
        &[
            "certbind.toml:23:1: listen.admin.cert: is for mutual TLS, and listen.admin.address is a Unix socket, which asks nobody for a certificate; take this out, or write an IP address with a port there",
            "certbind.toml:24:1: listen.admin.key: is for mutual TLS, and listen.admin.address is a Unix socket, which asks nobody for a certificate; take this out, or write an IP address with a port there",
            "certbind.toml:25:1: listen.admin.ca: is for mutual TLS, and listen.admin.address is a Unix socket, which asks nobody for a certificate; take this out, or write an IP address with a port there",
            "certbind.toml:26:1: listen.admin.crl: is for mutual TLS, and listen.admin.address is a Unix socket, which asks nobody for a certificate; take this out, or write an IP address with a port there",
            "certbind.toml:28:1: listen.admin.allow.0: is for mutual TLS, and listen.admin.address is a Unix socket, which asks nobody for a certificate; take this out, or write an IP address with a port there",
        ],
    ),
    (
        "san_uri = \"spiffe://example.com/ops/alice\"\n",
        "",
        &[
            "certbind.toml:28:1: listen.admin.allow.0: names whom it lets in by exactly one of san_uri, san_dns, san_ip, san_email and subject_dn, not 0",
        ],
    ),
    (
        "role = \"admin\"",
        "role = \"admin\"\nsan_dns = \"alice.example.com\"",
        &[
            "certbind.toml:28:1: listen.admin.allow.0: names whom it lets in by exactly one of san_uri, san_dns, san_ip, san_email and subject_dn, not 2",
        ],
    ),
    ("role = \"admin\"\n", "", &["certbind.toml:28:1: listen.admin.allow.0.role: is missing"]),
    (
        "\"admin\"\n",
        "\"amdin\"\n",
        &[
            "certbind.toml:30:1: listen.admin.allow.0.role: \"amdin\" is none of viewer, operator, admin; did you mean `admin`?",
        ],
    ),
    (
        "san_uri = ",
        "san_url = ",
        &[
            "certbind.toml:28:1: listen.admin.allow.0: names whom it lets in by exactly one of san_uri, san_dns, san_ip, san_email and subject_dn, not 0",
            "certbind.toml:29:1: listen.admin.allow.0.san_url: there is no such key; did you mean `listen.admin.allow.0.san_uri`?",
        ],
    ),
    ("spiffe://example.com/ops/alice", "", &["certbind.toml:29:1: listen.admin.allow.0.san_uri: is empty"]),
    (
        "spiffe://example.com/ops/alice",
        "alice",
        &["certbind.toml:29:1: listen.admin.allow.0.san_uri: not an absolute URI (RFC 3986 §3)"],
    ),
    (
        "san_uri = \"spiffe://example.com/ops/alice\"",
        "san_dns = \"*.example.com\"",
        &[
            "certbind.toml:29:1: listen.admin.allow.0.san_dns: a name with * would match nothing but itself: write out each name (RFC 8705 §7.5)",
        ],
    ),
    (
        "san_uri = \"spiffe://example.com/ops/alice\"",
        "san_dns = \"192.0.2.7\"",
        &[
            "certbind.toml:29:1: listen.admin.allow.0.san_dns: this is an IP address, not a DNS name: write it as san_ip",
        ],
    ),
    (
        "san_uri = \"spiffe://example.com/ops/alice\"",
        "subject_dn = \"cn=Bob, o=example\"",
        &[
            "certbind.toml:33:1: listen.admin.allow.1.subject_dn: \"CN=bob,O=Example\" stands at `listen.admin.allow.0.subject_dn` already; a name has one role",
        ],
    ),
];

#[test]
fn fault_26_an_admin_listener_that_is_not_as_strict_as_was_meant_does_not_start() {
    let folder = Folder::new();
    let good = format!("{GOOD}{TLS}");
    assert_eq!(folder.complaints(&good), Vec::<String>::new());
    for (from, to, expected) in WRONG {
        assert!(TLS.contains(from), "{from:?} is nothing to spoil");
        let complaints = folder.complaints(&format!("{GOOD}{}", TLS.replacen(from, to, 1)));
        assert_eq!(complaints, *expected, "{to:?}");
    }
}

#[test]
fn without_anybody_who_may_come_in_mutual_tls_does_not_start() {
    let (listener, _) = TLS.split_once("[[").expect("a beginning");
    let lets_nobody_in = "certbind.toml:21:9: listen.admin: lets nobody in; name the administrators in [[listen.admin.allow]], each by a name of its certificate and with its role";
    assert_eq!(Folder::new().complaints(&format!("{GOOD}{listener}")), [lets_nobody_in]);
}

#[test]
fn an_admin_listener_is_read_as_it_was_meant() {
    let folder = Folder::new();
    let opened = folder.open(&format!("{GOOD}{TLS}")).expect("good");
    let Some(AdminListener::Tls(admin)) = &opened.checked.config.admin else { panic!("mutual TLS") };
    let allowed: Vec<_> = admin.allow.iter().map(|a| (a.subject.as_str(), a.role.as_str())).collect();
    assert_eq!(allowed, [("spiffe://example.com/ops/alice", "admin"), ("CN=bob,O=Example", "viewer")]);
    let files = opened.files.admin.as_ref().expect("files");
    assert_eq!((files.trust.anchors.len(), files.trust.crls.len()), (1, 1));
    let watched = opened.checked.config.watched(&Environment::default());
    assert_eq!(watched.iter().filter(|path| path.ends_with("ca.pem")).count(), 2, "{watched:?}");
    let again = inspect(&folder.sources(&opened.checked.effective.to_string())).expect("good");
    assert_eq!(again.config, opened.checked.config);

    // A socket has nothing of it, shown or not.
    let socket = "[listen.admin]\naddress = \"unix:admin.sock\"\n";
    let checked = folder.open(&format!("{GOOD}{socket}")).expect("good").checked;
    assert!(!checked.effective.to_string().contains("listen.admin.allow"));
    assert_eq!(checked.config.admin, Some(AdminListener::Unix(folder.path("admin.sock"))));
}

#[test]
fn of_the_admin_listener_who_may_come_in_changes_while_it_runs_and_nothing_else() {
    for (path, is_live) in [
        ("listen.admin.allow.0.role", true),
        ("listen.admin.allow.12.san_uri", true),
        ("listen.admin.address", false),
        ("listen.admin.ca", false),
        ("listen.admin.crl", false),
        ("listen.admin.cert", false),
    ] {
        assert_eq!(keys::SERVER.is_live(path), is_live, "{path}");
    }
}

#[test]
fn administrators_are_added_by_the_environment_and_the_command_line() {
    let folder = Folder::new();
    let mut sources = folder.sources(&format!("{GOOD}{TLS}"));
    sources.set = ["listen.admin.allow.2.san_email=c@example.com", "listen.admin.allow.2.role=operator"]
        .map(str::to_owned)
        .to_vec();
    let checked = inspect(&sources).expect("good");
    let Some(AdminListener::Tls(admin)) = checked.config.admin else { panic!("mutual TLS") };
    assert_eq!(admin.allow.len(), 3);
}

#[test]
fn a_stale_list_of_administrators_says_what_it_does() {
    let folder = Folder::new();
    let warnings = folder.warnings(&format!("{GOOD}{}", TLS.replace("corp.crl", "stale.crl")));
    let told = "certbind.toml:26:1: listen.admin.crl: a revocation list ended at 2026-11-21T00:00:00.000Z; administrators whom it concerns are refused";
    assert_eq!(warnings, [told]);
}
