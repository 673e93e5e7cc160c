//! Requests to an API: a token, the client that shows its certificate, and once more if the token is refused before its end
//! (OAuth 2.1 §1.4).

use std::sync::Arc;

use certbind_proto::error::ErrorCode;
use hyper::StatusCode;
use hyper::header::{HeaderMap, WWW_AUTHENTICATE};

use crate::{AccessToken, Clients, Error, TokenSource};

/// A source of tokens and the HTTP clients that present them. Share it; it has no state of its own.
#[derive(Debug)]
pub struct Api<C> {
    clients: Clients<C>,
    source: TokenSource,
}

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError<E> {
    /// The HTTP client has none.
    #[error("the request was not answered")]
    Http(#[source] E),
    /// There is no token to send.
    #[error("there is no token for the request")]
    Token(#[source] Error),
}

impl<C> Api<C> {
    /// With these tokens and clients.
    #[must_use]
    pub const fn new(source: TokenSource, clients: Clients<C>) -> Self {
        Self { clients, source }
    }

    /// Where the tokens come from.
    #[must_use]
    pub const fn source(&self) -> &TokenSource {
        &self.source
    }

    /// Sends a request that can be sent again: `send` gets a client and a token, puts
    /// [`authorization`](AccessToken::authorization) into its request and sends it with that client.
    ///
    /// If `is_refused` says that the answer refuses the token ([`is_invalid_token`]), another token is fetched and the
    /// request sent once more with that; never for any other answer, and never a third time. When no other token is to
    /// be had, the answer is the refusal.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call<R, E, F>(
        &self,
        send: impl Fn(Arc<C>, Arc<AccessToken>) -> F,
        is_refused: impl Fn(&R) -> bool,
    ) -> Result<R, CallError<E>>
    where
        F: Future<Output = Result<R, E>>,
    {
        let (token, answer) = self.send(&send).await?;
        if !is_refused(&answer) {
            return Ok(answer);
        }
        let Ok(token) = self.source.refetch(&token).await else { return Ok(answer) };
        drop(answer);
        send(self.clients.for_token(&token), token).await.map_err(CallError::Http)
    }

    /// Sends a request that cannot be sent again, for example because its body is a stream. A token that was refused is
    /// not used for the next one.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call_once<R, E, F>(
        &self,
        send: impl FnOnce(Arc<C>, Arc<AccessToken>) -> F,
        is_refused: impl Fn(&R) -> bool,
    ) -> Result<R, CallError<E>>
    where
        F: Future<Output = Result<R, E>>,
    {
        let (token, answer) = self.send(send).await?;
        if is_refused(&answer) {
            // A second refusal in a row leaves the token in place, as more of them would not help.
            let _ = self.source.reject(&token);
        }
        Ok(answer)
    }

    async fn send<R, E, F>(
        &self,
        send: impl FnOnce(Arc<C>, Arc<AccessToken>) -> F,
    ) -> Result<(Arc<AccessToken>, R), CallError<E>>
    where
        F: Future<Output = Result<R, E>>,
    {
        let token = self.source.token().await.map_err(CallError::Token)?;
        let answer = send(self.clients.for_token(&token), token.clone()).await.map_err(CallError::Http)?;
        Ok((token, answer))
    }
}

/// Whether an answer refuses the token it came with: 401 and `error="invalid_token"` for the scheme Bearer (RFC 6750 §3.1).
#[must_use]
pub fn is_invalid_token(status: StatusCode, headers: &HeaderMap) -> bool {
    let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    status == StatusCode::UNAUTHORIZED && challenges.into_iter().any(challenges_invalid_token)
}

/// RFC 9110 §11.6.1: a list of challenges, each a scheme and a list of parameters, all parted by the same comma.
fn challenges_invalid_token(list: &str) -> bool {
    let mut is_bearer = false;
    for item in parted(list) {
        let parameter = match item.split_once([' ', '\t']) {
            Some((scheme, rest)) if !scheme.contains('=') && !rest.trim_start().starts_with('=') => {
                is_bearer = scheme.eq_ignore_ascii_case("Bearer");
                rest
            }
            None if !item.contains('=') => {
                is_bearer = item.eq_ignore_ascii_case("Bearer");
                continue;
            }
            _ => item,
        };
        let Some((name, value)) = parameter.split_once('=') else { continue };
        if is_bearer
            && name.trim().eq_ignore_ascii_case("error")
            && value.trim().trim_matches('"') == ErrorCode::InvalidToken.as_str()
        {
            return true;
        }
    }
    false
}

/// The items between commas that stand in no quotation marks.
fn parted(list: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let items = list.split(move |c| {
        let is_end = c == ',' && !is_quoted;
        is_quoted ^= c == '"' && !is_escaped;
        is_escaped = is_quoted && c == '\\' && !is_escaped;
        is_end
    });
    items.map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6750_3_1_a_refused_token_is_told_from_every_other_answer() {
        for (status, challenges, expected) in [
            (401, &[r#"Bearer error="invalid_token""#][..], true),
            (401, &[r#"Bearer realm="a, b", error="invalid_token", scope="x""#], true),
            (401, &["bearer ERROR=invalid_token"], true),
            (401, &[r#"Bearer error = "invalid_token""#], true),
            (401, &[r#"Basic realm="x", Bearer realm="y",error="invalid_token""#], true),
            (401, &["Negotiate abc==", r#"Bearer error="invalid_token""#], true),
            (401, &[r#"Bearer, Bearer realm="q\"uoted,", error="invalid_token""#], true),
            (401, &[], false),
            (401, &["Bearer"], false),
            (401, &[r#"Bearer realm="x""#], false),
            (401, &[r#"Bearer error="invalid_request""#], false),
            (401, &[r#"Bearer error="insufficient_scope""#], false),
            (401, &[r#"DPoP error="invalid_token""#], false),
            (401, &[r#"Bearer realm="x", DPoP error="invalid_token""#], false),
            (401, &[r#"Bearer realm="error=invalid_token""#], false),
            (401, &[r#"Bearer realm=", error=invalid_token""#], false),
            (401, &[r#"Bearer error_description="x", my_error="invalid_token""#], false),
            (200, &[r#"Bearer error="invalid_token""#], false),
            (400, &[r#"Bearer error="invalid_token""#], false),
            (403, &[r#"Bearer error="invalid_token""#], false),
            (500, &[r#"Bearer error="invalid_token""#], false),
        ] {
            let mut headers = HeaderMap::new();
            for challenge in challenges {
                headers.append(WWW_AUTHENTICATE, challenge.parse().expect("a value"));
            }
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(is_invalid_token(status, &headers), expected, "{status} {challenges:?}");
        }
    }
}
