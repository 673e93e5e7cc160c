//! Clients that share no code with us: the command line of OpenSSL, with certificates that it made, and curl.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certbind_proto::request::Form;
use serde_json::Value;

use crate::process::client::{billing, client};
use crate::process::rig::{Process, Site, output, within};
use crate::support::finish::Finish as _;

/// Whether the program is not here; then the test says so and ends.
fn is_missing(program: &str) -> bool {
    let missing = Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err();
    if missing {
        println!("skipped: there is no {program} on this machine");
    }
    missing
}

/// Runs `openssl` in the site's folder; fails when it does.
fn openssl(site: &Site, arguments: &str) -> String {
    let (stdout, stderr, status) =
        output(Command::new("openssl").current_dir(site.dir()).args(arguments.split_whitespace()));
    assert!(status.success(), "openssl {arguments}: {stderr}");
    stdout
}

/// `openssl s_client`: a token request, and what came back on the connection.
struct SClient<'a> {
    site: &'a Site,
    arguments: Vec<String>,
}

impl<'a> SClient<'a> {
    /// With this certificate and key; the intermediate of the tests' PKI is sent along when it is asked for.
    fn with(site: &'a Site, server: &Process, cert: &str) -> Self {
        Self::anonymous(site, server).and(&format!("-cert {cert}.pem -key {cert}.key"))
    }

    fn anonymous(site: &'a Site, server: &Process) -> Self {
        let all = format!("s_client -connect {} -servername localhost -CAfile ca.pem -ign_eof", server.address);
        Self { site, arguments: Vec::new() }.and(&all).and("-verify_return_error -nocommands")
    }

    fn and(mut self, arguments: &str) -> Self {
        self.arguments.extend(arguments.split_whitespace().map(str::to_owned));
        self
    }

    /// Handshake, one request, the whole conversation as OpenSSL prints it.
    fn post(self, form: &Form) -> String {
        let body = form.encode();
        let request = format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut command = Command::new("openssl");
        command.current_dir(self.site.dir()).args(&self.arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A handshake that fails ends the program before it reads anything.
        let _ = child.stdin.take().unwrap().write_all(request.as_bytes());
        let output = child.finish();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

/// The token in an answer.
fn token_of(conversation: &str) -> String {
    assert!(conversation.contains("HTTP/1.1 200 OK"), "{conversation}");
    let body = &conversation[conversation.find("{\"access_token\"").unwrap()..];
    let body: Value = serde_json::Deserializer::from_str(body).into_iter().next().unwrap().unwrap();
    body["access_token"].as_str().unwrap().to_owned()
}

/// The id by which the audit log knows the request.
fn request_id(conversation: &str) -> &str {
    conversation
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .unwrap_or_else(|| panic!("{conversation}"))
}

/// The claims, unchecked.
pub(crate) fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// SHA-256 of the certificate as OpenSSL computes it, as RFC 8705 §3.1 writes it.
fn thumbprint(site: &Site, cert: &str) -> String {
    let printed = openssl(site, &format!("x509 -in {cert}.pem -noout -fingerprint -sha256"));
    let hex = printed.trim().rsplit('=').next().unwrap();
    let bytes: Vec<u8> = hex.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    URL_SAFE_NO_PAD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_2_1_openssl_gets_a_token_over_tls_1_3_and_1_2_and_nothing_older() {
    if is_missing("openssl") {
        return;
    }
    let site = Site::new();
    let server = site.start();
    let expected = thumbprint(&site, "clients/billing");
    for (version, name) in [("-tls1_3", "1.3"), ("-tls1_2", "1.2")] {
        let client = SClient::with(&site, &server, "clients/billing").and("-cert_chain intermediate.pem");
        let conversation = client.and(version).post(&billing());
        assert_eq!(claims(&token_of(&conversation))["cnf"]["x5t#S256"], expected);
        assert_eq!(site.event(request_id(&conversation)).await["tls"], name);
    }
    for version in ["-tls1_1", "-tls1"] {
        let client = SClient::anonymous(&site, &server).and("-cipher DEFAULT@SECLEVEL=0");
        let conversation = client.and(version).post(&billing());
        assert!(!conversation.contains("HTTP/1.1"), "{version}: {conversation}");
    }
    server.assert_healthy().await;
}

/// An authority and its client, of which OpenSSL made everything.
struct Acme {
    site: Site,
}

impl Acme {
    fn new() -> Self {
        let acme = Self { site: Site::new() };
        let site = &acme.site;
        site.write("acme.cnf", CA_CONFIGURATION);
        site.write("acme.ext", "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=clientAuth\n");
        site.write("acme.index", "");
        site.write("acme.number", "01\n");
        make(site, "acme-ca", "-x509 -days 30", "/O=Acme/CN=Acme CA", "acme-ca.pem");
        make(site, "pay", "", "/C=DE/O=Acme, Inc. + Sons/OU=Payments/CN=pay", "pay.csr");
        let sign = "x509 -req -in pay.csr -CA acme-ca.pem -CAkey acme-ca.key -CAcreateserial -days 30";
        openssl(site, &format!("{sign} -extfile acme.ext -out pay.pem"));
        acme.renew_crl();
        acme
    }

    /// Takes the client's certificate back, by the book of `openssl ca`.
    fn revoke(&self) {
        openssl(&self.site, "ca -config acme.cnf -revoke pay.pem");
        self.renew_crl();
    }

    fn renew_crl(&self) {
        openssl(&self.site, "ca -config acme.cnf -gencrl -out acme.crl.next");
        fs::rename(self.site.path("acme.crl.next"), self.site.path("acme.crl")).unwrap();
    }

    /// Registers the client by its name as OpenSSL prints it, and starts.
    fn start(&self, mtls: &str) -> Process {
        let site = &self.site;
        site.configure("[log]\nlevel = \"info\"\naudit = \"file:audit.jsonl\"\n", mtls);
        let config = fs::read_to_string(site.path("certbind.toml")).unwrap();
        let trust = "[[trust]]\nname = \"acme\"\nca = \"file:acme-ca.pem\"\ncrl = [\"file:acme.crl\"]\n";
        site.write("certbind.toml", &(config + trust));

        let printed = openssl(site, "x509 -in pay.pem -noout -subject -nameopt RFC2253");
        let dn = printed.trim().strip_prefix("subject=").unwrap();
        site.write(
            "clients.d/pay.toml",
            &format!(
                "client_id = \"pay\"\ntoken_endpoint_auth_method = \"tls_client_auth\"\n\
                 tls_client_auth_subject_dn = '{dn}'\nscope = \"payments:read\"\n\
                 [certbind]\ntrust = \"acme\"\naudiences = [\"https://localhost:8444\"]\n"
            ),
        );
        site.start()
    }

    fn ask(&self, server: &Process, arguments: &str) -> String {
        SClient::with(&self.site, server, "pay").and(arguments).post(&client("pay"))
    }

    /// Waits until the server has read the list of revoked certificates again.
    async fn reloaded(&self) {
        let audit = self.site.path("audit.jsonl");
        within(async {
            while !fs::read_to_string(&audit).unwrap().contains("\"config.reloaded\"") {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

const CA_CONFIGURATION: &str = "\
[ca]\ndefault_ca = acme\n\
[acme]\ndatabase = acme.index\ncrlnumber = acme.number\ncertificate = acme-ca.pem\nprivate_key = acme-ca.key\n\
default_md = sha256\ndefault_crl_days = 1\ncrl_extensions = crl_extensions\n\
[crl_extensions]\nauthorityKeyIdentifier = keyid:always\n";

/// A key on P-256 and a certificate or request for it, named as `-subj` has it.
fn make(site: &Site, key: &str, kind: &str, subject: &str, out: &str) {
    let mut command = Command::new("openssl");
    command.current_dir(site.dir()).args("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split(' '));
    command.args(kind.split_whitespace()).args(["-keyout", &format!("{key}.key"), "-subj", subject, "-out", out]);
    let (_, stderr, status) = output(&mut command);
    assert!(status.success(), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_2_1_2_a_name_as_openssl_prints_it_and_a_list_of_revoked_ones_as_openssl_signs_it() {
    if is_missing("openssl") {
        return;
    }
    let acme = Acme::new();
    let server = acme.start("");
    let token = token_of(&acme.ask(&server, ""));
    assert_eq!(claims(&token)["cnf"]["x5t#S256"], thumbprint(&acme.site, "pay"));

    acme.revoke();
    acme.reloaded().await;
    let refused = acme.ask(&server, "");
    assert!(refused.contains("invalid_client"), "{refused}");
    assert_eq!(acme.site.event(request_id(&refused)).await["reason"], "certificate_revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_40_a_session_is_not_resumed_unless_the_operator_wants_it() {
    if is_missing("openssl") {
        return;
    }
    let acme = Acme::new();
    let server = acme.start("");
    for version in ["-tls1_3", "-tls1_2"] {
        token_of(&acme.ask(&server, &format!("{version} -sess_out session.pem")));
        // Without a ticket OpenSSL 1.3 has nothing to write down.
        if acme.site.path("session.pem").exists() {
            let again = acme.ask(&server, &format!("{version} -sess_in session.pem"));
            token_of(&again);
            assert!(again.contains("New, TLSv1") && !again.contains("Reused, TLSv1"), "{version}: {again}");
        }
    }
    assert!(server.terminate().success());
    assert!(acme.site.audit().iter().all(|event| event["resumed"] == false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_40_a_resumed_session_has_its_certificate_checked_again() {
    if is_missing("openssl") {
        return;
    }
    let versions = [("-tls1_3", "session13.pem"), ("-tls1_2", "session12.pem")];
    let acme = Acme::new();
    let server = acme.start("resumption = true\n");
    for (version, session) in versions {
        token_of(&acme.ask(&server, &format!("{version} -sess_out {session}")));
        let again = acme.ask(&server, &format!("{version} -sess_in {session} -sess_out {session}"));
        token_of(&again);
        assert!(again.contains("Reused, TLSv1"), "{version}: {again}");
        assert_eq!(acme.site.event(request_id(&again)).await["resumed"], true, "{version}");
    }

    acme.revoke();
    acme.reloaded().await;
    for (version, session) in versions {
        let refused = acme.ask(&server, &format!("{version} -sess_in {session}"));
        assert!(refused.contains("invalid_client") && !refused.contains("access_token"), "{version}: {refused}");
        let event = acme.site.event(request_id(&refused)).await;
        assert_eq!((&event["reason"], &event["resumed"]), (&"certificate_revoked".into(), &true.into()), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8705_2_2_a_certificate_of_openssl_req_x509_is_registered_as_it_is() {
    if is_missing("openssl") {
        return;
    }
    let site = Site::new();
    for (name, key) in [("rsa", "rsa:2048"), ("ed", "ed25519")] {
        openssl(
            &site,
            &format!("req -x509 -newkey {key} -nodes -keyout {name}.key -out {name}.pem -subj /CN={name} -days 2"),
        );
        let printed = openssl(&site, &format!("x509 -in {name}.pem -noout -ext basicConstraints"));
        assert!(printed.contains("CA:TRUE"), "as req -x509 does without being asked: {printed}");
        let registration = fs::read_to_string(site.path("clients.d/ledger.toml")).unwrap();
        let registration = registration.replace("../clients/ledger.pem", &format!("../{name}.pem"));
        site.write(&format!("clients.d/{name}.toml"), &registration.replace("\"ledger\"", &format!("\"{name}\"")));
    }
    // The same name and the same everything, but another key.
    openssl(&site, "req -x509 -newkey rsa:2048 -nodes -keyout twin.key -out twin.pem -subj /CN=rsa -days 2");
    let server = site.start();
    for name in ["rsa", "ed"] {
        let token = token_of(&SClient::with(&site, &server, name).post(&client(name)));
        assert_eq!(claims(&token)["cnf"]["x5t#S256"], thumbprint(&site, name));
    }
    let refused = SClient::with(&site, &server, "twin").post(&client("rsa"));
    assert!(refused.contains("invalid_client"), "{refused}");
    assert_eq!(site.event(request_id(&refused)).await["reason"], "thumbprint_unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_that_dev_prints_work_as_they_are_printed() {
    if is_missing("curl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = Process::dev(dir.path(), "127.0.0.1:0".parse().unwrap());
    let printed = server.stdout();
    let lines: Vec<&str> = printed.lines().filter(|line| line.starts_with("curl ")).collect();
    let (api, tokens) = lines.split_last().unwrap();
    assert_eq!(tokens.len(), 3, "{printed}");
    let mut first = None;
    for line in tokens {
        let (stdout, stderr, status) = output(Command::new("sh").arg("-c").arg(line));
        assert!(status.success(), "{line}\n{stderr}");
        let answer: Value = serde_json::from_str(&stdout).unwrap();
        let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("{line}\n{stdout}")).to_owned();
        assert!(claims(&token)["cnf"]["x5t#S256"].is_string());
        first.get_or_insert(token);
    }
    let mut call = Command::new("sh");
    let (stdout, stderr, _) =
        output(call.arg("-c").arg(format!("{api} -w ' %{{http_code}}'")).env("TOKEN", first.unwrap()));
    assert!(stdout.ends_with(" 200"), "{api}\n{stdout}\n{stderr}");
}
