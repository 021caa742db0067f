//! Whom to trust: what rustls checks, and what Java allows beyond it - a certificate that is in the trust store itself,
//! whoever signed it, a name that stands in the subject alone, and any host where the check of it is switched off.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};

use super::roots;
use crate::{Error, dn};

/// What a listener trusts.
#[derive(Debug)]
pub(super) struct ClientCertificates {
    pub inner: Arc<dyn ClientCertVerifier>,
    pub trusted: Vec<CertificateDer<'static>>,
    pub required: bool,
}

impl ClientCertVerifier for ClientCertificates {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.inner.verify_client_cert(end_entity, intermediates, now) {
            Err(error) if is_about_trust(&error) && self.trusted.iter().any(|own| own == end_entity) => {
                Ok(ClientCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// What a client trusts.
#[derive(Debug)]
pub(super) struct ServerCertificates {
    inner: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
    verify_host: bool,
}

impl ServerCertificates {
    /// Without a trust store, what the system trusts counts.
    pub fn new(
        trusted: Option<Vec<CertificateDer<'static>>>,
        verify_host: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let roots = match &trusted {
            Some(trusted) => roots(trusted),
            None => system_roots(),
        };
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::setting("ssl.truststore.location", error.to_string()))?;
        Ok(Self { inner, trusted: trusted.unwrap_or_default(), verify_host })
    }

    fn verify_name(
        &self,
        end_entity: &CertificateDer<'_>,
        name: &ServerName<'_>,
    ) -> Result<(), rustls::Error> {
        if !self.verify_host || names_in_subject(end_entity, name) {
            return Ok(());
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)
    }
}

impl ServerCertVerifier for ServerCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // The name is looked at last, when the chain has been found good.
            Err(error) if is_about_name(&error) => {
                if !self.verify_host || names_in_subject(end_entity, name) {
                    return Ok(ServerCertVerified::assertion());
                }
                Err(error)
            }
            Err(error) if is_about_trust(&error) && self.trusted.iter().any(|own| own == end_entity) => {
                self.verify_name(end_entity, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn is_about_name(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        )
    )
}

/// Not about validity or purpose: those count for certificates in the trust store too.
fn is_about_trust(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::Other(_) | CertificateError::BadSignature
        )
    )
}

/// Certificates without alternative names are matched by their common name, as Java does for names that are no addresses.
fn names_in_subject(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    const ALTERNATIVE_NAMES: &[u8] = &[0x06, 3, 0x55, 0x1d, 0x11];
    let ServerName::DnsName(wanted) = name else { return false };
    if certificate.windows(ALTERNATIVE_NAMES.len()).any(|window| window == ALTERNATIVE_NAMES) {
        return false;
    }
    let subject = dn::subject(certificate).unwrap_or_default();
    let common = subject.split(',').find_map(|part| part.strip_prefix("CN="));
    common.is_some_and(|common| common.eq_ignore_ascii_case(wanted.as_ref()))
}

fn system_roots() -> RootCertStore {
    let bundles =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    for path in bundles {
        let loaded = crate::store::load(path.as_ref(), crate::store::StoreType::Pem, None, None);
        if let Ok(contents) = loaded {
            let found = roots(&contents.certificates);
            if !found.is_empty() {
                return found;
            }
        }
    }
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}
