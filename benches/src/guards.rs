//! The guards, bare and real, behind Unix sockets, and the issuer of the tokens that they are asked about.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use certbind_proto::cert::Certificate;
use rustls::crypto::aws_lc_rs::kx_group;
use serde::Deserialize;

use crate::load::{Lifetime, Peer, Plan, Requests};
use crate::measure::{Contender, Planned};
use crate::options::{Options, Pace, Subject};
use crate::process::{Cores, Process};
use crate::scenario::{Load, Question};
use crate::server::Server;
use crate::setup::{AUDIENCE, Place, Setup};

/// How long a guard may take until it answers.
const START: Duration = Duration::from_secs(20);

/// Tokens that are asked about again and again.
const REMEMBERED: usize = 1000;

/// Each guard gets as many tokens as so many requests a second use up, at the most.
const MOST_PER_SECOND: f64 = 15_000.0;

/// What is asked about a token, whoever is asked.
struct Asking {
    issuer: Server,
    setup: Setup,
    /// The certificate of its client, as nginx forwards it.
    certificate: String,
}

/// Guards that answer.
pub(crate) struct Guards {
    asking: Asking,
    guards: Vec<Guard>,
}

struct Guard {
    name: &'static str,
    process: Process,
    socket: Rc<Path>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
}

impl Guards {
    /// Starts the issuer, and a guard of each kind on the server's core.
    pub(crate) async fn start(options: &Options, cores: Cores, dir: &Path) -> anyhow::Result<Self> {
        let dir = dir.join("guard");
        std::fs::create_dir(&dir)?;
        let setup = Setup::make(&dir, 1, Place::Here)?;
        let program = options.program(Subject::Certbind)?;
        let issuer = Server::start(Subject::Certbind, &program, cores, &setup).await?;
        let leaf = Certificate::parse(setup.pki.billing.identity.certificate())?;
        let asking = Asking { certificate: escaped(&leaf.to_pem()), issuer, setup };
        let mut guards = Vec::new();
        for subject in options.subjects() {
            guards.push(asking.guard(subject, options, cores).await?);
        }
        Ok(Self { asking, guards })
    }

    /// Each of them, to be asked so.
    pub(crate) fn contenders(&self, question: Question) -> Vec<Contender<'_>> {
        self.guards.iter().map(|guard| guard.contender(&self.asking, question)).collect()
    }
}

impl Guard {
    fn contender<'a>(&'a self, asking: &'a Asking, question: Question) -> Contender<'a> {
        let plan = move |pace, load| -> Planned<'a> { Box::pin(asking.plan(question, &self.socket, pace, load)) };
        Contender { name: self.name, process: &self.process, plan: Box::new(plan) }
    }
}

impl Asking {
    async fn guard(&self, subject: Subject, options: &Options, cores: Cores) -> anyhow::Result<Guard> {
        let (name, program) = match subject {
            Subject::Bare => ("bare guard", options.program(subject)?.with_file_name("bare-guard")),
            Subject::Certbind => ("certbind guard", options.program(subject)?),
        };
        let socket = self.setup.file(&format!("{}.sock", subject.name()));
        let mut command = cores.server_side(&program);
        match subject {
            Subject::Bare => self.bare(&mut command, &socket).await?,
            Subject::Certbind => drop(command.args(["guard", "--config"]).arg(self.write_config(&socket)?)),
        }
        let mut process = Process::start(command, name, &self.setup.file(&format!("guard-{}.log", subject.name())))?;
        let socket: Rc<Path> = socket.into();
        let question = self.question(&self.tokens(1).await?[0]);
        let start = Instant::now();
        loop {
            process.check()?;
            let asked = async { Peer::Proxy(socket.clone()).connect().await?.exchange(&question).await.map(drop) };
            match asked.await {
                Ok(()) => return Ok(Guard { name, process, socket }),
                Err(error) if start.elapsed() > START => return Err(error).context(format!("the {name} is not ready")),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// It is told the issuer's key.
    async fn bare(&self, command: &mut Command, socket: &Path) -> anyhow::Result<()> {
        let peer = self.client()?;
        let mut connection = peer.connect().await?;
        let keys = connection.exchange(&crate::scenario::get("/.well-known/jwks.json")).await?;
        std::fs::write(self.setup.file("jwks.json"), keys)?;
        command.arg("--socket").arg(socket).arg("--keys").arg(self.setup.file("jwks.json"));
        command.arg("--issuer").arg(self.setup.issuer(self.issuer.address())).args(["--audience", AUDIENCE]);
        Ok(())
    }

    fn write_config(&self, socket: &Path) -> anyhow::Result<PathBuf> {
        let (path, issuer) = (self.setup.file("guard.toml"), self.setup.issuer(self.issuer.address()));
        let text = format!(
            r#"issuer = "{issuer}"
ca = "file:ca.pem"

[listen]
address = "unix:{}"
mode = "auth-request"
certificate_from = "nginx"

[listen.ops]
address = "127.0.0.1:0"

[[route]]
path = "/payments"
methods = ["GET"]
audience = "{AUDIENCE}"
scope = "payments:read"
"#,
            socket.display()
        );
        std::fs::write(&path, text)?;
        Ok(path)
    }

    async fn plan(&self, question: Question, socket: &Rc<Path>, pace: Pace, load: Load) -> anyhow::Result<Plan> {
        let requests = match question {
            Question::Remembered => Requests::repeated(self.questions(REMEMBERED).await?),
            Question::Fresh => {
                let count = load.rate.min(MOST_PER_SECOND) * load.duration.as_secs_f64() * 1.4 + 200.0;
                Requests::once(self.questions(count as usize).await?)
            }
        };
        Ok(Plan {
            peer: Peer::Proxy(Rc::clone(socket)),
            requests: Rc::new(requests),
            lifetime: Lifetime::Kept,
            connections: pace.connections,
            duration: load.duration,
        })
    }

    async fn questions(&self, count: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        Ok(self.tokens(count).await?.iter().map(|token| self.question(token)).collect())
    }

    /// As nginx asks about a request that its client made.
    fn question(&self, token: &str) -> Vec<u8> {
        let Self { certificate, .. } = self;
        format!(
            "GET /verify HTTP/1.1\r\nhost: api.example.com\r\nx-original-method: GET\r\nx-original-uri: /payments/7?expand=all\r\n\
             ssl-client-cert: {certificate}\r\nuser-agent: payments/1.4\r\naccept: application/json\r\n\
             accept-encoding: gzip\r\nx-request-id: 5d1a0f2c\r\nauthorization: Bearer {token}\r\n\r\n"
        )
        .into_bytes()
    }

    /// Tokens that nobody was asked about before.
    async fn tokens(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let mut connection = self.client()?.connect().await?;
        let requests = self.setup.certificate_requests();
        let mut tokens = Vec::with_capacity(count);
        while tokens.len() < count {
            let granted: Granted = serde_json::from_slice(connection.exchange(&requests[0]).await?)?;
            tokens.push(granted.access_token);
        }
        Ok(tokens)
    }

    fn client(&self) -> anyhow::Result<Peer> {
        Peer::new(self.issuer.address(), &self.setup.pki.billing.identity, kx_group::X25519)
    }
}

/// `$ssl_client_escaped_cert`.
fn escaped(pem: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    pem.bytes().map(escape).collect()
}
