//! File, environment and `--set`: later ones win, and each value knows where it comes from.

use super::*;

fn opened(environment: Environment, set: &[&str]) -> Result<Checked, Rejected> {
    let folder = Folder::new();
    let set = set.iter().map(|argument| (*argument).to_owned()).collect();
    let sources = Sources { environment, set, ..folder.sources(GOOD) };
    open(&sources, Timestamp::from_unix(NOW)).map(|opened| opened.checked)
}

fn refused(environment: Environment, set: &[&str]) -> Vec<String> {
    let rejected = opened(environment, set).expect_err("refused");
    rejected.complaints.iter().map(ToString::to_string).collect()
}

fn origin(checked: &Checked, path: &str) -> String {
    let shown = checked.effective.iter().find(|shown| shown.path == path).expect("a value");
    let origin = shown.origin.to_string();
    origin.rsplit_once('/').map_or(origin.clone(), |(_, name)| name.to_owned())
}

#[test]
fn later_sources_win_and_each_value_knows_its_origin() {
    let environment =
        Environment::from([("CERTBIND__LOG__LEVEL", "warn"), ("CERTBIND__LISTEN__MTLS__ADDRESS", "127.0.0.1:1")]);
    let checked = opened(environment, &["log.level=debug", "tokens.algorithm=EdDSA"]).expect("good");
    assert_eq!(checked.config.log.level, LogLevel::Debug);
    assert_eq!(checked.config.tokens.algorithm, TokenAlgorithm::EdDsa);
    assert_eq!(checked.config.mtls.as_ref().expect("named").address.port(), 1);
    assert_eq!(origin(&checked, "issuer"), "certbind.toml:1:1");
    assert_eq!(origin(&checked, "log.level"), "--set");
    assert_eq!(origin(&checked, "listen.mtls.address"), "CERTBIND__LISTEN__MTLS__ADDRESS");
    assert_eq!(origin(&checked, "log.format"), "default");
    assert_eq!(origin(&checked, "listen.mtls.public_url"), "default");
}

#[test]
fn every_type_can_be_set_from_a_text() {
    let checked = opened(
        Environment::from([("CERTBIND__LIMITS__CONNECTIONS", "7"), ("CERTBIND__LISTEN__MTLS__RESUMPTION", "true")]),
        &[
            "trust.0.crl=[\"file:corp.crl\", \"file:der.crl\"]",
            "limits.idle_timeout=5s",
            "listen.ops.address=127.0.0.1:9",
        ],
    );
    let config = checked.expect("good").config;
    assert_eq!((config.limits.connections, config.mtls.expect("named").resumption), (7, Resumption::On));
    assert_eq!((config.trust[0].crl.len(), config.ops.expect("set").address.port()), (2, 9));
    let one = opened(Environment::default(), &["trust.0.crl=file:der.crl"]).expect("good").config;
    let none = opened(Environment::default(), &["trust.0.crl="]).expect("good").config;
    assert_eq!((one.trust[0].crl.len(), none.trust[0].crl.len()), (1, 0));
}

#[test]
fn an_overlay_may_add_the_next_table_of_an_array() {
    let next = ["trust.1.name=partners", "trust.1.ca=file:old-ca.pem"];
    let config = opened(Environment::default(), &next).expect("good").config;
    assert_eq!(config.trust.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), ["corp", "partners"]);
    for number in ["2", "00", "4000000000", "99999999999999999999999"] {
        let set = format!("trust.{number}.name=partners");
        let complaint = format!(
            "--set: trust.{number}.name: there are only 1 [[trust]] tables, numbered from 0; the next one is trust.1"
        );
        assert_eq!(refused(Environment::default(), &[&set]), [complaint]);
    }
}

#[test]
fn a_wrong_overlay_is_refused_as_a_wrong_file_is() {
    for (variable, value, complaint) in [
        ("CERTBIND__DATADIR", "x", "CERTBIND__DATADIR: there is no such key; did you mean `CERTBIND__DATA_DIR`?"),
        (
            "CERTBIND__TOKENS_LIFETIME",
            "5m",
            "CERTBIND__TOKENS_LIFETIME: there is no such key; did you mean `CERTBIND__TOKENS__LIFETIME`?",
        ),
        ("CERTBIND__", "x", "CERTBIND__: there is no such key"),
        ("CERTBIND__LISTEN__MTLS", "x", "CERTBIND__LISTEN__MTLS: there is no such key"),
        (
            "CERTBIND__KEYS__SOURCE",
            "pkcs11:token=x?pin-value=1234",
            "CERTBIND__KEYS__SOURCE: holds the PIN itself; write `pin-source=file:…` (or `env:`, `cred:`) in place of `pin-value`",
        ),
        (
            "CERTBIND__TOKENS__LIFETIME",
            "5",
            "CERTBIND__TOKENS__LIFETIME: \"5\" is not a duration; write a number and ms, s, m, h or d, as in \"5m\"",
        ),
        (
            "CERTBIND__LIMITS__CONNECTIONS",
            "many",
            "CERTBIND__LIMITS__CONNECTIONS: should be a whole number, without quotes; it is no such number",
        ),
        ("CERTBIND__LOG__LEVEL", "", "CERTBIND__LOG__LEVEL: is empty"),
    ] {
        assert_eq!(refused(Environment::from([(variable, value)]), &[]), [complaint]);
    }
    for (argument, complaint) in [
        ("log.level", "--set: \"log.level\" sets nothing; write --set key=value, as in --set log.level=debug"),
        ("log.levle=info", "--set: log.levle: there is no such key; did you mean `log.level`?"),
        (
            "listen.mtls.resumption=yes",
            "--set: listen.mtls.resumption: should be true or false, without quotes; it is another word",
        ),
        ("=x", "--set: there is no such key"),
    ] {
        assert_eq!(refused(Environment::default(), &[argument]), [complaint]);
    }
}

#[test]
fn variables_with_one_underscore_are_for_other_commands() {
    let environment = Environment::from([("CERTBIND_ISSUER", "https://else.example"), ("CERTBIND_CA", "ca.pem")]);
    let config = opened(environment, &[]).expect("good").config;
    assert_eq!(config.issuer.as_str(), "https://localhost:8443");
}

#[test]
fn a_key_may_come_from_a_variable() {
    let (_, key) = pki().iter().find(|(name, _)| *name == "server.key").expect("there");
    let key = std::str::from_utf8(key).expect("PEM");
    let checked = opened(Environment::from([("TLS_KEY", key)]), &["listen.mtls.key=env:TLS_KEY"]).expect("good");
    assert!(!checked.effective.to_string().contains("PRIVATE"));
    assert!(checked.effective.to_string().contains("key = \"env:TLS_KEY\" "));
}
