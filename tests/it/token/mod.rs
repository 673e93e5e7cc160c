//! The token endpoint and the documents, black box: requests over real TLS in, answers and audit lines out.

mod access_token;
mod alike;
mod assertion;
mod fapi2;
mod form;
mod grant;
mod jose;
mod jwks_uri;
mod keys;
mod live;
mod metadata;
mod methods;
mod self_signed;
mod tls_client_auth;
