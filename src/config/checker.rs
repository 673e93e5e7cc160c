//! One key at a time: what was typed or what holds without it, as the type it is meant to be, or a complaint.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::check::Draft;
use super::fault::{Complaint, Concern, Fault, Warning};
use super::keys::{Fallback, Kind, Schema};
use super::raw::RawConfig;
use super::reference::Reference;
use super::settings::IdentitySource;
use super::url::{Issuer, WebOrigin};
use super::value::{self, Value, show_duration, shown};
use crate::suggest::nearest;

/// Reads keys and collects what is wrong with them.
pub(super) struct Checker<'a> {
    pub(super) raw: &'a RawConfig,
    pub(super) draft: Draft,
}

impl Checker<'_> {
    pub(super) fn complain(&mut self, path: &str, about: Fault) {
        let origin = self.raw.origin(path);
        self.draft.complaints.push(Complaint { key: origin.key(path), origin, about });
    }

    pub(super) fn warn(&mut self, path: &str, about: Concern) {
        let origin = self.raw.origin(path);
        self.draft.warnings.push(Warning { key: origin.key(path), origin, about });
    }

    /// What was typed, or what holds without it.
    pub(super) fn value(&mut self, path: &str) -> Option<Value> {
        if let Some(value) = self.raw.value(path) {
            return Some(value.clone());
        }
        if self.raw.is_spoilt(path) {
            return None;
        }
        let value = fallback(self.raw.schema, path);
        if value.is_none() {
            self.complain(path, Fault::Missing);
        }
        value
    }

    pub(super) fn text(&mut self, path: &str) -> Option<String> {
        match self.value(path)? {
            Value::Text(text) => Some(text),
            Value::Boolean(_) | Value::Integer(_) | Value::List(_) => None,
        }
    }

    /// The text that holds here, without a complaint when there is none.
    pub(super) fn peek(&self, path: &str) -> Option<String> {
        match self.raw.value(path).cloned().or_else(|| fallback(self.raw.schema, path))? {
            Value::Text(text) => Some(text),
            Value::Boolean(_) | Value::Integer(_) | Value::List(_) => None,
        }
    }

    pub(super) fn parsed<T>(&mut self, path: &str, parse: impl Fn(&str) -> Result<T, Fault>) -> Option<T> {
        let text = self.text(path)?;
        let may_be_empty = matches!(self.raw.schema.at(path).map(|key| key.fallback), Some(Fallback::Is("")));
        let parsed = if text.is_empty() && !may_be_empty { Err(Fault::Empty) } else { parse(&text) };
        parsed.map_err(|fault| self.complain(path, fault)).ok()
    }

    pub(super) fn word<T>(&mut self, path: &str, named: impl Fn(&str) -> Option<T>) -> Option<T> {
        let words = match self.raw.schema.at(path)?.kind {
            Kind::Choice(words) => words,
            _ => &[],
        };
        self.parsed(path, |text| {
            let fault = || Fault::NotOneOf { value: shown(text), words, meant: nearest(text, words.iter().copied()) };
            named(text).ok_or_else(fault)
        })
    }

    pub(super) fn boolean(&mut self, path: &str) -> Option<bool> {
        match self.value(path)? {
            Value::Boolean(switch) => Some(switch),
            Value::Integer(_) | Value::List(_) | Value::Text(_) => None,
        }
    }

    pub(super) fn integer(&mut self, path: &str) -> Option<i64> {
        let Value::Integer(number) = self.value(path)? else { return None };
        let Kind::Integer(least, most) = self.raw.schema.at(path)?.kind else { return None };
        if (least..=most).contains(&number) {
            return Some(number);
        }
        let bounds = Fault::OutOfBounds { value: number.to_string(), least: least.to_string(), most: most.to_string() };
        self.complain(path, bounds);
        None
    }

    pub(super) fn size(&mut self, path: &str) -> Option<usize> {
        self.integer(path).and_then(|number| usize::try_from(number).ok())
    }

    pub(super) fn duration(&mut self, path: &str) -> Option<Duration> {
        let Kind::Duration(least, most) = self.raw.schema.at(path)?.kind else { return None };
        self.parsed(path, |text| bounded(text, least, most))
    }

    pub(super) fn duration_or_off(&mut self, path: &str) -> Option<Option<Duration>> {
        let Kind::DurationOrOff(least, most) = self.raw.schema.at(path)?.kind else { return None };
        self.parsed(path, |text| if text == "off" { Ok(None) } else { bounded(text, least, most).map(Some) })
    }

    pub(super) fn address(&mut self, path: &str) -> Option<SocketAddr> {
        self.parsed(path, value::address)
    }

    pub(super) fn path(&mut self, path: &str) -> Option<PathBuf> {
        let folder = self.raw.folder();
        self.parsed(path, |text| Ok(folder.join(text)))
    }

    pub(super) fn reference(&mut self, path: &str) -> Option<Reference> {
        let folder = self.raw.folder();
        self.parsed(path, |text| Reference::parse(text, &folder).map_err(Fault::Reference))
    }

    pub(super) fn references(&mut self, path: &str) -> Option<Vec<Reference>> {
        let Value::List(texts) = self.value(path)? else { return None };
        let folder = self.raw.folder();
        let parsed: Result<Vec<_>, _> = texts.iter().map(|text| Reference::parse(text, &folder)).collect();
        parsed.map_err(|fault| self.complain(path, Fault::Reference(fault))).ok()
    }

    pub(super) fn texts(&mut self, path: &str) -> Option<Vec<String>> {
        match self.value(path)? {
            Value::List(texts) => Some(texts),
            Value::Boolean(_) | Value::Integer(_) | Value::Text(_) => None,
        }
    }

    pub(super) fn identity(&mut self, listener: &'static str) -> Option<IdentitySource> {
        let certificate = self.reference(&format!("{listener}.cert"));
        let key = self.reference(&format!("{listener}.key"));
        let identity = IdentitySource { certificate: certificate?, key: key? };
        self.draft.named.identities.push((listener, identity.clone()));
        Some(identity)
    }

    pub(super) fn public_url(&mut self, path: &str, issuer: Option<&Issuer>) -> Option<WebOrigin> {
        let origin = issuer.map(|issuer| issuer.origin().clone());
        self.derived(path, origin, |checker, path| {
            checker.parsed(path, |text| WebOrigin::parse(text).map_err(Fault::Url))
        })
    }

    /// What was typed here, or else what follows from other keys.
    pub(super) fn derived<T>(
        &mut self,
        path: &str,
        follows: Option<T>,
        typed: impl Fn(&mut Self, &str) -> Option<T>,
    ) -> Option<T> {
        if self.raw.value(path).is_some() || self.raw.is_spoilt(path) { typed(self, path) } else { follows }
    }

    /// A table that may be left out: `None` when something is wrong in it, `Some(None)` when it is not there.
    pub(super) fn optional<T>(&mut self, table: &str, read: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.raw.has_table(table) { read(self).map(Some) } else { Some(None) }
    }

    pub(super) fn each<T>(&mut self, array: &str, read: impl Fn(&mut Self, &str) -> Option<T>) -> Option<Vec<T>> {
        let rows: Vec<Option<T>> =
            (0..self.raw.rows(array)).map(|number| read(self, &format!("{array}.{number}"))).collect();
        rows.into_iter().collect()
    }
}

fn bounded(text: &str, least: Duration, most: Duration) -> Result<Duration, Fault> {
    let duration = value::duration(text)?;
    if (least..=most).contains(&duration) {
        return Ok(duration);
    }
    Err(Fault::OutOfBounds { value: shown(text), least: show_duration(least), most: show_duration(most) })
}

/// What holds at this key when nothing is typed.
pub(super) fn fallback(schema: &Schema, path: &str) -> Option<Value> {
    let key = schema.at(path)?;
    match key.fallback {
        Fallback::Is(text) => Value::from_text(key.kind, text).ok(),
        Fallback::Derived(_) | Fallback::Required => None,
    }
}
