//! The log of what happens, on stderr: one flat JSON object a line, or a line for people.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use certbind_proto::time::{Clock, SystemClock};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::{self, Handle};

use crate::audit::peer_text;
use crate::config::{LogFormat, LogLevel};

/// How many lines may wait for whoever reads them; more are dropped.
const MAX_WAITING: usize = 4096;
/// How long the last lines may take to be read.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The running log. When it is dropped, what was said last is written.
#[must_use = "dropping it ends the wait for the last lines"]
pub struct Log {
    waiting: Arc<AtomicUsize>,
    volume: Volume,
}

/// How much is logged: what turns it up and down. The default turns nothing.
#[derive(Clone, Debug, Default)]
pub struct Volume(Option<Handle<LevelFilter, Registry>>);

impl Volume {
    /// Logs from this level on.
    pub fn set(&self, level: LogLevel) {
        // It fails only when the log is gone.
        let _ = self.0.as_ref().map(|handle| handle.reload(filter(level)));
    }
}

/// Starts the log of this process.
///
/// Lines are written by a thread of their own: one that hung because nobody reads stderr could not take over a
/// revocation any more.
///
/// # Errors
/// When no thread can be started.
pub fn start(format: LogFormat, level: LogLevel) -> io::Result<Log> {
    let (filter, handle) = reload::Layer::new(filter(level));
    let (out, lines) = sync_channel::<String>(MAX_WAITING);
    let waiting = Arc::<AtomicUsize>::default();
    let written = Arc::clone(&waiting);
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        for line in lines {
            // One write a line, so that lines of several threads do not mix.
            let _ = io::stderr().write_all(line.as_bytes());
            written.fetch_sub(1, Ordering::Release);
        }
    })?;
    let lines = Lines { format, clock: Arc::new(SystemClock), out, waiting: Arc::clone(&waiting) };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(Log { waiting, volume: Volume(Some(handle)) })
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

impl Log {
    /// What turns it up and down.
    #[must_use]
    pub fn volume(&self) -> Volume {
        self.volume.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let began = Instant::now();
        while self.waiting.load(Ordering::Acquire) > 0 && began.elapsed() < LAST_LINES {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Lines {
    format: LogFormat,
    clock: Arc<dyn Clock>,
    out: SyncSender<String>,
    waiting: Arc<AtomicUsize>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = match self.format {
            LogFormat::Json => self.json(event, fields),
            LogFormat::Pretty => self.pretty(event, &fields),
        };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.out.try_send(line).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Lines {
    fn json(&self, event: &Event<'_>, fields: Fields) -> String {
        let metadata = event.metadata();
        let mut object = Map::new();
        object.insert("ts".to_owned(), self.clock.now().to_string().into());
        object.insert("level".to_owned(), metadata.level().as_str().to_ascii_lowercase().into());
        object.insert("target".to_owned(), metadata.target().into());
        object.insert("message".to_owned(), fields.message.into());
        object.extend(fields.rest);
        Value::Object(object).to_string() + "\n"
    }

    fn pretty(&self, event: &Event<'_>, fields: &Fields) -> String {
        let mut line = format!("{} {:5} {}", self.clock.now(), event.metadata().level(), fields.message);
        for (name, value) in &fields.rest {
            let _ = write!(line, " {name}={value}");
        }
        line + "\n"
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => drop(self.rest.insert(name.to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, peer_text(&format!("{value:?}")).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, peer_text(value).into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}
