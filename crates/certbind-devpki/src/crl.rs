//! Certificate revocation lists (RFC 5280 §5).

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber};
use rustls_pki_types::CertificateRevocationListDer;

use crate::{Issuer, PkiError, offset};

/// What shall be in a CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlSpec {
    /// `nextUpdate`, in seconds since 1970: from then on the list is stale.
    pub next_update: i64,
    /// A higher one replaces a lower one (RFC 5280 §5.2.3).
    pub number: u64,
    /// Serial numbers of the certificates that are taken back ([`crate::Identity::serial`]).
    pub revoked: Vec<Vec<u8>>,
    /// `thisUpdate`, in seconds since 1970; also the date of each revocation.
    pub this_update: i64,
}

/// A signed CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    der: CertificateRevocationListDer<'static>,
}

impl Crl {
    /// As webpki takes it.
    #[must_use]
    pub const fn der(&self) -> &CertificateRevocationListDer<'static> {
        &self.der
    }

    /// As PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        crate::write::pem("X509 CRL", &self.der)
    }
}

impl Issuer {
    /// Signs a list of certificates that this authority takes back.
    pub fn crl(&self, spec: &CrlSpec) -> Result<Crl, PkiError> {
        let this_update = offset(spec.this_update)?;
        let entry = |serial: &Vec<u8>| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: this_update,
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update,
            next_update: offset(spec.next_update)?,
            crl_number: SerialNumber::from_slice(&spec.number.to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs: spec.revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(Crl { der: params.signed_by(self.certified())?.into() })
    }
}
