//! A certificate authority for the servers of the tests, which no other program trusts.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// The domain of all servers of the tests.
const HOSTS: &str = "*.interop.test";

/// A root certificate and its key. Each authority has its own.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "smtp-pool interop");
        let key = KeyPair::generate().expect("a key pair");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("a root certificate") }
    }

    /// Returns the root certificate.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Returns a key and a certificate for the servers, in the order that `smtpd_tls_chain_files` needs.
    pub(crate) fn chain(&self) -> String {
        let key = KeyPair::generate().expect("a key pair");
        let leaf = CertificateParams::new([HOSTS.to_owned()])
            .and_then(|params| params.signed_by(&key, &self.issuer))
            .expect("a certificate");
        key.serialize_pem() + &leaf.pem()
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
