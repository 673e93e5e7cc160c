//! Metadata and token requests over HTTPS, with the certificate of one snapshot of the credential.

use std::sync::Arc;

use bytes::Bytes;
use certbind_https::{AddressPolicy, Authorities, ConfigFault, FetchError, Fetcher, Limits};
use certbind_proto::json;
use certbind_proto::metadata::{OAUTH_SUFFIX, OPENID_SUFFIX, ServerMetadata, well_known_url};
use certbind_proto::request::Form;
use hyper::{Response, Uri};
use serde_json::Value;

use crate::error::MetadataFault;
use crate::{Aliases, ClientCertificate, Error, request};

/// Requests that show one certificate, or none. Each has a connection of its own: after a rotation nothing is left that
/// would still show the old one (RFC 8705 §6.3).
pub(crate) struct Transport {
    fetcher: Fetcher,
}

impl Transport {
    pub(crate) fn new(
        roots: &Authorities,
        certificate: Option<&ClientCertificate>,
        addresses: AddressPolicy,
        limits: Limits,
    ) -> Result<Self, ConfigFault> {
        let tls = roots.client_config(certificate.map(|certificate| certificate.identity().clone()))?;
        Ok(Self { fetcher: Fetcher::new(Arc::new(tls), addresses, limits) })
    }

    /// The metadata of this issuer (RFC 8414 §3), from OpenID's place where the one of OAuth is empty.
    pub(crate) async fn metadata(&self, issuer: &str) -> Result<ServerMetadata, Error> {
        let oauth = well_known_url(issuer, OAUTH_SUFFIX).unwrap_or_default();
        let body = match self.fetcher.get(&oauth, "application/json").await {
            Err(FetchError::Status(404)) => {
                let openid = format!("{}{OPENID_SUFFIX}", issuer.trim_end_matches('/'));
                self.fetcher.get(&openid, "application/json").await
            }
            outcome => outcome,
        };
        match body {
            Ok(body) => read_metadata(&body, issuer).map_err(Error::Metadata),
            Err(FetchError::Status(status)) => Err(Error::Metadata(MetadataFault::Status(status))),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends the form to the token endpoint. A redirect is an answer like any other here: it is not followed.
    pub(crate) async fn token(&self, endpoint: Uri, form: &Form) -> Result<Response<Bytes>, Error> {
        Ok(self.fetcher.send(request::post(endpoint, form)).await?)
    }
}

/// The token endpoint for a client that shows this certificate (RFC 8705 §5).
pub(crate) fn token_endpoint(
    metadata: &ServerMetadata,
    certificate: Option<&ClientCertificate>,
    aliases: Aliases,
) -> Result<Uri, MetadataFault> {
    let endpoint = match (certificate, aliases) {
        (None, Aliases::WithCertificate) => metadata.token_endpoint.as_deref(),
        (Some(_), _) | (_, Aliases::Always) => metadata.mtls_token_endpoint(),
    };
    let uri: Uri =
        endpoint.ok_or(MetadataFault::TokenEndpointMissing)?.parse().map_err(|_| MetadataFault::TokenEndpointUrl)?;
    if uri.scheme_str() == Some("https") { Ok(uri) } else { Err(MetadataFault::TokenEndpointUrl) }
}

/// RFC 8414 §3.3: the issuer must be the one that was asked for, character by character. Without this a server could
/// send its own clients, assertions in hand, to another one.
fn read_metadata(body: &[u8], issuer: &str) -> Result<ServerMetadata, MetadataFault> {
    let members = json::parse_object(body)?;
    let metadata = serde_json::from_value::<ServerMetadata>(Value::Object(members));
    let metadata = metadata.map_err(|_| MetadataFault::MemberType)?;
    if metadata.issuer == issuer { Ok(metadata) } else { Err(MetadataFault::IssuerMismatch) }
}
