//! What is asked from outside, over which connection, and what an answer came to.

use std::time::Duration;

use bytes::Bytes;
use certbind_https::{FetchError, Fetcher};
use certbind_verify::{NOT_ALLOWED, NOT_GOOD};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde_json::Value;

use crate::cli::Misused;
use crate::cli::admin_api::CallError;
use crate::http::TOKEN_PATH;
use crate::http::reply::NOT_AUTHENTICATED;

/// How often a server may say that it is asked too often.
const MOST_WAITS: usize = 30;

/// A token that no issuer made. What is said of it shows who judges tokens there.
const NO_TOKEN: &str = "certbind-probe";

/// A header that the guard refuses for its name, with 403 and no challenge, before it looks at anything else.
const CONTROL: HeaderName = HeaderName::from_static("x-http-method-override");

/// What is asked, and what its answer without any certificate has to be.
pub(super) enum Target {
    /// The token endpoint, by a client that nobody knows.
    Token(Uri),
    /// A resource behind the guard, with a token that is not good there.
    Resource(Uri, HeaderValue),
}

/// What an answer came to, as far as it tells one from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) status: StatusCode,
    pub(super) error: String,
    pub(super) description: String,
    challenge: String,
}

/// What was answered, and the id by which the audit log knows it.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) told: Told,
    pub(super) request_id: Option<String>,
}

/// The answers to the same request over four connections, of a server that may be many: none where the handshake was refused.
pub(super) type Answers = [Option<Answer>; 4];

impl Target {
    /// With the token that gets past whoever looks at tokens before the guard does.
    pub(super) fn of(url: &str, token: Option<&str>) -> anyhow::Result<Self> {
        let wrong = || Misused(format!("--probe: {url} is no https URL without query"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("https") || uri.query().is_some() {
            return Err(wrong().into());
        }
        Ok(match uri.path() {
            "" | "/" => Self::Token(format!("{}{TOKEN_PATH}", url.trim_end_matches('/')).parse().map_err(|_| wrong())?),
            path if path.ends_with(TOKEN_PATH) => Self::Token(uri),
            _ => {
                let bearer = format!("Bearer {}", token.unwrap_or(NO_TOKEN));
                let bearer = HeaderValue::from_str(&bearer);
                let mut bearer = bearer.map_err(|_| Misused("--token: this is no bearer token".to_owned()))?;
                bearer.set_sensitive(true);
                Self::Resource(uri, bearer)
            }
        })
    }

    fn request(&self, header: Option<(&HeaderName, &str)>) -> anyhow::Result<Request<Bytes>> {
        let mut request = match self {
            Self::Token(uri) => {
                let form = "grant_type=client_credentials&client_id=certbind-probe";
                let request = Request::builder().method(Method::POST).uri(uri);
                request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.into())?
            }
            Self::Resource(uri, bearer) => {
                Request::builder().uri(uri).header(AUTHORIZATION, bearer).body(Bytes::new())?
            }
        };
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, HeaderValue::from_str(value)?);
        }
        Ok(request)
    }

    /// Whether this is how certbind, and nobody else, refuses a client that shows nothing.
    fn is_plain(&self, told: &Told) -> bool {
        match self {
            Self::Token(_) => told.error == "invalid_client" && told.description == NOT_AUTHENTICATED,
            Self::Resource(..) => [NOT_GOOD, NOT_ALLOWED].iter().any(|words| told.challenge.contains(words)),
        }
    }

    /// The guard says 403 without a challenge to what it cannot read in one way; so may others.
    pub(super) fn is_the_guards(&self, told: &Told) -> bool {
        matches!(self, Self::Resource(..)) && told.status == StatusCode::FORBIDDEN && told.challenge.is_empty()
    }
}

/// A way to ask.
pub(super) struct Line<'p> {
    pub(super) fetcher: Fetcher,
    pub(super) target: &'p Target,
}

/// What is known of the other end of a line.
pub(super) enum Standing {
    /// certbind is there, and this is how it refuses a request without any header.
    Reached(Told),
    /// The handshake is refused.
    HandshakeRefused,
    /// Nothing shows that certbind is asked.
    Unshown(String),
}

impl Line<'_> {
    /// Asks without any header, and at a resource once more so that nobody but the guard refuses it.
    pub(super) async fn standing(&self) -> anyhow::Result<Standing> {
        let answers = self.ask(None).await?;
        if answers.iter().all(Option::is_none) {
            return Ok(Standing::HandshakeRefused);
        }
        let first = answers.iter().flatten().next().map(|answer| answer.told.clone());
        let strange = answers.iter().flatten().find(|answer| !self.target.is_plain(&answer.told));
        let plain = match (first, strange) {
            (Some(first), None) if all(&answers, |told| *told == first) => first,
            (_, None) => return Ok(Standing::Unshown("the same request is answered in several ways".to_owned())),
            (_, Some(strange)) => return Ok(Standing::Unshown(self.strange(&strange.told))),
        };
        if matches!(self.target, Target::Resource(..)) {
            let control = self.ask(Some((&CONTROL, "PATCH"))).await?;
            if !all(&control, |told| self.target.is_the_guards(told)) {
                let why = format!(
                    "nothing shows that the guard was asked: it answers {CONTROL} with 403 and no challenge, and that is not what came back"
                );
                return Ok(Standing::Unshown(why));
            }
        }
        Ok(Standing::Reached(plain))
    }

    fn strange(&self, told: &Told) -> String {
        let (status, error) = (told.status, &told.error);
        match self.target {
            Target::Token(_) => format!(
                "a request without any certificate in a header was answered with {status} {error}, which is not how certbind refuses a client \
                 that it does not know (invalid_client). If its reason in the audit log is proxy_unknown or proxy_certificate, certbind does \
                 not take whoever stands in between for its proxy; if it begins with forwarded_, the proxy sends a header with every request"
            ),
            Target::Resource(..) => format!(
                "nothing shows that the guard was asked: a token that is not good was answered with {status}, and not in the words of certbind. \
                 Where a gateway looks at tokens before it asks the guard, --token gets past it"
            ),
        }
    }

    /// Over four connections, at the same time.
    pub(super) async fn ask(&self, header: Option<(&HeaderName, &str)>) -> anyhow::Result<Answers> {
        let (a, b, c, d) =
            tokio::try_join!(self.once(header), self.once(header), self.once(header), self.once(header))?;
        Ok([a, b, c, d])
    }

    async fn once(&self, header: Option<(&HeaderName, &str)>) -> anyhow::Result<Option<Answer>> {
        for _ in 0..MOST_WAITS {
            let response = match self.fetcher.send(self.target.request(header)?).await {
                Err(FetchError::CertificateRefused(_)) => return Ok(None),
                sent => sent.map_err(|error| CallError::Unreachable(error.into()))?,
            };
            if response.status() != StatusCode::TOO_MANY_REQUESTS {
                let request_id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok());
                return Ok(Some(Answer { told: told(&response), request_id: request_id.map(str::to_owned) }));
            }
            let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            tokio::time::sleep(Duration::from_secs(seconds.unwrap_or(1).clamp(1, 5))).await;
        }
        anyhow::bail!("nothing can be told: the server says again and again that it is asked too often")
    }
}

/// Whether there are all answers, and each is so.
pub(super) fn all(answers: &Answers, is_so: impl Fn(&Told) -> bool) -> bool {
    answers.iter().all(|answer| answer.as_ref().is_some_and(|answer| is_so(&answer.told)))
}

fn told(response: &Response<Bytes>) -> Told {
    let body: Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter();
    Told {
        status: response.status(),
        error: text("error"),
        description: text("error_description"),
        challenge: challenges.map(|value| String::from_utf8_lossy(value.as_bytes())).collect::<Vec<_>>().join(", "),
    }
}
