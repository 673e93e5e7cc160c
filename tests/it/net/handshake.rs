//! Who gets through the handshake, and who does not (requirements §17).

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use certbind::net::TlsVersion;
use certbind::net::tls::{self, ClientCertificate, Resumption, Suites};
use certbind_devpki::{Basic, Eku, Identity, Issuer, KeyAlgorithm, LeafSpec, Validity, Version};
use certbind_proto::thumbprint::Thumbprint;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, HandshakeKind, SignatureScheme};
use tokio::io::AsyncWriteExt as _;

use super::rig::{Client, GET, PKI, Rig, exchange, read_to_close, validity, within};

use crate::support::finish::Finish as _;

fn issued(change: impl FnOnce(LeafSpec) -> LeafSpec) -> Identity {
    PKI.intermediate.leaf(&change(LeafSpec::client("test", validity()))).unwrap()
}

#[tokio::test]
async fn rfc8705_2_whoever_has_the_key_passes_the_handshake_and_is_judged_later() {
    let rig = Rig::start();
    let now = validity().not_before;
    let stranger = Issuer::root("Unknown CA", validity()).unwrap();
    let of_key = |algorithm| issued(|spec| spec.key(algorithm));
    let cases = [
        ("good", PKI.billing.identity.clone()),
        ("unknown issuer", stranger.leaf(&LeafSpec::client("billing", validity())).unwrap()),
        ("expired", issued(|spec| LeafSpec { validity: Validity::days_from(now - 900 * 86_400, 1), ..spec })),
        ("not yet valid", issued(|spec| LeafSpec { validity: Validity::days_from(now + 900 * 86_400, 1), ..spec })),
        ("self-signed with CA:TRUE", PKI.ledger.identity.clone()),
        ("CA:TRUE from the CA", issued(|spec| LeafSpec { basic: Basic::Ca, ..spec })),
        ("server certificate", issued(|spec| LeafSpec { eku: vec![Eku::ServerAuth], ..spec })),
        ("without extensions that matter", issued(|spec| LeafSpec { eku: vec![], key_usage: vec![], ..spec })),
        ("P-384", of_key(KeyAlgorithm::P384)),
        ("Ed25519", of_key(KeyAlgorithm::Ed25519)),
        ("RSA", of_key(KeyAlgorithm::Rsa2048)),
    ];
    for (case, identity) in &cases {
        let thumbprint = Thumbprint::of_der(identity.certificate()).to_string();
        for version in [&TLS12, &TLS13] {
            let client = Client::speaking(version).presenting(identity, identity);
            let answer = rig.ask(&client).await.unwrap_or_else(|error| panic!("{case}: {error}"));
            assert!(answer.starts_with(&thumbprint), "{case}: {answer}");
        }
    }
}

#[tokio::test]
async fn rfc8705_2_a_stolen_certificate_is_worth_nothing_without_its_key() {
    for demand in [ClientCertificate::Optional, ClientCertificate::Required] {
        let rig = Rig::with(|setup| setup.tls.client_certificate = demand);
        for version in [&TLS12, &TLS13] {
            let thief = Client::speaking(version).presenting(&PKI.billing.identity, &PKI.thief.identity);
            assert!(rig.ask(&thief).await.is_err());
        }
        rig.seen.wait("possession_not_proved", 2).await;
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_passes_unless_one_is_required() {
    let optional = Rig::start();
    let required = Rig::with(|setup| setup.tls.client_certificate = ClientCertificate::Required);
    let not_asked = Rig::with(|setup| setup.tls.client_certificate = ClientCertificate::NotAsked);
    for version in [&TLS12, &TLS13] {
        assert!(optional.ask(&Client::speaking(version)).await.unwrap().starts_with("- "));
        let refusal = required.ask(&Client::speaking(version)).await.unwrap_err().to_string();
        // TLS 1.2 knows no alert of its own for it (RFC 5246 §7.4.6).
        assert!(refusal.contains("CertificateRequired") || refusal.contains("HandshakeFailure"), "{refusal}");

        let billing = Client::speaking(version).presenting(&PKI.billing.identity, &PKI.billing.identity);
        assert!(!required.ask(&billing).await.unwrap().starts_with("- "));
        assert!(not_asked.ask(&billing).await.unwrap().starts_with("- "));
    }
    required.seen.wait("certificate_missing", 2).await;
}

#[tokio::test]
async fn x_ver_a_a_version_1_certificate_ends_the_handshake() {
    let old = issued(|spec| LeafSpec { version: Version::V1, ..spec });
    let rig = Rig::start();
    assert!(rig.ask(&Client::of(&old)).await.is_err());
    rig.seen.wait("certificate_bad", 1).await;
}

#[tokio::test]
async fn tls_size_a_chains_are_bounded() {
    let rig = Rig::start();
    for (certificates, passes) in [(2, true), (6, true), (7, false), (20, false), (100, false)] {
        let client = Client::anonymous().presenting(&PKI.billing.identity, &PKI.billing.identity);
        let one = PKI.billing.identity.certificate().clone();
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&PKI.billing.identity.key()).unwrap();
        let mut client = client;
        let long = CertifiedKey::new(vec![one; certificates], key);
        client.config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(long));
        assert_eq!(rig.ask(&client).await.is_ok(), passes, "{certificates}");
    }
    let big = issued(|spec| (0..600).fold(spec, |spec, i| spec.dns(&format!("name-{i:06}.example"))));
    assert!(rig.ask(&Client::of(&big)).await.is_err(), "one certificate of {} bytes", big.certificate().len());
    rig.assert_healthy().await;
}

#[tokio::test]
async fn tls_ver_a_and_new_a_old_versions_are_refused() {
    let modern = Rig::with(|setup| setup.tls.min_version = TlsVersion::Tls13);
    assert!(modern.ask(&Client::speaking(&TLS12)).await.is_err());
    assert!(modern.ask(&Client::speaking(&TLS13)).await.is_ok());
    modern.seen.wait("incompatible", 1).await;

    let rig = Rig::start();
    for version in [[3, 0], [3, 1], [3, 2]] {
        let mut stream = rig.tcp().await;
        stream.write_all(&old_hello(version)).await.unwrap();
        let answer = read_to_close(&mut stream).await;
        let refused = matches!(answer[..], [21, _, _, 0, 2, 2, 40 | 70]);
        assert!(refused, "neither handshake_failure nor protocol_version: {answer:?}");
    }
    let mut stream = rig.tcp().await;
    stream.write_all(&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10]).await.unwrap();
    stream.write_all(&[7; 64]).await.unwrap();
    assert!(read_to_close(&mut stream).await.len() <= 7, "SSLv2 gets an alert at most");
    rig.assert_healthy().await;
}

/// A ClientHello that offers nothing newer than this version.
fn old_hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0xc0, 0x13, 0x00, 0x2f, 1, 0]);
    let mut hello = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
    hello.extend(body);
    let mut record = vec![22, version[0], version[1], 0, u8::try_from(hello.len()).unwrap()];
    record.extend(hello);
    record
}

#[tokio::test]
async fn tls_pq_a_the_hybrid_group_comes_first_and_classical_clients_are_served() {
    let rig = Rig::start();
    let with = |group| Client::new(&[], &[&TLS13], |provider| provider.kx_groups = vec![group]);
    assert!(rig.ask(&Client::anonymous()).await.unwrap().contains(" X25519MLKEM768 "));
    assert!(rig.ask(&with(kx_group::X25519MLKEM768)).await.unwrap().contains(" X25519MLKEM768 "));
    assert!(rig.ask(&with(kx_group::X25519)).await.unwrap().contains(" X25519 "));
    assert!(rig.ask(&with(kx_group::SECP256R1)).await.unwrap().contains(" secp256r1 "));
    assert!(rig.ask(&Client::speaking(&TLS12)).await.unwrap().contains(" 1.2 X25519 "));
}

#[tokio::test]
async fn fapi_5_2_2_the_fapi_suites_leave_out_chacha_in_tls_1_2_alone() {
    let default = Rig::start();
    let fapi = Rig::with(|setup| setup.tls.suites = Suites::Fapi);
    let with = |suite| Client::new(&[], rustls::ALL_VERSIONS, |provider| provider.cipher_suites = vec![suite]);
    let chacha = with(cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    assert!(default.ask(&chacha).await.is_ok());
    assert!(fapi.ask(&chacha).await.is_err());
    for suite in [
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        assert!(fapi.ask(&with(suite)).await.is_ok(), "{suite:?}");
    }
}

/// Connects twice with one memory of sessions; how the second handshake went, and what the server said of the client.
async fn come_again(first: &Rig, second: &Rig, client: &Client) -> (Option<HandshakeKind>, String) {
    let mut kind = None;
    let mut answer = String::new();
    for rig in [first, second] {
        let mut stream = within(rig.tls(client)).await.unwrap();
        answer = within(exchange(&mut stream, GET)).await.unwrap();
        kind = stream.get_ref().1.handshake_kind();
        assert!(!stream.get_ref().1.is_early_data_accepted());
        stream.shutdown().await.unwrap();
    }
    (kind, answer)
}

fn remembering(version: &'static rustls::SupportedProtocolVersion) -> Client {
    let mut client = Client::speaking(version).presenting(&PKI.billing.identity, &PKI.billing.identity);
    client.config.resumption = rustls::client::Resumption::in_memory_sessions(16);
    client.config.enable_early_data = true;
    client
}

#[tokio::test]
async fn tls_res_a_no_session_is_resumed_by_default() {
    let rig = Rig::start();
    for version in [&TLS12, &TLS13] {
        let (kind, answer) = come_again(&rig, &rig, &remembering(version)).await;
        assert_eq!(kind, Some(HandshakeKind::Full));
        assert!(answer.contains(" full "), "{answer}");
    }
}

#[tokio::test]
async fn tls_res_a_a_switch_allows_resumption_and_the_certificate_comes_along_for_checking() {
    let rig = Rig::with(|setup| setup.tls.resumption = Resumption::StatelessTicket);
    let thumbprint = Thumbprint::of_der(PKI.billing.identity.certificate()).to_string();
    for version in [&TLS12, &TLS13] {
        let (kind, answer) = come_again(&rig, &rig, &remembering(version)).await;
        assert_eq!(kind, Some(HandshakeKind::Resumed));
        assert!(answer.starts_with(&thumbprint) && answer.contains(" resumed "), "{answer}");
    }
}

#[tokio::test]
async fn tls_res_c_and_d_a_ticket_is_worth_nothing_at_another_listener_or_after_a_restart() {
    let public = Rig::with(|setup| {
        setup.tls.resumption = Resumption::StatelessTicket;
        setup.tls.client_certificate = ClientCertificate::NotAsked;
    });
    let mtls = Rig::with(|setup| setup.tls.resumption = Resumption::StatelessTicket);
    for version in [&TLS12, &TLS13] {
        let (kind, _) = come_again(&public, &mtls, &remembering(version)).await;
        assert_eq!(kind, Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn tls_res_c_a_ticket_is_worth_nothing_once_the_certificate_is_another() {
    let rig = Rig::with(|setup| setup.tls.resumption = Resumption::StatelessTicket);
    for version in [&TLS12, &TLS13] {
        let client = remembering(version);
        assert_eq!(come_again(&rig, &rig, &client).await.0, Some(HandshakeKind::Resumed));
        rig.acceptor.replace(&rig.tls).unwrap();
        let stream = rig.tls(&client).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn p5_a_new_certificate_counts_for_new_connections_and_open_ones_go_on() {
    let rig = Rig::start();
    let served =
        async |client: &Client| rig.tls(client).await.unwrap().get_ref().1.peer_certificates().unwrap().to_vec();
    let mut open = rig.tls(&Client::anonymous()).await.unwrap();
    assert_eq!(served(&Client::anonymous()).await, PKI.server.chain());

    let renewed = PKI.intermediate.leaf(&LeafSpec::server(validity())).unwrap();
    let certificate = tls::certified_key(renewed.chain().to_vec(), renewed.key()).unwrap();
    rig.acceptor.replace(&tls::Settings { certificate, ..rig.tls.clone() }).unwrap();
    assert_eq!(served(&Client::anonymous()).await, renewed.chain());
    assert!(exchange(&mut open, GET).await.unwrap().starts_with("- 1.3"));
}

#[tokio::test]
async fn tls_0rtt_a_early_data_is_not_offered() {
    let rig = Rig::with(|setup| setup.tls.resumption = Resumption::StatelessTicket);
    let client = remembering(&TLS13);
    rig.ask(&client).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let mut again = ClientConnection::new(Arc::new(client.config.clone()), name).unwrap();
    assert!(again.early_data().is_none(), "the ticket allows no early data");
}

#[tokio::test]
async fn tls_sni_a_the_name_changes_nothing_about_who_is_asked_for_a_certificate() {
    let rig = Rig::with(|setup| setup.tls.client_certificate = ClientCertificate::Required);
    for name in ["localhost", "LOCALHOST", "127.0.0.1"] {
        let (mut with, mut without) = (Client::of(&PKI.billing.identity), Client::anonymous());
        (with.server_name, without.server_name) = (name.to_owned(), name.to_owned());
        assert!(rig.ask(&with).await.is_ok(), "{name}");
        assert!(rig.ask(&without).await.is_err(), "{name}");
    }
}

/// Notes what the server says about the authorities that it knows.
#[derive(Debug, Default)]
struct HintReader(Mutex<Option<usize>>);

impl ResolvesClientCert for HintReader {
    fn resolve(&self, hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        *self.0.lock().unwrap() = Some(hints.len());
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn tls_ca_a_the_request_for_a_certificate_names_no_authority() {
    let rig = Rig::start();
    for version in [&TLS12, &TLS13] {
        let reader = Arc::new(HintReader::default());
        let mut client = Client::speaking(version);
        client.config.client_auth_cert_resolver = reader.clone();
        rig.ask(&client).await.unwrap();
        assert_eq!(*reader.0.lock().unwrap(), Some(0));
    }
}

#[tokio::test]
async fn attack_42_and_48_a_hello_in_records_and_segments_of_one_byte() {
    let rig = Rig::start();
    let address = rig.address;
    let handshake = tokio::task::spawn_blocking(move || {
        let client = Client::of(&PKI.billing.identity);
        let mut session = ClientConnection::new(Arc::new(client.config), "localhost".try_into().unwrap()).unwrap();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();

        let mut hello = Vec::new();
        session.write_tls(&mut hello).unwrap();
        for byte in &hello[5..] {
            for part in [22, 3, 1, 0, 1, *byte] {
                stream.write_all(&[part]).unwrap();
            }
        }
        let mut tls = rustls::Stream::new(&mut session, &mut stream);
        tls.write_all(GET.as_bytes()).unwrap();
        let mut first = [0; 12];
        tls.read_exact(&mut first).unwrap();
        first
    });
    assert_eq!(within(handshake).await.unwrap().as_slice(), b"HTTP/1.1 200");
}

#[tokio::test]
async fn attack_48_close_notify_in_the_middle_of_a_handshake() {
    let rig = Rig::start();
    let mut hello = Vec::new();
    let config = Arc::new(Client::anonymous().config);
    ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap().write_tls(&mut hello).unwrap();
    for cut in [0, 3, 40, hello.len()] {
        let mut stream = rig.tcp().await;
        stream.write_all(&hello[..cut]).await.unwrap();
        stream.write_all(&[21, 3, 3, 0, 2, 1, 0]).await.unwrap();
        stream.shutdown().await.unwrap();
        read_to_close(&mut stream).await;
    }
    rig.assert_healthy().await;
}

/// What `openssl s_client` prints when it is told this.
fn openssl(rig: &Rig, arguments: &[&str], input: &'static str) -> impl Future<Output = String> + use<> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &rig.address.to_string(), "-servername", "localhost"]).args(arguments);
    let task = tokio::task::spawn_blocking(move || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Commands are read one by one, and only after the handshake.
        for line in input.split_inclusive('\n') {
            std::thread::sleep(std::time::Duration::from_millis(300));
            let _ = stdin.write_all(line.as_bytes());
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(stdin);
        let output = child.finish();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    async { within(task).await.unwrap() }
}

#[tokio::test]
async fn tls_reneg_a_a_client_that_renegotiates_is_refused() {
    let rig = Rig::start();
    let shown = openssl(&rig, &["-tls1_2"], "R\n").await;
    assert!(shown.contains("RENEGOTIATING"), "{shown}");
    assert!(shown.contains("no renegotiation"), "{shown}");
    assert!(shown.contains("Secure Renegotiation IS supported"), "{shown}");
    assert!(shown.contains("Extended master secret: yes"), "{shown}");
}

#[tokio::test]
async fn openssl_sees_no_authorities_no_ticket_and_the_request_for_a_certificate() {
    let rig = Rig::start();
    let shown = openssl(&rig, &["-tls1_3"], "Q\n").await;
    assert!(shown.contains("No client certificate CA names sent"), "{shown}");
    assert!(shown.contains("Requested Signature Algorithms"), "{shown}");
    assert!(!shown.contains("New Session Ticket"), "{shown}");
}
