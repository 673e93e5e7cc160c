//! Outcome to status, headers and JSON: the one place that words an error for a peer (RFC 6749 §5).
//!
//! A peer gets a registered code and a constant sentence. Nothing it sent comes back, and nothing tells an unknown
//! client from a wrong certificate or key.

use bytes::Bytes;
use certbind_proto::error::ErrorCode;
use certbind_proto::forwarded::ForwardedFault;
use certbind_proto::introspection;
use certbind_proto::request::FormFault;
use certbind_proto::response::{ErrorResponse, TOKEN_TYPE, TokenResponse};
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::Reply;
use crate::authn::AuthnFault;
use crate::flow::{IntrospectFault, Issued, Refusal, RequestFault, RevokeFault, Told};
use crate::proxy::SaidFault;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What is said of a certificate in a header that is not believed here. `certbind doctor --probe` knows both sentences.
pub const ANOTHER_HEADER: &str = "A header forwards a client certificate that is not the one in which it is expected.";
/// What is said of one in the header that is, when it cannot be.
pub const NOT_ACCEPTED: &str = "The forwarded client certificate is not accepted.";

/// What is said of a client that is unknown, or does not prove itself. `certbind doctor --probe` knows certbind by it.
pub const NOT_AUTHENTICATED: &str = "Client authentication failed.";

/// Room for a response with a token of ES256, in bytes.
const USUAL_BODY: usize = 1024;

/// How long a client waits before it asks again, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The answer to a token request.
pub(super) fn token(outcome: Result<Issued, Refusal>, request_id: &str) -> Reply {
    identified(outcome.map_or_else(|refusal| refused(&refusal), success), request_id)
}

/// The answer to a revocation request: nothing to read, for a client has no use for it (RFC 7009 §2.2).
pub(super) fn revocation(outcome: Result<(), Refusal>, request_id: &str) -> Reply {
    identified(outcome.map_or_else(|refusal| refused(&refusal), |()| nothing()), request_id)
}

/// The answer to an introspection request.
pub(super) fn introspection(outcome: Result<Told, Refusal>, request_id: &str) -> Reply {
    let reply = match outcome {
        Ok(Told::Plain(said)) => json(StatusCode::OK, &said.to_members()),
        Ok(Told::Signed(jwt)) => of_type(introspection::SIGNED, jwt),
        Err(refusal) => challenged(refused(&refusal), &refusal),
    };
    identified(reply, request_id)
}

/// Whoever fails to prove himself gets 401 here (RFC 7662 §2.3), and a 401 has a challenge (RFC 9110 §15.5.2). No
/// registered scheme stands for the methods that work here, so the challenge names what is missing.
fn challenged(mut reply: Reply, refusal: &Refusal) -> Reply {
    if matches!(refusal, Refusal::Authn(_)) && refusal.code() == ErrorCode::InvalidClient {
        *reply.status_mut() = StatusCode::UNAUTHORIZED;
        let challenge = match is_authorization_header(refusal) {
            true => "Basic realm=\"introspection endpoint\"",
            false => "OAuth-Client-Authentication realm=\"introspection endpoint\"",
        };
        reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    reply
}

fn identified(mut reply: Reply, request_id: &str) -> Reply {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        reply.headers_mut().insert(REQUEST_ID, value);
    }
    reply
}

fn nothing() -> Reply {
    let mut reply = Response::new(Full::default());
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    reply
}

fn success(issued: Issued) -> Reply {
    let scope = (!issued.scope.is_empty()).then(|| issued.scope.to_string());
    json(
        StatusCode::OK,
        &TokenResponse {
            access_token: issued.token,
            token_type: TOKEN_TYPE.to_owned(),
            expires_in: Some(issued.expires_in),
            scope,
        },
    )
}

fn refused(refusal: &Refusal) -> Reply {
    let mut reply = json(status(refusal), &ErrorResponse::new(refusal.code(), description(refusal)));
    let headers = reply.headers_mut();
    if is_authorization_header(refusal) {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"token endpoint\""));
    }
    if refusal.code() == ErrorCode::TemporarilyUnavailable {
        headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    if matches!(refusal, Refusal::Request(RequestFault::Caller(_))) { closing(reply) } else { reply }
}

/// A client that used the `Authorization` header is answered in kind (RFC 6749 §5.2); all others get 400, as a 401
/// without a challenge is not allowed (RFC 9110 §15.5.2).
fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Request(RequestFault::BodyTooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Request(RequestFault::BodyTooSlow) => StatusCode::REQUEST_TIMEOUT,
        Refusal::Request(RequestFault::Caller(_)) => StatusCode::FORBIDDEN,
        Refusal::FailedTooOften | Refusal::AskedTooOften | Refusal::Revoke(RevokeFault::TooOften) => {
            StatusCode::TOO_MANY_REQUESTS
        }
        refusal if is_authorization_header(refusal) => StatusCode::UNAUTHORIZED,
        refusal => StatusCode::from_u16(refusal.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn is_authorization_header(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Authn(AuthnFault::AuthorizationHeader))
}

/// A constant sentence for each code: what the client may know, and no more.
fn description(refusal: &Refusal) -> &'static str {
    match (refusal, refusal.code()) {
        (Refusal::FailedTooOften | Refusal::AskedTooOften | Refusal::Revoke(RevokeFault::TooOften), _) => {
            "Too many requests. Ask again later."
        }
        (Refusal::Mint(_), ErrorCode::InvalidRequest) => {
            "A token of this client needs a valid client certificate on the connection."
        }
        (Refusal::Request(fault), _) => unreadable(*fault),
        (Refusal::Grant(_), ErrorCode::InvalidRequest) => "The grant_type is missing.",
        (Refusal::Introspect(IntrospectFault::NobodyAsks), _) => "A signed answer needs a client that asks for it.",
        (Refusal::Introspect(_) | Refusal::Revoke(_), ErrorCode::InvalidRequest) => "The token is missing.",
        (Refusal::Revoke(_), ErrorCode::UnauthorizedClient) => "The token was issued to another client.",
        (_, ErrorCode::InvalidRequest) => "The request uses two client authentication methods.",
        (_, ErrorCode::InvalidClient) => NOT_AUTHENTICATED,
        (_, ErrorCode::UnauthorizedClient) => "The client may not use this grant.",
        (_, ErrorCode::UnsupportedGrantType) => "This server supports the client_credentials grant.",
        (_, ErrorCode::InvalidScope) => {
            "The scope is malformed, unknown or not permitted for this client and resource."
        }
        (_, ErrorCode::InvalidTarget) => "The resource is malformed, unknown or not permitted for this client.",
        (_, ErrorCode::TemporarilyUnavailable) => "The server cannot answer at present. Ask again later.",
        (_, ErrorCode::ServerError | ErrorCode::InvalidToken | ErrorCode::InsufficientScope) => "The server failed.",
    }
}

/// What is wrong with the request as such, which whoever sent it knows anyway.
const fn unreadable(fault: RequestFault) -> &'static str {
    match fault {
        RequestFault::BodyTooSlow => "The body did not arrive in time.",
        RequestFault::BodyTooLarge => "The body is too large.",
        RequestFault::BodyUnreadable => "The body could not be read.",
        RequestFault::Caller(_) => "This listener answers a proxy alone.",
        RequestFault::ContentType => "The body must be application/x-www-form-urlencoded in UTF-8.",
        RequestFault::Form(FormFault::Repeated) => "A parameter is repeated.",
        RequestFault::Form(FormFault::BrokenEscape | FormFault::NotUtf8 | FormFault::TooMany) => {
            "The form is malformed."
        }
        RequestFault::Forwarded(SaidFault::Forwarded(ForwardedFault::OtherHeader)) => ANOTHER_HEADER,
        RequestFault::Forwarded(_) => NOT_ACCEPTED,
        RequestFault::Query => "Parameters belong in the body, not in the URL.",
    }
}

/// 405 with the methods that work (RFC 9110 §15.5.6).
pub(super) fn method_not_allowed(allow: &'static str) -> Reply {
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    reply
}

/// 404.
pub(super) fn not_found() -> Reply {
    text(StatusCode::NOT_FOUND, "not found\n")
}

/// 403: whoever asks is not the proxy that he should be.
pub(super) fn forbidden() -> Reply {
    closing(text(StatusCode::FORBIDDEN, "this listener answers a proxy alone\n"))
}

/// Whoever is not the proxy shall not hold what the proxy needs.
fn closing(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}

/// 421: this connection is not the one for that host (RFC 9110 §15.5.20).
pub(super) fn misdirected() -> Reply {
    text(StatusCode::MISDIRECTED_REQUEST, "this connection does not serve that host\n")
}

/// An answer of this media type that nobody keeps.
pub(super) fn of_type(content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    no_store(StatusCode::OK, content_type, body.into())
}

/// A plain answer that nobody keeps.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    no_store(status, "text/plain; charset=utf-8", body.into())
}

fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    let mut bytes = Vec::with_capacity(USUAL_BODY);
    // Only a map with keys that are no strings could fail.
    let _ = serde_json::to_writer(&mut bytes, body);
    let mut reply = no_store(status, "application/json", bytes.into());
    reply.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    reply
}

fn no_store(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

#[cfg(test)]
mod tests {
    use certbind_proto::assertion::AssertionFault;
    use certbind_proto::jws::JwsFault;
    use certbind_proto::scope::Scope;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::audit::AuditUnavailable;
    use crate::authn::ChainFault;
    use crate::grant::GrantFault;
    use crate::mint::MintFault;
    use crate::store::StoreError;

    fn issued() -> Issued {
        Issued { token: "t".to_owned(), expires_in: 300, scope: Scope::default() }
    }

    /// Status, headers and body, in full.
    async fn whole(reply: Reply) -> (StatusCode, hyper::HeaderMap, Bytes) {
        let (head, body) = reply.into_parts();
        (head.status, head.headers, body.collect().await.unwrap().to_bytes())
    }

    #[test]
    fn rfc6749_5_1_no_answer_of_the_token_endpoint_is_kept() {
        for outcome in [
            Ok(issued()),
            Err(AuthnFault::ClientUnknown.into()),
            Err(AuthnFault::AuthorizationHeader.into()),
            Err(AuthnFault::Store(StoreError::Busy).into()),
            Err(GrantFault::ScopeNotAllowed.into()),
            Err(MintFault::Signing.into()),
            Err(RequestFault::BodyTooLarge.into()),
            Err(AuditUnavailable.into()),
            Err(Refusal::AskedTooOften),
        ] {
            let case = format!("{outcome:?}");
            let reply = token(outcome, "id");
            assert_eq!(reply.headers()[CACHE_CONTROL], "no-store", "{case}");
            assert_eq!(reply.headers()[PRAGMA], "no-cache", "{case}");
            assert_eq!(reply.headers()[CONTENT_TYPE], "application/json", "{case}");
            assert_eq!(reply.headers()[REQUEST_ID], "id", "{case}");
        }
    }

    #[tokio::test]
    async fn rfc6749_5_2_whatever_fails_in_authentication_is_answered_with_the_same_bytes() {
        let unknown = whole(token(Err(AuthnFault::ClientUnknown.into()), "id")).await;
        assert_eq!(unknown.0, StatusCode::BAD_REQUEST);
        for fault in [
            AuthnFault::Assertion(AssertionFault::AudienceWrong),
            AuthnFault::Assertion(AssertionFault::Jws(JwsFault::KeyUnknown)),
            AuthnFault::AssertionReplayed,
            AuthnFault::AssertionType,
            AuthnFault::Certificate(ChainFault::Missing),
            AuthnFault::Certificate(ChainFault::Revoked),
            AuthnFault::Certificate(ChainFault::ThumbprintUnknown),
            AuthnFault::Certificate(ChainFault::Untrusted),
            AuthnFault::ClientDisabled,
            AuthnFault::ClientIdMismatch,
            AuthnFault::ClientIdMissing,
            AuthnFault::MethodNotRegistered,
            AuthnFault::MethodUnsupported,
            AuthnFault::TwoMethodsWithAssertion,
        ] {
            let case = format!("{fault:?}");
            assert_eq!(whole(token(Err(fault.into()), "id")).await, unknown, "{case}");
        }
    }

    #[test]
    fn rfc9110_15_5_2_a_401_has_a_challenge_and_no_other_answer_has() {
        for (refusal, status) in [
            (Refusal::from(AuthnFault::AuthorizationHeader), 401),
            (AuthnFault::ClientUnknown.into(), 400),
            (AuthnFault::TwoMethods.into(), 400),
            (GrantFault::GrantTypeUnsupported.into(), 400),
            (RequestFault::BodyTooLarge.into(), 413),
            (RequestFault::BodyTooSlow.into(), 408),
            (Refusal::FailedTooOften, 429),
            (AuthnFault::Store(StoreError::Busy).into(), 503),
            (AuditUnavailable.into(), 503),
            (MintFault::KeysOutdated.into(), 503),
            (MintFault::Signing.into(), 500),
        ] {
            let reply = refused(&refusal);
            assert_eq!(reply.status().as_u16(), status, "{refusal:?}");
            assert_eq!(reply.headers().contains_key(WWW_AUTHENTICATE), status == 401, "{refusal:?}");
        }
    }
}
