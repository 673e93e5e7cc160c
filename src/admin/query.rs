//! The query of a request to what it asks for: each parameter known, well-formed, and there once at most.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certbind_proto::client::{AuthMethod, Client, State};
use hyper::Request;

use super::operation::decode;
use super::problem::Problem;
use super::resource::Source;

/// The most clients of a page, and how many there are unless somebody says.
pub(super) const MAX_LIMIT: usize = 1000;
pub(super) const DEFAULT_LIMIT: usize = 100;

/// Which clients, and from where on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) limit: usize,
    /// Those behind this identifier.
    pub(super) after: Option<String>,
    state: Option<State>,
    method: Option<AuthMethod>,
    source: Option<Source>,
    labels: Vec<(String, String)>,
}

impl Listing {
    /// Reads a query.
    ///
    /// # Errors
    /// The parameter that is unknown, repeated or malformed.
    pub(super) fn of<B>(request: &Request<B>) -> Result<Self, Problem> {
        let mut listing = Self { limit: DEFAULT_LIMIT, ..Self::default() };
        let known = ["cursor", "label", "limit", "method", "source", "state"];
        each(request, &known, &["label"], |name, value| listing.take(name, &value))?;
        Ok(listing)
    }

    fn take(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "cursor" => self.after = Some(read_cursor(value)?),
            "label" => {
                let (name, value) = value.split_once('=')?;
                self.labels.push((name.to_owned(), value.to_owned()));
            }
            "limit" => self.limit = read_limit(value)?,
            "method" => self.method = Some(AuthMethod::parse(value)?),
            "source" => self.source = Some(Source::ALL.into_iter().find(|source| source.as_str() == value)?),
            _ => {
                self.state = Some(match value {
                    "active" => State::Active,
                    "disabled" => State::Disabled,
                    _ => return None,
                });
            }
        }
        Some(())
    }

    /// Whether this client is asked for. One that cannot be read has neither method nor label.
    pub(super) fn wants(&self, source: Source, client: Option<&Client>) -> bool {
        let fits = |asked: bool, fits: &dyn Fn(&Client) -> bool| !asked || client.is_some_and(fits);
        self.source.is_none_or(|asked| asked == source)
            && fits(self.state.is_some(), &|client| self.state == Some(client.state))
            && fits(self.method.is_some(), &|client| self.method == Some(client.method.name()))
            && fits(!self.labels.is_empty(), &|client| {
                self.labels.iter().all(|(name, value)| client.labels.get(name) == Some(value))
            })
    }
}

/// Gives each parameter to `take`. One that is not `known` is refused, and so is one that is there twice and may not be
/// `repeated`.
///
/// # Errors
/// The parameter that is unknown, repeated, or not taken.
pub(super) fn each<B>(
    request: &Request<B>,
    known: &[&'static str],
    repeated: &[&str],
    mut take: impl FnMut(&'static str, String) -> Option<()>,
) -> Result<(), Problem> {
    let mut seen = Vec::new();
    for (name, value) in parameters(request.uri().query())? {
        let name = known.iter().copied().find(|known| *known == name).ok_or(Problem::QueryMalformed(None))?;
        if seen.contains(&name) && !repeated.contains(&name) {
            return Err(Problem::QueryMalformed(Some(name)));
        }
        seen.push(name);
        take(name, value).ok_or(Problem::QueryMalformed(Some(name)))?;
    }
    Ok(())
}

/// How many there may be in a page.
pub(super) fn read_limit(value: &str) -> Option<usize> {
    value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit))
}

/// Where the page behind this client begins. What it is made of is nobody's business.
pub(super) fn cursor(last: &str) -> String {
    URL_SAFE_NO_PAD.encode(last)
}

/// The path and query of the next page: the same question with another cursor.
pub(super) fn next<B>(request: &Request<B>, cursor: &str) -> String {
    let uri = request.uri();
    let kept =
        uri.query().unwrap_or_default().split('&').filter(|part| !part.is_empty() && !part.starts_with("cursor="));
    let query: Vec<String> = kept.map(str::to_owned).chain([format!("cursor={cursor}")]).collect();
    format!("{}?{}", uri.path(), query.join("&"))
}

/// What a cursor was made of. An empty one is none: a caller that lost it must not begin anew and never end.
pub(super) fn read_cursor(cursor: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok().filter(|last| !last.is_empty())
}

/// Whether something is to be done, or only to be said what that would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    Change,
    DryRun,
}

impl Meant {
    /// Reads `dry_run=true` or `dry_run=false`. What is anything else must not pass for either.
    ///
    /// # Errors
    /// [`Problem::QueryMalformed`].
    pub(super) fn of<B>(request: &Request<B>) -> Result<Self, Problem> {
        let parameters = parameters(request.uri().query())?;
        match parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>().as_slice() {
            [] | [("dry_run", "false")] => Ok(Self::Change),
            [("dry_run", "true")] => Ok(Self::DryRun),
            parameters if parameters.iter().all(|(name, _)| *name == "dry_run") => {
                Err(Problem::QueryMalformed(Some("dry_run")))
            }
            _ => Err(Problem::QueryMalformed(None)),
        }
    }
}

/// Fails when there is a query where none belongs.
///
/// # Errors
/// [`Problem::QueryMalformed`].
pub(super) fn none<B>(request: &Request<B>) -> Result<(), Problem> {
    if request.uri().query().is_some() { Err(Problem::QueryMalformed(None)) } else { Ok(()) }
}

pub(super) fn parameters(query: Option<&str>) -> Result<Vec<(String, String)>, Problem> {
    let decode = |text: &str| decode(&text.replace('+', " ")).ok_or(Problem::QueryMalformed(None));
    let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Listing, Problem> {
        Listing::of(&Request::builder().uri(format!("/admin/v1/clients?{query}")).body(()).unwrap())
    }

    #[test]
    fn a_query_is_read_or_refused_for_one_parameter() {
        let usual = || Listing { limit: DEFAULT_LIMIT, ..Listing::default() };
        assert_eq!(read(""), Ok(usual()));
        assert_eq!(read("limit=7&cursor=YS9i"), Ok(Listing { limit: 7, after: Some("a/b".into()), ..usual() }));
        assert_eq!(read("state=disabled"), Ok(Listing { state: Some(State::Disabled), ..usual() }));
        assert_eq!(read("method=private_key_jwt"), Ok(Listing { method: Some(AuthMethod::PrivateKeyJwt), ..usual() }));
        assert_eq!(read("source=file"), Ok(Listing { source: Some(Source::File), ..usual() }));
        let labels = vec![("a b".to_owned(), "c=d".to_owned()), ("e".to_owned(), String::new())];
        assert_eq!(read("label=a+b%3Dc=d&label=e%3d"), Ok(Listing { labels, ..usual() }));
        for (query, parameter) in [
            ("limit=0", Some("limit")),
            ("limit=1001", Some("limit")),
            ("limit=-1", Some("limit")),
            ("limit=", Some("limit")),
            ("limit=1&limit=2", Some("limit")),
            ("cursor=", Some("cursor")),
            ("cursor=***", Some("cursor")),
            ("cursor=_w", Some("cursor")),
            ("state=gone", Some("state")),
            ("method=none", Some("method")),
            ("source=ldap", Some("source")),
            ("label=a", Some("label")),
            ("page=2", None),
            ("limit=%zz", None),
        ] {
            assert_eq!(read(query), Err(Problem::QueryMalformed(parameter)), "{query}");
        }
    }

    #[test]
    fn what_is_no_dry_run_is_said_to_be_none() {
        let read = |query: &str| Meant::of(&Request::builder().uri(format!("/x{query}")).body(()).unwrap());
        for (query, expected) in [
            ("", Ok(Meant::Change)),
            ("?", Ok(Meant::Change)),
            ("?dry_run=false", Ok(Meant::Change)),
            ("?dry_run=true", Ok(Meant::DryRun)),
            ("?dry_run", Err(Problem::QueryMalformed(Some("dry_run")))),
            ("?dry_run=1", Err(Problem::QueryMalformed(Some("dry_run")))),
            ("?dry_run=true&dry_run=false", Err(Problem::QueryMalformed(Some("dry_run")))),
            ("?dryrun=true", Err(Problem::QueryMalformed(None))),
        ] {
            assert_eq!(read(query), expected, "{query}");
        }
    }

    #[test]
    fn a_cursor_is_read_as_it_was_made() {
        for client_id in ["billing", "a b/c?d", "~"] {
            assert_eq!(read_cursor(&cursor(client_id)).as_deref(), Some(client_id));
        }
    }
}
