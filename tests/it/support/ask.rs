//! Requests to the server: start from a good one, change one thing.

use certbind_devpki::Identity;
use certbind_proto::assertion::CLIENT_ASSERTION_TYPE;
use certbind_proto::request::{CLIENT_CREDENTIALS, Form};
use hyper::Method;

use super::{PKI, TOKEN};

/// One request, and the identity whose connection it goes over.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) certificate: Option<Identity>,
    form: Vec<(String, String)>,
    raw: Option<Vec<u8>>,
}

impl Ask {
    /// A token request of nobody, without a certificate.
    pub(crate) fn token() -> Self {
        Self {
            method: Method::POST,
            path: TOKEN.to_owned(),
            host: "auth.test".to_owned(),
            headers: vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())],
            certificate: None,
            form: vec![("grant_type".to_owned(), CLIENT_CREDENTIALS.to_owned())],
            raw: None,
        }
    }

    /// A client that shows its certificate and says who it is.
    pub(crate) fn by_certificate(client_id: &str, certificate: &Identity) -> Self {
        Self::token().with("client_id", client_id).over(certificate)
    }

    /// A client that signs, on a connection without a certificate.
    pub(crate) fn by_assertion(assertion: &str) -> Self {
        Self::token().with("client_assertion_type", CLIENT_ASSERTION_TYPE).with("client_assertion", assertion)
    }

    /// The good request of `tls_client_auth`.
    pub(crate) fn billing() -> Self {
        Self::by_certificate("billing", &PKI.billing.identity)
    }

    /// The good request of `self_signed_tls_client_auth`.
    pub(crate) fn ledger() -> Self {
        Self::by_certificate("ledger", &PKI.ledger.identity)
    }

    /// A good request for a document.
    pub(crate) fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), headers: Vec::new(), raw: Some(Vec::new()), ..Self::token() }
    }

    /// With one more parameter.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.form.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With another value of a parameter.
    pub(crate) fn set(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    /// Without a parameter.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.form.retain(|(other, _)| other != name);
        self
    }

    /// With these bytes behind the encoded form.
    pub(crate) fn raw_more(self, more: &str) -> Self {
        let body = self.encoded() + more;
        self.raw_body(body.as_bytes())
    }

    /// With this body instead of the form.
    pub(crate) fn raw_body(mut self, body: &[u8]) -> Self {
        self.raw = Some(body.to_vec());
        self
    }

    /// With one more header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With another content type.
    pub(crate) fn content_type(mut self, value: &str) -> Self {
        self.headers.retain(|(name, _)| name != "content-type");
        self.header("content-type", value)
    }

    /// By another method.
    pub(crate) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// To another path.
    pub(crate) fn path(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }

    /// For another host.
    pub(crate) fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// Over a connection with this certificate.
    pub(crate) fn over(mut self, certificate: &Identity) -> Self {
        self.certificate = Some(certificate.clone());
        self
    }

    /// Over a connection without a certificate.
    pub(crate) fn over_none(mut self) -> Self {
        self.certificate = None;
        self
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        self.raw.clone().unwrap_or_else(|| self.encoded().into_bytes())
    }

    fn encoded(&self) -> String {
        self.form.iter().fold(Form::default(), |form, (name, value)| form.with(name, value)).encode()
    }
}
