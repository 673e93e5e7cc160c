//! Gets a token by certificate and shows what it is good for.
//!
//! `cargo run -p certbind-client --example get_token -- ISSUER CLIENT_ID CERT KEY CA`

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use certbind_client::{AddressPolicy, ClientCertificate, Credential, Settings, TokenSource, trusted_authorities};
use certbind_proto::entropy::OsEntropy;
use certbind_proto::time::SystemClock;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [issuer, client_id, cert, key, ca] = &arguments[..] else {
        return Err("usage: get_token ISSUER CLIENT_ID CERT KEY CA".into());
    };
    let certificate = ClientCertificate::from_files(Path::new(cert), Path::new(key))?;
    let roots = trusted_authorities(Path::new(ca))?;
    let mut settings = Settings::new(issuer, client_id, Credential::Certificate(certificate), roots);
    // An authorization server on this machine or in the same private network.
    settings.addresses = AddressPolicy::AllowPrivate;
    let source = TokenSource::new(settings, Arc::new(SystemClock), Arc::new(OsEntropy))?;

    let token = source.token().await?;
    println!("scope {:?}, until {}", token.scope().to_string(), token.expires());
    if let Some(certificate) = token.certificate() {
        println!("to be presented with the certificate {}", certificate.thumbprint());
    }
    Ok(())
}
