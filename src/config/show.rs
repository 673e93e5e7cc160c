//! What holds and where it comes from (`config show`), and what may stand in a file (`config schema`).

use std::fmt;

use serde_json::json;

use super::checker::fallback;
use super::keys::{self, Fallback, Key, Kind, Schema};
use super::origin::Origin;
use super::raw::RawConfig;
use super::value::Value;

/// Every value that holds. Secrets are not among them: a configuration only says where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective(Vec<Shown>);

/// One value that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its key: `listen.mtls.address`, `trust.0.name`.
    pub path: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether a running process takes another value.
    is_live: bool,
    value: Value,
}

impl Shown {
    /// Whether something else would hold if it were not typed; what is required or follows from other keys has no such value.
    #[cfg(test)]
    pub(super) fn is_not_the_fallback(&self) -> bool {
        fallback(&keys::SERVER, &self.path).is_some_and(|value| value != self.value)
    }
}

/// A value that is another one than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its key.
    pub path: String,
    /// Whether a running server takes it; if not, it needs a restart.
    pub is_live: bool,
    from: Option<Value>,
    to: Option<Value>,
}

/// `tokens.lifetime: "5m" -> "10m"`
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_string);
        write!(f, "{}: {} -> {}", self.path, show(&self.from), show(&self.to))
    }
}

impl Effective {
    /// `derived` has what follows from other keys.
    pub(super) fn of(raw: &RawConfig, derived: impl Fn(&str) -> Option<String>) -> Self {
        let mut shown = Vec::new();
        for path in paths(raw) {
            let typed = raw.value(&path).cloned();
            let value = typed.or_else(|| fallback(raw.schema, &path)).or_else(|| derived(&path).map(Value::Text));
            let (origin, is_live) = (raw.source(&path), raw.schema.is_live(&path));
            shown.extend(value.map(|value| Shown { path, origin, is_live, value }));
        }
        Self(shown)
    }

    /// The values, in the order of the documentation.
    pub fn iter(&self) -> impl Iterator<Item = &Shown> {
        self.0.iter()
    }

    /// The values that are others in `new`; first those that are gone.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let change = |shown: &Shown, from: Option<&Value>, to: Option<&Value>| Change {
            path: shown.path.clone(),
            is_live: shown.is_live,
            from: from.cloned(),
            to: to.cloned(),
        };
        let gone = self.0.iter().filter(|old| new.value(&old.path).is_none());
        let gone = gone.map(|old| change(old, Some(&old.value), None));
        let others = new.0.iter().filter(|new| self.value(&new.path) != Some(&new.value));
        gone.chain(others.map(|new| change(new, self.value(&new.path), Some(&new.value)))).collect()
    }

    fn value(&self, path: &str) -> Option<&Value> {
        self.0.iter().find(|shown| shown.path == path).map(|shown| &shown.value)
    }

    /// `{"listen.mtls.address": {"value": "[::]:8443", "origin": "certbind.toml:5:1"}, …}`
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let of = |shown: &Shown| json!({ "value": shown.value.to_json(), "origin": shown.origin.to_string() });
        self.0.iter().map(|shown| (shown.path.clone(), of(shown))).collect::<serde_json::Map<_, _>>().into()
    }
}

/// As a configuration file that says the same, with the origin of each value behind it.
impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = "";
        for shown in &self.0 {
            let (of, name) = shown.path.rsplit_once('.').unwrap_or(("", &shown.path));
            if of != table {
                table = of;
                writeln!(f, "\n{}", heading(table))?;
            }
            let line = format!("{name} = {}", shown.value);
            writeln!(f, "{line:<48} # {}", shown.origin)?;
        }
        Ok(())
    }
}

fn heading(table: &str) -> String {
    match keys::pattern_of(table).strip_suffix(".N") {
        Some(array) => format!("[[{array}]]"),
        None => format!("[{table}]"),
    }
}

/// The paths of all keys, those of arrays once for each table; tables that are left out have none.
fn paths(raw: &RawConfig) -> Vec<String> {
    let mut paths = Vec::new();
    for keys in raw.schema.keys.chunk_by(|a, b| table_of(a) == table_of(b)) {
        let Some(table) = keys.first().map(table_of) else { continue };
        if raw.schema.optional_tables.contains(&table) && !raw.has_table(table) {
            continue;
        }
        match table.strip_suffix(".N") {
            None => paths.extend(keys.iter().map(|key| key.path.to_owned())),
            Some(array) => {
                for number in 0..raw.rows(array) {
                    paths.extend(keys.iter().map(|key| key.path.replace(".N.", &format!(".{number}."))));
                }
            }
        }
    }
    paths
}

fn table_of(key: &Key) -> &'static str {
    key.path.rsplit_once('.').map_or("", |(table, _)| table)
}

/// A JSON Schema (2020-12) of the file, for editors.
#[must_use]
pub fn schema(of: &Schema) -> serde_json::Value {
    let mut schema = table_schema(of, "");
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = of.title.into();
    schema
}

fn table_schema(of: &Schema, table: &str) -> serde_json::Value {
    let below = if table.is_empty() { String::new() } else { format!("{table}.") };
    let mut names: Vec<&str> = of.names_in(table).collect();
    names.dedup();
    let properties: serde_json::Map<_, _> =
        names.iter().map(|name| ((*name).to_owned(), node_schema(of, &format!("{below}{name}")))).collect();
    let is_required = |name: &&&str| matches!(of.node(&format!("{below}{name}")), Some(keys::Node::Key(key)) if key.fallback == Fallback::Required);
    let required: Vec<&str> = names.iter().filter(is_required).copied().collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required })
}

fn node_schema(of: &Schema, path: &str) -> serde_json::Value {
    match of.node(path) {
        Some(keys::Node::Key(key)) => key_schema(key),
        Some(keys::Node::Rows) => json!({ "type": "array", "items": table_schema(of, &format!("{path}.N")) }),
        Some(keys::Node::Table) | None => table_schema(of, path),
    }
}

fn key_schema(key: &Key) -> serde_json::Value {
    let mut schema = match key.kind {
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::References => json!({ "type": "array", "items": { "type": "string", "pattern": REFERENCE } }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Reference => json!({ "type": "string", "pattern": REFERENCE }),
        Kind::Duration(..) => json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" }),
        Kind::DurationOrOff(..) => json!({ "type": "string", "pattern": "^(off|[0-9]+(ms|s|m|h|d))$" }),
        Kind::Rate => json!({ "type": "string", "pattern": "^(off|[0-9]+/[smh])$" }),
        Kind::KeySource => json!({ "type": "string", "pattern": "^(auto|pkcs11:.+)$" }),
        Kind::Issuer | Kind::WebOrigin => json!({ "type": "string", "pattern": "^https://" }),
        Kind::AdminAddress => json!({ "type": "string", "pattern": "^(unix:.+|.+:[0-9]+)$" }),
        Kind::Address
        | Kind::Audit
        | Kind::Name
        | Kind::Path
        | Kind::Resource
        | Kind::Route
        | Kind::Scope
        | Kind::Subject => {
            json!({ "type": "string" })
        }
    };
    schema["description"] = key.meaning.into();
    if let Fallback::Is(text) = key.fallback {
        schema["default"] = Value::from_text(key.kind, text).map_or_else(|_| text.into(), |value| value.to_json());
    }
    schema
}

const REFERENCE: &str = "^(file|env|cred):.+";
