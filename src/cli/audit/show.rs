//! Lines of the audit log as a person or a program wants to see them.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Deserialize;

use crate::audit::peer_text;
use crate::cli::config::Output;

/// What there is to see and to look for in a line.
#[derive(Debug, Deserialize)]
pub(super) struct Seen<'a> {
    #[serde(borrow)]
    pub(super) ts: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) outcome: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) client_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) actor: Option<Cow<'a, str>>,
    #[serde(borrow)]
    auth_method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    scope: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) jti: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) cnf_x5t_s256: Option<Cow<'a, str>>,
    #[serde(borrow)]
    cert_subject: Option<Cow<'a, str>>,
    #[serde(borrow)]
    cert_serial: Option<Cow<'a, str>>,
    #[serde(borrow)]
    forwarded_from: Option<Cow<'a, str>>,
    #[serde(borrow)]
    proxy: Option<Cow<'a, str>>,
    #[serde(borrow)]
    listener: Option<Cow<'a, str>>,
    #[serde(borrow)]
    peer: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) request_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    detail: Option<Cow<'a, str>>,
    #[serde(borrow)]
    run: Option<Cow<'a, str>>,
    lost: Option<u64>,
}

impl<'a> Seen<'a> {
    /// Reads a line; `None` when it is none of the log.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// What is there, by name, beside time and event.
    fn members(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("outcome", &self.outcome),
            ("reason", &self.reason),
            ("client_id", &self.client_id),
            ("actor", &self.actor),
            ("auth_method", &self.auth_method),
            ("scope", &self.scope),
            ("jti", &self.jti),
            ("cnf_x5t_s256", &self.cnf_x5t_s256),
            ("cert_subject", &self.cert_subject),
            ("cert_serial", &self.cert_serial),
            ("forwarded_from", &self.forwarded_from),
            ("proxy", &self.proxy),
            ("listener", &self.listener),
            ("peer", &self.peer),
            ("request_id", &self.request_id),
            ("detail", &self.detail),
            ("run", &self.run),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

/// Prints lines in one form.
pub(super) struct Printer<'a> {
    out: &'a mut dyn Write,
    output: Output,
}

impl<'a> Printer<'a> {
    /// Prints what comes before all lines.
    pub(super) fn start(out: &'a mut dyn Write, output: Output) -> io::Result<Self> {
        let mut printer = Self { out, output };
        if output == Output::Table {
            printer.row(["TIME", "EVENT", "OUTCOME", "REASON", "CLIENT", "REQUEST"])?;
        }
        Ok(printer)
    }

    /// Prints a line. As JSON it is what stands in the file, so that its hash is still that of the chain.
    pub(super) fn line(&mut self, line: &[u8], seen: &Seen<'_>) -> io::Result<()> {
        match self.output {
            Output::Json => {
                self.out.write_all(line)?;
                self.out.write_all(b"\n")
            }
            Output::Plain => self.plain(seen),
            Output::Table => self.row([
                &seen.ts,
                text(&seen.event),
                text(&seen.outcome),
                text(&seen.reason),
                text(&seen.client_id),
                text(&seen.request_id),
            ]),
        }
    }

    /// Prints a line of the store. As JSON it is what was written, like one of a file.
    pub(super) fn stored(&mut self, server: &str, line: &[u8], seen: &Seen<'_>) -> io::Result<()> {
        match self.output {
            Output::Plain => {
                self.members(seen)?;
                writeln!(self.out, " server={}", peer_text(server))
            }
            Output::Json | Output::Table => self.line(line, seen),
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn plain(&mut self, seen: &Seen<'_>) -> io::Result<()> {
        self.members(seen)?;
        writeln!(self.out)
    }

    fn members(&mut self, seen: &Seen<'_>) -> io::Result<()> {
        write!(self.out, "{} {}", peer_text(&seen.ts), peer_text(text(&seen.event)))?;
        for (name, value) in seen.members() {
            let value = peer_text(value);
            match value.contains([' ', '"', '=']) {
                true => write!(self.out, " {name}={value:?}")?,
                false => write!(self.out, " {name}={value}")?,
            }
        }
        if let Some(lost) = seen.lost {
            write!(self.out, " lost={lost}")?;
        }
        Ok(())
    }

    fn row(&mut self, cells: [&str; 6]) -> io::Result<()> {
        let [time, event, outcome, reason, client, request] = cells.map(peer_text);
        writeln!(self.out, "{time:24}  {event:18}  {outcome:7}  {reason:24}  {client:24}  {request}")
    }
}

fn text<'a>(value: &'a Option<Cow<'_, str>>) -> &'a str {
    value.as_deref().unwrap_or("-")
}
