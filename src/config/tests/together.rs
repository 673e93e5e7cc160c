//! Everything at once, and the rules between keys.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is nothing to spoil");
    GOOD.replacen(from, to, 1)
}

#[test]
fn every_mistake_is_told_at_once_in_the_order_of_the_file() {
    let text = GOOD
        .replace("data_dir", "datadir")
        .replace("127.0.0.1:8443", "localhost:8443")
        .replace("server.key", "other.key")
        .replace("name =", "nam =")
        .replace("ca.pem", "gone.pem")
        .replace("5m", "5")
        .replace("info", "loud");
    let expected = [
        "certbind.toml:2:1: datadir: there is no such key; did you mean `data_dir`?",
        "certbind.toml:6:1: listen.mtls.address: \"localhost:8443\" is not an IP address with a port; did you mean \"127.0.0.1:8443\"?",
        "certbind.toml:8:1: listen.mtls.key: is not the private key of the (first) certificate in `listen.mtls.cert`",
        "certbind.toml:10:1: trust.0.name: is missing",
        "certbind.toml:11:1: trust.0.nam: there is no such key; did you mean `trust.0.name`?",
        "certbind.toml:12:1: trust.0.ca: gone.pem does not exist",
        "certbind.toml:16:1: tokens.lifetime: \"5\" is not a duration; write a number and ms, s, m, h or d, as in \"5m\"",
        "certbind.toml:19:1: log.level: \"loud\" is none of error, warn, info, debug, trace",
    ];
    assert_eq!(Folder::new().complaints(&text), expected);
}

#[test]
fn what_is_no_toml_is_told_with_line_and_column() {
    let folder = Folder::new();
    for (from, to, begins) in [
        ("profile = \"default\"", "profile = \"default", "certbind.toml:3:"),
        ("profile = \"default\"", "profile = default", "certbind.toml:3:11: "),
        ("profile = \"default\"", "profile", "certbind.toml:3:"),
        ("[log]", "[log", "certbind.toml:18:"),
        ("level = \"info\"", "level = \"info\"\nlevel = \"warn\"", "certbind.toml:20:1: duplicate key"),
        ("[log]", "[tokens]\n[log]", "certbind.toml:18:2: duplicate key"),
    ] {
        let complaints = folder.complaints(&with(from, to));
        assert!(complaints.first().is_some_and(|first| first.starts_with(begins)), "{to:?}: {complaints:#?}");
    }
}

#[test]
fn two_errors_of_syntax_and_an_unknown_key_are_told_at_once() {
    let text = with("level = \"info\"", "level = info\ncolour = 1").replace("\"5m\"", "5m");
    let complaints = Folder::new().complaints(&text);
    let lines: Vec<_> = complaints.iter().map(|complaint| complaint.split(':').nth(1).expect("a line")).collect();
    assert_eq!(lines, ["16", "19", "20"], "{complaints:#?}");
}

#[test]
fn fault_26_a_file_that_cannot_be_read_is_refused() {
    let folder = Folder::new();
    let refused = |name: &str| {
        let sources = Sources { file: folder.path(name), environment: Environment::default(), set: Vec::new() };
        let rejected = open(&sources, Timestamp::from_unix(NOW)).expect_err("no such thing is read");
        rejected.complaints.iter().map(|complaint| folder.plain(complaint)).collect::<Vec<_>>()
    };
    folder.write("latin1.toml", b"issuer = \"\xe4\"");
    folder.write("long.toml", "#".repeat(1024 * 1024 + 1).as_bytes());
    assert_eq!(refused("gone.toml"), ["gone.toml: gone.toml does not exist"]);
    assert_eq!(refused("clients.d"), ["clients.d: clients.d is not a file"]);
    assert_eq!(refused("empty"), ["empty: empty is empty"]);
    assert_eq!(refused("latin1.toml"), ["latin1.toml: is not UTF-8"]);
    assert_eq!(refused("long.toml"), ["long.toml: long.toml has more than 1048576 bytes"]);
}

#[test]
fn a_good_file_gives_finished_values() {
    let folder = Folder::new();
    let Opened { checked, files, .. } = folder.open(GOOD).expect("good");
    let config = checked.config;
    assert_eq!(config.issuer.as_str(), "https://localhost:8443");
    assert_eq!(config.data_dir, folder.path("data"));
    let mtls = config.mtls.expect("named");
    assert_eq!(mtls.public_url.as_str(), "https://localhost:8443");
    assert_eq!(mtls.identity.certificate, Reference::File(folder.path("server.pem")));
    assert_eq!((config.public, config.ops), (None, None));
    assert_eq!(config.clients_dir, folder.path("clients.d"));
    assert_eq!(config.tokens.lifetime, Duration::from_secs(300));
    assert_eq!((config.trust.len(), config.trust[0].name.as_str(), config.trust[0].max_chain_depth), (1, "corp", 5));
    let chain = files.mtls.expect("named").chain;
    assert_eq!((chain.len(), files.trust[0].anchors.len(), files.trust[0].crls.len()), (1, 1, 1));
    assert_eq!(files.trust[0].crls[0].next_update, Timestamp::from_unix(NOW + 9 * DAY));
    assert!(files.public.is_none());
    assert_eq!(checked.warnings, []);
}

#[test]
fn the_keys_that_seal_others_are_read_and_never_shown() {
    let keys = "[keys]\nencryption_key = \"file:seal.key\"\nprevious_encryption_key = \"file:seal.key\"\n[log]";
    let files = Folder::new().open(&with("[log]", keys)).expect("good").files;
    let shown = format!("{files:?}");
    let EncryptionKeys { key, previous } = files.keys.encryption.expect("named");
    assert_eq!((key[0], key[31], previous.map(|key| key[1])), (7, 255, Some(15)));
    assert!(shown.contains("[redacted]") && !shown.contains("7, 15, 23"), "{shown}");
    assert!(Folder::new().open(GOOD).expect("good").files.keys.encryption.is_none());
}

#[test]
fn keys_of_a_token_are_named_by_a_uri_and_the_pin_is_read_and_never_shown() {
    let uri = "pkcs11:token=t;object=o?module-path=/m.so&pin-source=file:seal.key";
    let Opened { checked, files, .. } =
        Folder::new().open(&with("[log]", &format!("[keys]\nsource = \"{uri}\"\n[log]"))).expect("good");
    let KeySource::Module(module) = checked.config.keys.source else { panic!("a module") };
    assert_eq!((module.token.as_str(), module.object.as_str()), ("t", "o"));
    let shown = format!("{files:?}");
    let pin = files.keys.pin.expect("read");
    assert!(pin.expose().starts_with("070f") && !pin.expose().contains('\n') && !shown.contains("070f"), "{shown}");
}

#[test]
fn what_is_not_typed_has_the_strict_value() {
    let config = Folder::new().open(GOOD).expect("good").checked.config;
    let mtls = config.mtls.expect("named");
    assert_eq!((mtls.resumption, mtls.client_certificate), (Resumption::Off, ClientCertificate::Optional));
    assert_eq!(config.trust[0].crl_stale, CrlStale::Refuse);
    assert_eq!(config.trust[0].client_auth_eku, ClientAuthEku::Required);
    assert_eq!(config.tokens.bound, TokenBinding::Always);
    assert_eq!(config.tokens.expiry_cap, ExpiryCap::AtCertificateExpiry);
    assert_eq!(config.assertions.jwks_fetch.networks, Networks::PublicOnly);
    assert_ne!(config.limits.failed_auth_per_address, RateLimit::Off);
}

#[test]
fn server_keys_of_each_kind_are_matched_with_their_certificates() {
    let folder = Folder::new();
    for kind in ["ed25519", "p384", "rsa"] {
        let text = GOOD.replace("server.pem", &format!("{kind}.pem")).replace("server.key", &format!("{kind}.key"));
        assert_eq!(folder.complaints(&text), Vec::<String>::new(), "{kind}");
        let text = GOOD.replace("server.pem", &format!("{kind}.pem"));
        assert_eq!(folder.complaints(&text).len(), 1, "{kind}");
    }
}

#[test]
fn anchors_and_revocation_lists_may_be_der() {
    let text = GOOD.replace("ca.pem", "ca.der").replace("corp.crl", "der.crl");
    assert_eq!(Folder::new().complaints(&text), Vec::<String>::new());
}

#[test]
fn fapi2_narrows_what_may_be_typed() {
    let folder = Folder::new();
    let fapi2 = |more: &str| folder.complaints(&with("default", "fapi2").replace("lifetime = \"5m\"", more));
    for (more, expected) in [
        ("algorithm = \"PS256\"", None),
        ("algorithm = \"EdDSA\"", None),
        (
            "algorithm = \"RS256\"",
            Some(
                "tokens.algorithm: \"RS256\" is not allowed in the profile fapi2 (FAPI 2.0 §5.4.1); use ES256, EdDSA or PS256",
            ),
        ),
        (
            "bound = \"never\"",
            Some(
                "tokens.bound: \"never\" is not allowed in the profile fapi2 (FAPI 2.0 §5.3.2.1); every token is bound: \"always\"",
            ),
        ),
        (
            "bound = \"when-certificate\"",
            Some(
                "tokens.bound: \"when-certificate\" is not allowed in the profile fapi2 (FAPI 2.0 §5.3.2.1); every token is bound: \"always\"",
            ),
        ),
        (
            "[assertions]\nclock_skew = \"9s\"",
            Some(
                "assertions.clock_skew: \"9s\" is not allowed in the profile fapi2 (FAPI 2.0 §5.3.2.1); clocks may be off by 10s at least",
            ),
        ),
        ("[assertions]\nclock_skew = \"10s\"", None),
    ] {
        let complaints = fapi2(more);
        let told: Vec<_> = complaints.iter().map(|c| c.splitn(4, ':').nth(3).expect("a key").trim_start()).collect();
        assert_eq!(told, expected.into_iter().collect::<Vec<_>>(), "{more}");
    }
    assert_eq!(folder.complaints(&with("lifetime = \"5m\"", "algorithm = \"RS256\"")), Vec::<String>::new());
}

#[test]
fn rfc8705_5_the_aliases_lead_elsewhere() {
    let folder = Folder::new();
    let listeners = |mtls: &str, public: &str| {
        let text = with("cert = ", &format!("{mtls}cert = "));
        folder.complaints(&(text + &PUBLIC.replace("public_url = \"https://localhost:9443\"\n", public)))
    };
    const MTLS: &str = "public_url = \"https://mtls.localhost:8443\"\n";
    assert_eq!(listeners(MTLS, ""), Vec::<String>::new());
    assert_eq!(
        listeners("", ""),
        [
            "certbind.toml:5:9: listen.mtls.public_url: is missing; beside [listen.public] clients find this listener by it, in `mtls_endpoint_aliases` (RFC 8705 §5)"
        ]
    );
    for public in ["", "public_url = \"https://localhost:8443\"\n"] {
        assert_eq!(
            listeners("public_url = \"https://localhost:8443\"\n", public),
            [
                "certbind.toml:7:1: listen.mtls.public_url: is also what clients call the public listener; the two need different names or ports (RFC 8705 §5)"
            ]
        );
    }
}

#[test]
fn tls_new_a_a_switch_turns_tls_1_2_off_on_both_listeners() {
    let folder = Folder::new();
    let text = with("cert = ", "public_url = \"https://mtls.localhost\"\nmin_tls = \"1.3\"\ncert = ") + PUBLIC;
    let config = folder.open(&text).expect("good").checked.config;
    assert_eq!((config.min_tls, config.public.map(|public| public.min_tls)), (MinTls::Tls13, Some(MinTls::Tls13)));
    let config = folder.open(&(text + "min_tls = \"1.2\"\n")).expect("good").checked.config;
    assert_eq!((config.min_tls, config.public.map(|public| public.min_tls)), (MinTls::Tls13, Some(MinTls::Tls12)));
}

#[test]
fn rfc8705_7_4_without_anchors_nobody_is_trusted() {
    let folder = Folder::new();
    let text = with("[[trust]]\nname = \"corp\"\nca = \"file:ca.pem\"\ncrl = [\"file:corp.crl\"]\n", "");
    let opened = folder.open(&text).expect("good");
    assert!(opened.checked.config.trust.is_empty() && opened.files.trust.is_empty());
    assert_eq!(
        folder.warnings(&text),
        [
            "certbind.toml: trust: there is no [[trust]] group, so every client of `tls_client_auth` is refused; the system's CA certificates are never used (RFC 8705 §7.4)"
        ]
    );
}

#[test]
fn what_works_but_is_odd_is_a_warning() {
    let folder = Folder::new();
    for (from, to, warning) in [
        ("\"5m\"", "\"119s\"", "certbind.toml:16:1: tokens.lifetime: 119s is so short that"),
        (
            "lifetime = \"5m\"",
            "bound = \"never\"",
            "certbind.toml:16:1: tokens.bound: lets tokens out that are bound to no certificate",
        ),
        ("ca.pem", "old-ca.pem", "certbind.toml:12:1: trust.0.ca: the CA certificate CN=Old CA"),
        (
            "corp.crl",
            "stale.crl",
            "certbind.toml:13:1: trust.0.crl: a revocation list ended at 2026-11-21T00:00:00.000Z; clients of this group are refused",
        ),
        (
            "name = \"corp\"",
            "crl_stale = \"warn\"\nname = \"corp\"",
            "certbind.toml:11:1: trust.0.crl_stale: lets clients in",
        ),
        (
            "https://localhost:8443",
            "https://auth.example.com",
            "certbind.toml:7:1: listen.mtls.cert: the certificate does not name auth.example.com",
        ),
        (
            "server.pem\"\nkey = \"file:server",
            "ending.pem\"\nkey = \"file:ending",
            "certbind.toml:7:1: listen.mtls.cert: the certificate expires at 2026-11-24T00:00:00.000Z, in 2 days",
        ),
        (
            "[log]",
            "[keys]\npublish_before = \"19m\"\n[log]",
            "certbind.toml:19:1: keys.publish_before: 19m is shorter than what caches of the JWKS take",
        ),
        (
            "[log]",
            "[listen.ops]\naddress = \"[::]:9464\"\nallow_non_loopback = true\n[log]",
            "certbind.toml:19:1: listen.ops.address: [::]:9464 can be reached",
        ),
    ] {
        let warnings = folder.warnings(&with(from, to));
        assert!(matches!(warnings.as_slice(), [only] if only.starts_with(warning)), "{to:?}: {warnings:#?}");
    }
}

#[test]
fn two_listeners_do_not_wait_at_one_address() {
    let folder = Folder::new();
    for (mtls, ops, fine) in [
        ("127.0.0.1:8443", "127.0.0.1:8443", false),
        ("0.0.0.0:8443", "127.0.0.1:8443", false),
        ("[::]:8443", "127.0.0.1:8443", false),
        ("[::]:8443", "[::1]:8443", false),
        ("0.0.0.0:8443", "[::1]:8443", true),
        ("127.0.0.1:8443", "127.0.0.2:8443", true),
        ("127.0.0.1:8443", "127.0.0.1:9464", true),
        ("127.0.0.1:0", "127.0.0.1:0", true),
    ] {
        let text = with("127.0.0.1:8443", mtls) + &format!("[listen.ops]\naddress = \"{ops}\"\n");
        assert_eq!(folder.complaints(&text).is_empty(), fine, "{mtls} {ops}");
    }
}

#[test]
fn a_certificate_may_be_required_without_a_public_listener() {
    let text = with("cert = ", "client_certificate = \"required\"\ncert = ");
    let config = Folder::new().open(&text).expect("good").checked.config;
    assert_eq!((config.mtls.expect("named").client_certificate, config.public), (ClientCertificate::Required, None));
}

#[test]
fn a_pasted_secret_is_repeated_nowhere() {
    let folder = Folder::new();
    let secret = "-----BEGIN PRIVATE KEY-----MIGHAgEAMBMGByqGSM49";
    for key in ["cert", "key"] {
        let text = with(&format!("{key} = \"file:server"), &format!("{key} = \"{secret}\" # "));
        let complaints = folder.complaints(&text).join("\n");
        assert!(complaints.contains("is not a reference") && !complaints.contains("MIGH"), "{complaints}");
    }
    let text = with("https://localhost", "https://user:MIGH@localhost");
    let complaints = folder.complaints(&text).join("\n");
    assert!(complaints.contains("user name") && !complaints.contains("MIGH"), "{complaints}");
}

#[test]
fn a_private_key_does_not_print() {
    let folder = Folder::new();
    let opened = folder.open(GOOD).expect("good");
    let key = opened.files.mtls.as_ref().expect("named").key.secret_der().to_vec();
    let printed = format!("{opened:?} {:?}", Environment::from([("KEY", "s3cr3t")]));
    assert!(!printed.contains("s3cr3t") && !printed.contains(&format!("{key:?}")[1..40]), "{printed}");
}

#[test]
fn the_files_to_watch_are_those_behind_the_references() {
    let folder = Folder::new();
    let config = folder.open(GOOD).expect("good").checked.config;
    let expected = ["server.pem", "server.key", "ca.pem", "corp.crl"].map(|name| folder.path(name));
    assert_eq!(config.watched(&Environment::default()), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands in a file, there is an answer, and none that a line of the file does not have.
    #[test]
    fn no_file_is_too_odd(from in 0..GOOD.len(), length in 0_usize..20, odd in "[\\[\\]\"=.a-z0-9\n#é{},]{0,12}") {
        let folder = tempfile::tempdir().expect("a folder");
        let to = (from + length).min(GOOD.len());
        let text = [&GOOD[..from], &odd, &GOOD[to..]].concat();
        let file = folder.path().join("certbind.toml");
        std::fs::write(&file, &text).expect("written");
        let result = inspect(&Sources { file, environment: Environment::default(), set: Vec::new() });
        let complaints = result.map_or_else(|rejected| rejected.complaints, |_| Vec::new());
        prop_assert!(complaints.iter().filter_map(|c| c.origin.line()).all(|line| line <= text.split('\n').count()));
    }

    #[test]
    fn no_variable_is_too_odd(name in "[A-Z0-9_]{0,30}", value in ".{0,20}", set in ".{0,40}") {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("certbind.toml");
        std::fs::write(&file, GOOD).expect("written");
        let environment = Environment::from([(format!("CERTBIND__{name}").as_str(), value.as_str())]);
        let _ = inspect(&Sources { file, environment, set: vec![set] });
    }
}
