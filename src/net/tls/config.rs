use std::{fmt, sync::Arc};

use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    version::{TLS12, TLS13},
};

use super::TlsPolicy;
use crate::net::error::TlsConfigError;

/// The number of servers whose sessions are stored. Beyond it, the oldest server is dropped.
///
/// The default of rustls amounts to 32, fewer than the servers of a bulk run at a time. A server takes about 10 KiB:
/// a few tickets, and the certificates of their handshake.
const RESUMABLE_SERVERS: usize = 512;

/// rustls counts tickets, and reserves this many for each server.
const TICKETS_PER_SERVER: usize = 8;

/// A version of TLS. Older ones are not supported (RFC 8996).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Writes `TLSv1.2` or `TLSv1.3`, as OpenSSL and mail servers do.
impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        })
    }
}

/// The root certificates for verification, besides those added with the builder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Roots {
    /// Mozilla's, compiled in, so that every host has the same ones. The default.
    #[default]
    Mozilla,
    /// Those of the operating system, for networks with their own authority.
    Platform,
    /// None: only the added ones.
    None,
}

/// The settings of TLS, for a [`TlsConnector`](super::TlsConnector).
///
/// ```
/// use smtp_pool::net::{TlsConfig, TlsConnector, TlsPolicy, TlsVersion};
/// let config = TlsConfig::for_policy(TlsPolicy::Required).min_version(TlsVersion::Tls13);
/// let connector = TlsConnector::new(&config)?;
/// # Ok::<(), smtp_pool::net::TlsConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TlsConfig {
    verify: bool,
    roots: Roots,
    extra_roots: Vec<CertificateDer<'static>>,
    pinned: Vec<CertificateDer<'static>>,
    client: Option<Arc<ClientCertificate>>,
    rustls: Option<Arc<ClientConfig>>,
    min_version: TlsVersion,
    max_version: TlsVersion,
}

/// A certificate of the client with its chain and its key.
#[derive(Debug)]
struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsConfig {
    /// Uses a configuration of rustls as it is. Verification, roots, versions and certificates of this one have no effect.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use smtp_pool::net::{TlsConfig, TlsConnector, rustls};
    /// let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    /// let config = rustls::ClientConfig::builder_with_provider(provider)
    ///     .with_safe_default_protocol_versions()?
    ///     .with_root_certificates(rustls::RootCertStore::empty())
    ///     .with_no_client_auth();
    /// let connector = TlsConnector::new(&TlsConfig::rustls(config.into()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn rustls(config: Arc<ClientConfig>) -> Self {
        Self { rustls: Some(config), ..Self::for_policy(TlsPolicy::Required) }
    }

    /// Accepts only this certificate of a server, DER-encoded, or another pinned one. Roots, name and dates are not
    /// checked then. It is for a server with a certificate of its own.
    #[must_use]
    pub fn pin_der(mut self, der: impl Into<Vec<u8>>) -> Self {
        self.pinned.push(CertificateDer::from(der.into()));
        self
    }

    /// Accepts only the certificates of a PEM text, as [`pin_der`](Self::pin_der) does.
    ///
    /// # Errors
    ///
    /// Fails with [`TlsConfigError::Pem`] if the text is malformed or has no certificate.
    pub fn pin_pem(mut self, pem: &[u8]) -> Result<Self, TlsConfigError> {
        self.pinned.extend(certificates(pem)?);
        Ok(self)
    }

    /// Shows a certificate to servers that ask for one. `chain` begins with it, and `key` is its private key, both as PEM.
    ///
    /// # Errors
    ///
    /// Fails with [`TlsConfigError::Pem`] if a text is malformed, or has no certificate or no key.
    pub fn client_certificate_pem(mut self, chain: &[u8], key: &[u8]) -> Result<Self, TlsConfigError> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsConfigError::Pem)?;
        self.client = Some(Arc::new(ClientCertificate { chain: certificates(chain)?, key }));
        Ok(self)
    }

    /// Creates settings for TLS 1.2 and 1.3 with Mozilla's roots. They verify certificates if [the policy
    /// does](TlsPolicy::verifies).
    #[must_use]
    pub fn for_policy(policy: TlsPolicy) -> Self {
        Self {
            verify: policy.verifies(),
            roots: Roots::default(),
            extra_roots: Vec::new(),
            pinned: Vec::new(),
            client: None,
            rustls: None,
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
        }
    }

    /// Sets whether the certificate must lead to a known root and be valid for the server's name.
    ///
    /// Without verification any certificate is accepted, but the server must still prove that it holds the key. This
    /// protects against a passive observer, not against an active attacker (RFC 7435 3).
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// Sets the roots.
    #[must_use]
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// Adds a root, DER-encoded.
    #[must_use]
    pub fn add_root_der(mut self, der: impl Into<Vec<u8>>) -> Self {
        self.extra_roots.push(CertificateDer::from(der.into()));
        self
    }

    /// Adds each certificate of a PEM text as a root.
    ///
    /// # Errors
    ///
    /// Fails with [`TlsConfigError::Pem`] if the text is malformed or has no certificate.
    pub fn add_roots_pem(mut self, pem: &[u8]) -> Result<Self, TlsConfigError> {
        self.extra_roots.extend(certificates(pem)?);
        Ok(self)
    }

    /// Sets the lowest accepted version: TLS 1.2 by default.
    #[must_use]
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.min_version = version;
        self
    }

    /// Sets the highest offered version: TLS 1.3 by default.
    #[must_use]
    pub fn max_version(mut self, version: TlsVersion) -> Self {
        self.max_version = version;
        self
    }

    pub(super) fn build(&self) -> Result<Arc<ClientConfig>, TlsConfigError> {
        if let Some(config) = &self.rustls {
            return Ok(Arc::clone(config));
        }
        // Set explicitly. A process-wide default would depend on which caller installs one first.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions()?)
            .map_err(TlsConfigError::Provider)?;
        let builder = if self.verify && self.pinned.is_empty() {
            builder.with_root_certificates(self.root_store()?)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified {
                provider,
                pinned: self.pinned.clone(),
            }))
        };
        let mut config = match self.client.as_deref() {
            None => builder.with_no_client_auth(),
            Some(ClientCertificate { chain, key }) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(TlsConfigError::ClientCertificate)?,
        };
        config.resumption = Resumption::in_memory_sessions(RESUMABLE_SERVERS * TICKETS_PER_SERVER);
        Ok(Arc::new(config))
    }

    fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, TlsConfigError> {
        match (self.min_version, self.max_version) {
            (TlsVersion::Tls12, TlsVersion::Tls12) => Ok(vec![&TLS12]),
            (TlsVersion::Tls12, TlsVersion::Tls13) => Ok(vec![&TLS13, &TLS12]),
            (TlsVersion::Tls13, TlsVersion::Tls13) => Ok(vec![&TLS13]),
            (TlsVersion::Tls13, TlsVersion::Tls12) => Err(TlsConfigError::Versions),
        }
    }

    fn root_store(&self) -> Result<RootCertStore, TlsConfigError> {
        let mut store = RootCertStore::empty();
        match self.roots {
            Roots::Mozilla => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Roots::Platform => {
                let mut found = rustls_native_certs::load_native_certs();
                // Real certificate stores contain broken entries. The readable ones are still roots.
                store.add_parsable_certificates(found.certs);
                if store.is_empty() && !found.errors.is_empty() {
                    return Err(TlsConfigError::Platform(found.errors.swap_remove(0)));
                }
            }
            Roots::None => {}
        }
        for root in &self.extra_roots {
            store.add(root.clone()).map_err(TlsConfigError::Root)?;
        }
        if store.is_empty() { Err(TlsConfigError::NoRoots) } else { Ok(store) }
    }
}

/// Returns the certificates of a PEM text, at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(none) if none.is_empty() => Err(TlsConfigError::Pem(rustls::pki_types::pem::Error::NoItemsFound)),
        found => found.map_err(TlsConfigError::Pem),
    }
}

/// Accepts any certificate, or any of those that are pinned, but checks the signature. The server must hold the key of its certificate, so that an
/// attacker cannot show another server's.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
    /// The only certificates that are accepted, if there are any.
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pinned.is_empty() || self.pinned.iter().any(|pinned| pinned == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified() -> TlsConfig {
        TlsConfig::for_policy(TlsPolicy::Required)
    }

    #[test]
    fn the_policy_decides_on_verification() {
        assert!(!TlsConfig::for_policy(TlsPolicy::Opportunistic).verify);
        assert!(TlsConfig::for_policy(TlsPolicy::Implicit).verify);
        assert!(verified().build().is_ok());
    }

    #[test]
    fn mistakes_are_reported_at_start() {
        let reversed = verified().min_version(TlsVersion::Tls13).max_version(TlsVersion::Tls12);
        assert!(matches!(reversed.build(), Err(TlsConfigError::Versions)));
        assert!(matches!(verified().roots(Roots::None).build(), Err(TlsConfigError::NoRoots)));
        assert!(verified().roots(Roots::None).verify(false).build().is_ok(), "needs none");
        assert!(matches!(verified().add_root_der(*b"no DER").build(), Err(TlsConfigError::Root(_))));
        assert!(matches!(verified().add_roots_pem(b"no PEM"), Err(TlsConfigError::Pem(_))));
    }
}
