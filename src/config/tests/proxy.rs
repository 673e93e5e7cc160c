//! `[listen.proxy]`: a Unix socket or mutual TLS, one format, and the names of proxies; what is left out refuses the start.

use std::collections::BTreeSet;

use certbind_proto::forwarded::Format;

use super::*;

/// To be put behind [`GOOD`].
const TLS: &str = r#"
[listen.proxy]
address = "0.0.0.0:9445"
certificate_from = "nginx"
cert = "file:server.pem"
key = "file:server.key"
ca = "file:ca.pem"
crl = ["file:corp.crl"]

[[listen.proxy.allow]]
san_uri = "spiffe://example.com/proxy"
"#;

const SOCKET: &str = r#"
[listen.proxy]
address = "unix:proxy.sock"
certificate_from = "xfcc"
users = ["4711"]
"#;

/// What is typed instead of what, and how one of the complaints begins.
const WRONG: &[(&str, &str, &str, &str)] = &[
    (TLS, "address = \"0.0.0.0:9445\"\n", "", "listen.proxy.address: is missing"),
    (TLS, "certificate_from = \"nginx\"\n", "", "listen.proxy.certificate_from: is missing"),
    (TLS, "\"nginx\"", "\"envoy\"", "listen.proxy.certificate_from: \"envoy\" is none of alb, haproxy"),
    (TLS, "\"nginx\"", "[\"nginx\", \"xfcc\"]", "listen.proxy.certificate_from: should be"),
    (TLS, "\"nginx\"", "\"xfcc\"\ncertificate_header = \"x-cert\"", "listen.proxy.certificate_header: is no name"),
    (TLS, "\"nginx\"", "\"nginx\"\ncertificate_header = \"x_cert\"", "listen.proxy.certificate_header: is no name"),
    (TLS, "\"nginx\"", "\"nginx\"\ncertificate_header = \"host\"", "listen.proxy.certificate_header: is no name"),
    (TLS, "\"nginx\"", "\"nginx\"\nusers = [\"root\"]", "listen.proxy.users: is for a Unix socket"),
    (TLS, "cert = \"file:server.pem\"\n", "", "listen.proxy.cert: is missing"),
    (TLS, "key = \"file:server.key\"\n", "", "listen.proxy.key: is missing"),
    (TLS, "file:server.key", "file:other.key", "listen.proxy.key: is not the private key"),
    (TLS, "ca = \"file:ca.pem\"\n", "", "listen.proxy.ca: is missing"),
    (TLS, "file:ca.pem", "file:server.pem", "listen.proxy.ca: holds a certificate that is not a CA's"),
    (TLS, "file:corp.crl", "file:text", "listen.proxy.crl: file:text holds no revocation list"),
    (
        TLS,
        "[[listen.proxy.allow]]\nsan_uri = \"spiffe://example.com/proxy\"\n",
        "",
        "listen.proxy: lets nobody ask; name the proxies in [[listen.proxy.allow]]",
    ),
    (TLS, "san_uri", "san_url", "listen.proxy.allow.0.san_url: there is no such key"),
    (TLS, "0.0.0.0:9445", "127.0.0.1:8443", "listen.proxy.address: `listen.mtls.address` waits at this address"),
    (TLS, "0.0.0.0:9445", "unix:proxy.sock", "listen.proxy.cert: is for mutual TLS"),
    (TLS, "0.0.0.0:9445", "unix:proxy.sock", "listen.proxy.allow.0: is for mutual TLS"),
    (TLS, "0.0.0.0:9445", "proxy:9445", "listen.proxy.address: \"proxy:9445\" is no address for this listener"),
    (SOCKET, "unix:proxy.sock", "unix:", "listen.proxy.address: \"unix:\" is no address for this listener"),
    (SOCKET, "unix:proxy.sock", "unix:gone.d/proxy.sock", "listen.proxy.address: gone.d is not a folder"),
    (SOCKET, "\"4711\"", "\"no such user\"", "listen.proxy.users: there is no user \"no such user\""),
    (SOCKET, "users = [\"4711\"]", "ca = \"file:ca.pem\"", "listen.proxy.ca: is for mutual TLS"),
];

#[test]
fn rfc9440_4_incomplete_and_contradictory_settings_refuse_the_start_by_name() {
    let folder = Folder::new();
    for (good, from, to, expected) in WRONG {
        assert!(good.contains(from), "{from}");
        let complaints = folder.complaints(&(GOOD.to_owned() + &good.replacen(from, to, 1)));
        let is_told = complaints.iter().any(|told| told.split_once(": ").is_some_and(|(_, t)| t.starts_with(expected)));
        assert!(is_told, "{to}: {complaints:#?}");
    }
    let both = format!("{GOOD}{SOCKET}\n[listen.admin]\naddress = \"unix:proxy.sock\"\n");
    let complaints = folder.complaints(&both);
    assert!(
        complaints[0].contains("listen.admin.address: `listen.proxy.address` waits at this address"),
        "{complaints:?}"
    );
}

#[test]
fn rfc9440_4_a_proxy_is_known_by_certificate_or_by_user_and_there_is_no_third_way() {
    let folder = Folder::new();
    let Opened { checked, files, .. } = folder.open(&(GOOD.to_owned() + TLS)).expect("good");
    let own = checked.config.proxy.expect("named");
    let ProxyListener::Tls(tls) = &own.listen else { panic!("mutual TLS") };
    assert_eq!((tls.allow.len(), own.forwarding.header()), (1, "ssl-client-cert"));
    assert!(matches!(files.proxy, Some(ProxyFiles::Tls(_))));
    let Opened { checked, files, .. } = folder.open(&(GOOD.to_owned() + SOCKET)).expect("good");
    assert!(matches!(files.proxy, Some(ProxyFiles::Users(users)) if users == [4711]));
    assert_eq!(checked.config.proxy.expect("named").forwarding.format(), Format::Xfcc);
    let root = SOCKET.replace("4711", "root");
    let files = folder.open(&(GOOD.to_owned() + &root)).expect("good").files;
    assert!(matches!(files.proxy, Some(ProxyFiles::Users(users)) if users == [0]), "by name");
}

/// The same, and all clients come through the proxy.
fn alone(proxy: &str) -> String {
    GOOD.replace(MTLS, "") + proxy
}

#[test]
fn rfc8705_5_behind_a_proxy_the_metadata_name_the_proxy() {
    let folder = Folder::new();
    let url = |text: &str| folder.open(text).expect("good").checked.config.certificate_url.to_string();
    let named = |url: &str| SOCKET.replace("users", &format!("public_url = \"{url}\"\nusers"));
    for with in [|proxy: &str| GOOD.to_owned() + proxy, alone] {
        assert_eq!(url(&with(SOCKET)), "https://localhost:8443");
        assert_eq!(url(&with(&named("https://proxy.example.com"))), "https://proxy.example.com");
        let both = with(&named("https://proxy.example.com")) + PUBLIC;
        assert_eq!(url(&both), "https://proxy.example.com");
        let complaints = folder.complaints(&(with(SOCKET) + PUBLIC));
        assert!(
            complaints[0].contains("listen.proxy.public_url: is missing; beside [listen.public]"),
            "{complaints:?}"
        );
        let complaints = folder.complaints(&(with(&named("https://localhost:9443")) + PUBLIC));
        assert!(complaints[0].contains("listen.proxy.public_url: is also what clients call"), "{complaints:?}");
    }
}

#[test]
fn rfc8705_2_without_a_listener_for_clients_with_certificates_nothing_starts() {
    const NEITHER: &str =
        "listen: has neither [listen.mtls] nor [listen.proxy]; write [listen.mtls] with `cert` and `key`";
    let folder = Folder::new();
    for (more, place) in [("", ""), (PUBLIC, ":17:2"), ("[listen.ops]\n", ":16:2"), ("[listen]\n", ":16:2")] {
        let complaints = folder.complaints(&alone(more));
        let expected = format!("certbind.toml{place}: {NEITHER}");
        assert!(matches!(complaints.as_slice(), [only] if only.starts_with(&expected)), "{expected}: {complaints:#?}");
    }
    // What is there and is wrong is not missing as well.
    for (wrong, told) in [
        ("[listen]\nmtls = 1\n", "certbind.toml:17:1: listen.mtls: should be a table"),
        ("[listen]\nproxy = 1\n", "certbind.toml:17:1: listen.proxy: should be a table"),
        ("[listen.proxy]\n[listen.mtls\n", "certbind.toml:17:"),
    ] {
        let complaints = folder.complaints(&alone(wrong));
        assert!(matches!(complaints.as_slice(), [only] if only.starts_with(told)), "{wrong}: {complaints:#?}");
    }
    // Half of the table is the table, with all that is required in it.
    let half = folder.complaints(&alone(&format!("{SOCKET}[listen.mtls]\nmin_tls = \"1.3\"\n")));
    let missing = ["listen.mtls.cert: is missing", "listen.mtls.key: is missing"];
    assert!(half.len() == 2 && half.iter().zip(missing).all(|(told, wanted)| told.ends_with(wanted)), "{half:#?}");
}

#[test]
fn rfc8705_6_5_where_all_clients_come_through_a_proxy_no_listener_of_their_own_is_needed() {
    let folder = Folder::new();
    // The address that `[listen.mtls]` would wait at is free.
    for (proxy, files) in [
        (TLS.replace("0.0.0.0:9445", "[::]:8443"), &["server.pem", "server.key", "ca.pem", "corp.crl"][..]),
        (SOCKET.to_owned(), &[]),
    ] {
        for (profile, public) in [("default", ""), ("fapi2", PUBLIC)] {
            let named = proxy.replace("certificate_from", "public_url = \"https://proxy.test\"\ncertificate_from");
            let text = alone(&(named + public)).replace("\"default\"", &format!("\"{profile}\""));
            let Opened { checked, files: read, .. } = folder.open(&text).unwrap_or_else(|wrong| panic!("{wrong}"));
            let (config, shown) = (checked.config, checked.effective.to_string());
            assert!(config.mtls.is_none() && read.mtls.is_none() && checked.warnings.is_empty(), "{shown}");
            assert!(shown.contains("[listen.proxy]") && !shown.contains("[listen.mtls]"), "{shown}");
            assert_eq!(config.min_tls, MinTls::Tls12);
            assert_eq!(config.public.as_ref().map(|public| public.min_tls), read.public.map(|_| MinTls::Tls12));
            if config.public.is_none() {
                let watched = config.watched(&Environment::default());
                let wanted = [&["ca.pem", "corp.crl"], files].concat().into_iter().map(|name| folder.path(name));
                assert_eq!(watched.iter().collect::<BTreeSet<_>>(), wanted.collect::<Vec<_>>().iter().collect());
            }
        }
    }
}

#[test]
fn every_format_of_the_parser_can_be_configured() {
    let folder = Folder::new();
    for format in Format::ALL {
        let text = GOOD.to_owned() + &SOCKET.replace("xfcc", format.as_str());
        let own = folder.open(&text).expect("good").checked.config.proxy.expect("named");
        assert_eq!(own.forwarding.format(), format);
    }
}
