//! The whole set: authorities, a server, clients of each kind, thieves, and a certificate that was taken back.

use crate::leaf::{Basic, Identity, KeyAlgorithm, LeafSpec};
use crate::{CaSpec, Crl, CrlSpec, Issuer, PkiError, Validity, rdn};

/// A client's name, with what it holds.
#[derive(Debug)]
pub struct Client {
    /// Its `client_id` and the stem of its files.
    pub name: &'static str,
    /// Its certificate and key.
    pub identity: Identity,
}

/// Everything that `dev`, `demo` and the tests run on. Subjects start with `O=certbind dev`.
#[derive(Debug)]
pub struct DevPki {
    /// The trust anchor.
    pub root: Issuer,
    /// Signs the server's certificate and those of the clients.
    pub intermediate: Issuer,
    /// `localhost`, `127.0.0.1`, `::1`.
    pub server: Identity,

    /// `tls_client_auth` by `spiffe://certbind.dev/billing`.
    pub billing: Client,
    /// `self_signed_tls_client_auth`; `CA:TRUE`, as `openssl req -x509` makes it by default.
    pub ledger: Client,
    /// `private_key_jwt`, with a certificate to bind the token to.
    pub batch: Client,
    /// ES256, the key of `batch`'s assertions, with a certificate for it that an `x5c` may carry.
    pub batch_assertion: Identity,

    /// The protected API itself, when it asks the server something: `tls_client_auth` by `spiffe://certbind.dev/api`.
    pub api: Client,

    /// `tls_client_auth` by `CN=by-dn,OU=Payments,O=certbind dev` (as RFC 4514 prints it), and by nothing else: no alternative names.
    pub by_dn: Client,
    /// `tls_client_auth` by the DNS name `by-dns.certbind.dev`.
    pub by_dns: Client,
    /// `tls_client_auth` by the e-mail address `by-email@certbind.dev`.
    pub by_email: Client,
    /// `tls_client_auth` by the IP address `192.0.2.7`.
    pub by_ip: Client,
    /// `tls_client_auth` by `https://certbind.dev/clients/by-uri`.
    pub by_uri: Client,

    /// All names of `billing`, from another authority.
    pub thief: Client,
    /// From the right authority, under its own name.
    pub sibling: Client,
    /// `spiffe://certbind.dev/revoked`, listed in the CRL.
    pub revoked: Client,

    /// The authority that `thief` made up: same name as the root, other key.
    pub rogue: Issuer,
    /// Of the root: empty.
    pub root_crl: Crl,
    /// Of the intermediate: lists `revoked`.
    pub crl: Crl,
}

impl DevPki {
    /// A new set with new keys, all of it valid for as long as said; the CRLs too.
    pub fn generate(validity: Validity) -> Result<Self, PkiError> {
        let root = Issuer::root("certbind dev root", validity)?;
        let rogue = Issuer::root("certbind dev root", validity)?;
        let intermediate =
            root.intermediate(&CaSpec { path_len: Some(0), ..CaSpec::new("certbind dev intermediate", validity) })?;

        let client = |name, change: fn(LeafSpec) -> LeafSpec| {
            let identity = intermediate.leaf(&change(LeafSpec::client(name, validity)))?;
            Ok::<_, PkiError>(Client { name, identity })
        };
        let revoked = client("revoked", |spec| spec.uri("spiffe://certbind.dev/revoked"))?;
        let ledger = LeafSpec { basic: Basic::Ca, ..LeafSpec::client("ledger", validity) };
        let assertion = LeafSpec::client("batch assertion", validity).key(KeyAlgorithm::P256);
        let billing = |spec: LeafSpec| spec.uri("spiffe://certbind.dev/billing");
        let stolen_name = billing(LeafSpec::client("billing", validity));
        let crl =
            |revoked| CrlSpec { next_update: validity.not_after, number: 1, revoked, this_update: validity.not_before };

        Ok(Self {
            server: intermediate.leaf(&LeafSpec::server(validity))?,
            billing: client("billing", billing)?,
            ledger: Client { name: "ledger", identity: Identity::self_signed(&ledger)? },
            batch: client("batch", |spec| spec.uri("spiffe://certbind.dev/batch"))?,
            batch_assertion: Identity::self_signed(&assertion)?,
            api: client("api", |spec| spec.uri("spiffe://certbind.dev/api"))?,
            by_dn: client("by-dn", |mut spec| {
                spec.subject.insert(1, rdn("OU", "Payments"));
                spec
            })?,
            by_dns: client("by-dns", |spec| spec.dns("by-dns.certbind.dev"))?,
            by_email: client("by-email", |spec| spec.email("by-email@certbind.dev"))?,
            by_ip: client("by-ip", |spec| spec.ip([192, 0, 2, 7].into()))?,
            by_uri: client("by-uri", |spec| spec.uri("https://certbind.dev/clients/by-uri"))?,
            thief: Client { name: "thief", identity: rogue.leaf(&stolen_name)? },
            sibling: client("sibling", |spec| spec.uri("spiffe://certbind.dev/sibling"))?,
            root_crl: root.crl(&crl(Vec::new()))?,
            crl: intermediate.crl(&crl(vec![revoked.identity.serial().to_vec()]))?,
            revoked,
            root,
            intermediate,
            rogue,
        })
    }

    /// All who hold a certificate, good or bad.
    #[must_use]
    pub fn clients(&self) -> [&Client; 12] {
        [
            &self.billing,
            &self.ledger,
            &self.batch,
            &self.api,
            &self.by_dn,
            &self.by_dns,
            &self.by_email,
            &self.by_ip,
            &self.by_uri,
            &self.thief,
            &self.sibling,
            &self.revoked,
        ]
    }

    /// A newer CRL of the intermediate that lists these clients' certificates as well as `revoked`.
    pub fn revoke(&self, number: u64, clients: &[&Client], validity: Validity) -> Result<Crl, PkiError> {
        let revoked = clients.iter().chain(&[&self.revoked]).map(|client| client.identity.serial().to_vec()).collect();
        let spec = CrlSpec { next_update: validity.not_after, number, revoked, this_update: validity.not_before };
        self.intermediate.crl(&spec)
    }
}
