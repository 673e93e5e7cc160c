//! The query of a request to which revocations it asks for, and from where on.

use hyper::Request;

use super::super::problem::Problem;
use super::super::query::{self, DEFAULT_LIMIT};
use crate::revocation::{Revocation, Revoked, RevokedId};
use certbind_proto::thumbprint::Thumbprint;

/// Which revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) limit: usize,
    /// Those behind this one.
    pub(super) after: Option<(Revoked, RevokedId)>,
    pub(super) kind: Option<Revoked>,
}

impl Listing {
    /// Reads a query.
    ///
    /// # Errors
    /// The parameter that is unknown, repeated or malformed.
    pub(super) fn of<B>(request: &Request<B>) -> Result<Self, Problem> {
        let mut listing = Self { limit: DEFAULT_LIMIT, after: None, kind: None };
        query::each(request, &["cursor", "kind", "limit"], &[], |name, value| listing.take(name, &value))?;
        Ok(listing)
    }

    fn take(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "cursor" => self.after = Some(read_cursor(value)?),
            "kind" => self.kind = Some(Revoked::named(value)?),
            _ => self.limit = query::read_limit(value)?,
        }
        Some(())
    }
}

/// Where the page behind this revocation begins.
pub(super) fn cursor(last: &Revocation) -> String {
    let id = Thumbprint::from_bytes(*last.id.as_bytes());
    query::cursor(&format!("{} {id}", last.what.as_str()))
}

fn read_cursor(cursor: &str) -> Option<(Revoked, RevokedId)> {
    let text = query::read_cursor(cursor)?;
    let (what, id) = text.split_once(' ')?;
    Some((Revoked::named(what)?, RevokedId::of_certificate(&Thumbprint::parse(id).ok()?)))
}

#[cfg(test)]
mod tests {
    use certbind_proto::time::Timestamp;

    use super::*;

    fn read(query: &str) -> Result<Listing, Problem> {
        Listing::of(&Request::builder().uri(format!("/admin/v1/revocations?{query}")).body(()).unwrap())
    }

    #[test]
    fn a_query_is_read_or_refused_for_one_parameter() {
        let usual = Listing { limit: DEFAULT_LIMIT, after: None, kind: None };
        assert_eq!(read(""), Ok(usual));
        assert_eq!(read("limit=7&kind=client"), Ok(Listing { limit: 7, kind: Some(Revoked::Client), ..usual }));
        let (now, id) = (Timestamp::from_unix(0), RevokedId::of_client("a"));
        let last = Revocation { what: Revoked::Token, id, revoked: now, keep_until: now };
        let after = Some((Revoked::Token, id));
        assert_eq!(read(&format!("cursor={}", cursor(&last))), Ok(Listing { after, ..usual }));
        for (query, parameter) in [
            ("limit=0", Some("limit")),
            ("limit=1001", Some("limit")),
            ("kind=key", Some("kind")),
            ("kind=client&kind=client", Some("kind")),
            ("cursor=abc", Some("cursor")),
            ("cursor=", Some("cursor")),
            ("state=active", None),
        ] {
            assert_eq!(read(query), Err(Problem::QueryMalformed(parameter)), "{query}");
        }
    }
}
