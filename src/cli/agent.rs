//! `certbind agent`: a daemon that keeps tokens for the programs beside it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use certbind_client::CredentialFiles;
use certbind_proto::entropy::OsEntropy;
use certbind_proto::time::SystemClock;
use clap::Args;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::keep::{LAST_WORK, OutputArgs, loaded};
use super::serve::socket::Socket;
use super::serve::{Signals, Told, manager};
use super::token::AskArgs;
use super::{Exit, Misused, log};
use crate::agent::{Door, Hook, Keeper, Outputs, Questions};
use crate::config::{self, Environment, LogFormat, LogLevel};
use crate::net::{self, Capacity, Listener, Others, Transport};

/// How many programs may be connected at a time.
const MAX_CONNECTIONS: usize = 256;
/// How long answers may take once the agent is to end.
const DRAIN: Duration = Duration::from_secs(2);

/// For whom tokens are kept, and where.
#[derive(Debug, Args)]
pub(super) struct AgentArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Answer at this Unix socket: GET /token, /status, /livez.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Another user whose processes may ask there, by name or number; may be repeated.
    #[arg(long, value_name = "USER", requires = "socket")]
    user: Vec<String>,
    #[command(flatten)]
    outputs: OutputArgs,
    /// How the log is written, on stderr.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Json)]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// One JSON object a line.
    Json,
    /// A line for people.
    Pretty,
}

/// Runs until it is told to stop. Without a token it keeps trying.
///
/// # Errors
/// When the credential cannot be read at the start, or a place for the token or the socket cannot be used.
pub(super) fn run(args: &AgentArgs, environment: &Environment) -> anyhow::Result<Exit> {
    if args.socket.is_none() && args.outputs.file.is_none() && args.outputs.dir.is_none() {
        return Err(Misused("nobody would get a token: give --socket, --file or --dir".to_owned()).into());
    }
    let hook = args.outputs.hook();
    if matches!(hook, Some(Hook::Signal(_))) {
        return Err(
            Misused("--on-renew: a signal to which program? Give a command, as in pkill -HUP".to_owned()).into()
        );
    }
    let users: Vec<u32> = args.user.iter().map(|user| uid(user)).collect::<Result<_, _>>()?;
    let files = args.ask.bound_files(environment)?;
    let format = if matches!(args.log_format, Format::Json) { LogFormat::Json } else { LogFormat::Pretty };
    let _log = log::start(format, LogLevel::Info)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::heard()?;
        let settings = args.ask.settings(loaded(&files).await?, environment)?;
        let roots = settings.roots.clone();
        let questions = Questions::new(settings, files.clone(), Arc::new(SystemClock), Arc::new(OsEntropy))?;
        let questions = Arc::new(questions);
        let outputs = args.outputs.outputs(&args.ask.read(&files, environment))?;
        let all = Arc::clone(&questions);
        let _authorities = args.ask.follow_authorities(roots, environment, move || all.retry_now());
        let running = Running::start(args, questions, outputs, users, hook)?;
        while signals.next().await == Told::Reload {
            look(&running.questions, &files).await;
        }
        manager::stopping(DRAIN);
        running.stop().await;
        Ok(Exit::Done)
    });
    runtime.shutdown_timeout(LAST_WORK);
    outcome
}

fn uid(user: &str) -> Result<u32, Misused> {
    config::uid_of(user).map_err(|fault| Misused(format!("--user: {fault}")))
}

/// Looks at the files now.
async fn look(questions: &Questions, files: &CredentialFiles) {
    let files = files.clone();
    let found = tokio::task::spawn_blocking(move || files.load()).await;
    match found.map(|found| found.map(|credential| questions.rotate(&credential))) {
        Ok(Ok(Ok(()))) => tracing::info!("the files of the credential were looked at"),
        Ok(Ok(Err(error))) => tracing::error!(%error, "the credential cannot be used; the last good one stays in use"),
        Ok(Err(fault)) => tracing::error!(%fault, "the files give no credential; the last good one stays in use"),
        Err(error) => tracing::error!(%error, "the files cannot be looked at"),
    }
}

/// A running agent.
struct Running {
    questions: Arc<Questions>,
    stop: watch::Sender<bool>,
    listener: JoinSet<()>,
    /// Drops the outputs when it ends.
    keeping: JoinSet<()>,
}

impl Running {
    fn start(
        args: &AgentArgs,
        questions: Arc<Questions>,
        outputs: Outputs,
        users: Vec<u32>,
        hook: Option<Hook>,
    ) -> anyhow::Result<Self> {
        let keeper = Keeper {
            source: questions.first().source.clone(),
            outputs,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            placed: None,
        };
        let mut running =
            Self { questions, stop: watch::Sender::new(false), listener: JoinSet::new(), keeping: JoinSet::new() };
        if let Some(path) = &args.socket {
            running.listen(path, users)?;
        }
        let renewed = Arc::new(Notify::new());
        if let Some(hook) = hook {
            let renewed = Arc::clone(&renewed);
            running.keeping.spawn(async move { hook.follow(&renewed, None).await });
        }
        let is_ready = AtomicBool::new(false);
        running.keeping.spawn(keeper.keep(move || {
            if !is_ready.swap(true, Ordering::Relaxed) {
                tracing::info!("ready");
                manager::ready_with("there is a token");
            }
            renewed.notify_one();
        }));
        Ok(running)
    }

    fn listen(&mut self, path: &std::path::Path, users: Vec<u32>) -> anyhow::Result<()> {
        let others = if users.is_empty() { Others::KeptOut } else { Others::LetIn };
        let socket = Socket { key: "--socket", path: path.to_owned(), others, users };
        let listener = socket.bind().context("--socket")?;
        let settings = net::Settings {
            name: "agent".into(),
            transport: Transport::Plain,
            connections: Capacity::new(net::affordable_connections(MAX_CONNECTIONS)),
            limits: Arc::new(ArcSwap::from_pointee(net::Limits { drain: DRAIN, ..net::Limits::default() })),
            observer: Arc::new(()),
        };
        let questions = Arc::clone(&self.questions);
        let door = move |listener: &Listener| Door {
            questions: Arc::clone(&questions),
            users: listener.expected().to_vec(),
            clock: Arc::new(SystemClock),
        };
        self.listener.spawn(socket.serve(Some(listener), settings, door, self.stop.subscribe()));
        Ok(())
    }

    async fn stop(mut self) {
        self.stop.send_replace(true);
        self.keeping.shutdown().await;
        while self.listener.join_next().await.is_some() {}
    }
}
