//! Builds the token request (RFC 6749 §4.4.2; RFC 7521 §4.2; RFC 8707 §2). No I/O.

use std::collections::BTreeSet;

use bytes::Bytes;
use certbind_proto::assertion::CLIENT_ASSERTION_TYPE;
use certbind_proto::request::{CLIENT_CREDENTIALS, Form};
use certbind_proto::resource::Resource;
use certbind_proto::scope::Scope;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Uri};

/// The parameters of a `client_credentials` request.
///
/// `client_id` is always there: mutual TLS needs it (RFC 8705 §2), and beside an assertion it names the same client.
pub(crate) fn form(client_id: &str, scope: &Scope, resources: &BTreeSet<Resource>, assertion: Option<&str>) -> Form {
    let mut form = Form::default().with("grant_type", CLIENT_CREDENTIALS).with("client_id", client_id);
    if !scope.is_empty() {
        form = form.with("scope", &scope.to_string());
    }
    for resource in resources {
        form = form.with("resource", resource.as_str());
    }
    match assertion {
        Some(assertion) => {
            form.with("client_assertion_type", CLIENT_ASSERTION_TYPE).with("client_assertion", assertion)
        }
        None => form,
    }
}

/// The form on its way to the token endpoint: a POST with everything in the body, nothing in the URL (RFC 6749 §2.3.1).
pub(crate) fn post(endpoint: Uri, form: &Form) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from(form.encode()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = endpoint;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(texts: &[&str]) -> BTreeSet<Resource> {
        texts.iter().map(|text| text.parse().expect("a resource")).collect()
    }

    #[test]
    fn rfc6749_4_4_2_the_parameters_are_those_of_the_grant() {
        let scope: Scope = "b a".parse().expect("a scope");
        let both = resources(&["https://b.example/", "https://a.example/"]);
        for (form, expected) in [
            (form("c 1", &Scope::default(), &resources(&[]), None), "grant_type=client_credentials&client_id=c+1"),
            (
                form("c", &scope, &both, None),
                "grant_type=client_credentials&client_id=c&scope=a+b\
                 &resource=https%3A%2F%2Fa.example%2F&resource=https%3A%2F%2Fb.example%2F",
            ),
            (
                form("c", &Scope::default(), &resources(&[]), Some("x.y.z")),
                "grant_type=client_credentials&client_id=c\
                 &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
                 &client_assertion=x.y.z",
            ),
        ] {
            assert_eq!(form.encode(), expected);
        }
    }

    #[test]
    fn rfc6749_2_3_1_nothing_of_it_stands_in_the_url() {
        let form = form("c", &Scope::default(), &resources(&[]), Some("x.y.z"));
        let request = post("https://as.example/token".parse().expect("a URL"), &form);
        assert_eq!((request.method(), request.uri().query()), (&Method::POST, None));
        assert_eq!(request.headers()[CONTENT_TYPE], "application/x-www-form-urlencoded");
        assert_eq!(Form::parse(request.body()).as_ref(), Ok(&form));
    }
}
