//! `pkcs11:` URIs (RFC 7512): which module, which token in it, which keys there, and where the PIN is found.

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::fault::Fault;
use super::origin::Environment;
use super::reference::{Reference, ReferenceFault};

/// The longest PIN, in bytes, with the end of its line.
const MAX_PIN: u64 = 256;

/// The keys of one name in one token of a security module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleUri {
    /// The library that speaks to the module.
    pub library: PathBuf,
    /// The label of the token.
    pub token: String,
    /// The serial number of the token, where labels are not enough.
    pub serial: Option<String>,
    /// The label of the keys.
    pub object: String,
    /// The PIN of the token's user.
    pub pin: Reference,
}

/// The PIN of a token's user, wiped when it is dropped.
#[derive(Clone)]
pub struct Pin(Zeroizing<String>);

impl Pin {
    /// The one line that a reference leads to.
    pub(super) fn read(reference: &Reference, environment: &Environment) -> Result<Self, Fault> {
        let bytes = reference.read_private(MAX_PIN, environment).map_err(Fault::Read)?;
        let line = str::from_utf8(&bytes).map_err(|_| Fault::NoPin)?.trim_end_matches(['\r', '\n']);
        let is_pin = !line.is_empty() && !line.contains(char::is_control);
        is_pin.then(|| Self(Zeroizing::new(line.to_owned()))).ok_or(Fault::NoPin)
    }

    /// The PIN, for the module.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Shows no PIN.
impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin [redacted]")
    }
}

/// Why a text is not such a URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleUriFault {
    /// An attribute that would mean nothing here.
    #[error(
        "has the attribute `{name}`, which is not used here; `token`, `object` and `serial` are, and after a `?` `module-path` and `pin-source`"
    )]
    Attribute {
        /// Its name.
        name: String,
    },
    /// A `%` that escapes nothing, or bytes that are no text.
    #[error("has an escape that is not `%` and two hexadecimal digits of UTF-8 (RFC 7512 §2.3)")]
    Escape,
    /// One key by its id.
    #[error("names one key by its `id`; leave that out, as the next key has the same `object` and a larger id")]
    Id,
    /// An attribute that has to be there.
    #[error(
        "lacks `{name}`, as in \"pkcs11:token=prod;object=signing?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/certbind/pin\""
    )]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A path that depends on where the program is started.
    #[error("has a `module-path` that is not absolute")]
    ModulePath,
    /// Not a reference after `pin-source=`.
    #[error("pin-source: {0}")]
    Pin(ReferenceFault),
    /// The PIN itself.
    #[error("holds the PIN itself; write `pin-source=file:…` (or `env:`, `cred:`) in place of `pin-value`")]
    PinValue,
    /// One attribute twice.
    #[error("has `{name}` twice (RFC 7512 §2.3)")]
    Twice {
        /// Its name.
        name: &'static str,
    },
}

/// Where an attribute stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Query,
}

impl ModuleUri {
    /// The URI without its `pkcs11:`. A relative path of a PIN starts at `folder`.
    ///
    /// # Errors
    /// What is wrong with it. The text is not repeated: a PIN may stand in it.
    pub(super) fn parse(text: &str, folder: &Path) -> Result<Self, ModuleUriFault> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let [mut library, mut token, mut serial, mut object, mut pin] = [const { None }; 5];
        let attributes = path.split(';').map(|attribute| (Part::Path, attribute));
        let attributes = attributes.chain(query.split('&').map(|attribute| (Part::Query, attribute)));
        for (part, attribute) in attributes.filter(|(_, attribute)| !attribute.is_empty()) {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let (name, slot) = match (part, name) {
                (Part::Path, "token") => ("token", &mut token),
                (Part::Path, "serial") => ("serial", &mut serial),
                (Part::Path, "object") => ("object", &mut object),
                (Part::Path, "type") if value == "private" => continue,
                (Part::Path, "id") => return Err(ModuleUriFault::Id),
                (Part::Query, "module-path") => ("module-path", &mut library),
                (Part::Query, "pin-source") => ("pin-source", &mut pin),
                (Part::Query, "pin-value") => return Err(ModuleUriFault::PinValue),
                _ => return Err(ModuleUriFault::Attribute { name: shown_name(name) }),
            };
            if slot.replace(unescaped(value)?).is_some() {
                return Err(ModuleUriFault::Twice { name });
            }
        }
        let required = |value: Option<String>, name| {
            value.filter(|value| !value.is_empty()).ok_or(ModuleUriFault::Missing { name })
        };
        let library = PathBuf::from(required(library, "module-path")?);
        if !library.is_absolute() {
            return Err(ModuleUriFault::ModulePath);
        }
        Ok(Self {
            token: required(token, "token")?,
            object: required(object, "object")?,
            serial: serial.filter(|serial| !serial.is_empty()),
            pin: Reference::parse(&required(pin, "pin-source")?, folder).map_err(ModuleUriFault::Pin)?,
            library,
        })
    }
}

/// A name, as far as it can be one.
fn shown_name(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(32).collect()
}

/// Percent-encoding (RFC 3986 §2.1) of UTF-8.
fn unescaped(text: &str) -> Result<String, ModuleUriFault> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, behind) = behind.split_at_checked(2).ok_or(ModuleUriFault::Escape)?;
        let digit = |at: usize| digits.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let byte = digit(0).zip(digit(1)).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        bytes.push(byte.ok_or(ModuleUriFault::Escape)?);
        rest = behind;
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or(ModuleUriFault::Escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModuleUri, ModuleUriFault> {
        ModuleUri::parse(text, Path::new("/etc/certbind"))
    }

    #[test]
    fn rfc7512_2_3_a_uri_names_module_token_keys_and_pin() {
        let expected = ModuleUri {
            library: "/usr/lib/softhsm/libsofthsm2.so".into(),
            token: "prod; signing".to_owned(),
            serial: None,
            object: "tokens".to_owned(),
            pin: Reference::File("/etc/certbind/pin".into()),
        };
        let query = "module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:pin";
        assert_eq!(parse(&format!("token=prod%3B%20signing;object=tokens?{query}")), Ok(expected.clone()));
        assert_eq!(parse(&format!("object=tokens;type=private;token=prod%3b%20signing?{query}")), Ok(expected.clone()));
        let with_serial = ModuleUri { serial: Some("0a1b".to_owned()), ..expected };
        assert_eq!(parse(&format!("serial=0a1b;token=prod%3B signing;object=tokens?{query}")), Ok(with_serial));
        let other = parse("token=t;object=o?pin-source=env%3APIN&module-path=/m.so").unwrap();
        assert_eq!(other.pin, Reference::Environment("PIN".to_owned()));
    }

    #[test]
    fn rfc7512_2_3_what_would_be_passed_over_is_refused() {
        const GOOD: &str = "token=t;object=o?module-path=/m.so&pin-source=file:p";
        assert!(parse(GOOD).is_ok());
        let missing = |name| ModuleUriFault::Missing { name };
        let attribute = |name: &str| ModuleUriFault::Attribute { name: name.to_owned() };
        for (from, to, fault) in [
            ("token=t;", "", missing("token")),
            ("object=o", "object=", missing("object")),
            ("module-path=/m.so&", "", missing("module-path")),
            ("&pin-source=file:p", "", missing("pin-source")),
            ("/m.so", "m.so", ModuleUriFault::ModulePath),
            ("pin-source=file:p", "pin-value=1234", ModuleUriFault::PinValue),
            ("file:p", "|/bin/sh", ModuleUriFault::Pin(ReferenceFault::Scheme)),
            ("file:p", "p", ModuleUriFault::Pin(ReferenceFault::Scheme)),
            ("object=o", "object=o;id=%01", ModuleUriFault::Id),
            ("token=t", "token=t;token=u", ModuleUriFault::Twice { name: "token" }),
            ("token=t", "token=t;slot-id=1", attribute("slot-id")),
            ("token=t", "token=t;type=public", attribute("type")),
            ("token=t", "token=t;module-path=/m.so", attribute("module-path")),
            ("/m.so", "/m.so&object=o", attribute("object")),
            ("token=t", "token=%", ModuleUriFault::Escape),
            ("token=t", "token=%4", ModuleUriFault::Escape),
            ("token=t", "token=%+4", ModuleUriFault::Escape),
            ("token=t", "token=%ff", ModuleUriFault::Escape),
            ("token=t", "token=%00", ModuleUriFault::Escape),
        ] {
            assert_eq!(parse(&GOOD.replacen(from, to, 1)), Err(fault), "{to}");
        }
    }
}
