//! TLS by rustls. As with libpq, `prefer` and `require` encrypt; `verify-ca` and `verify-full` also
//! check who answers.

use std::fs;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres::config::{Config, SslMode};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::peek::{Peek, Pid};
use super::target::Url;
use super::wire::{Place, Wire};
use crate::error::ConnectError;

/// How to encrypt, for every host of a URL.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
}

impl Tls {
    pub(super) fn new(config: &Config, url: &Url) -> Result<Self, ConnectError> {
        let problem = |reason: String| ConnectError::Tls {
            host: "the server".to_owned(),
            reason,
        };
        // Named, not installed: the application's own choice of a provider stays untouched.
        let provider = Arc::new(ring::default_provider());
        let strict = if url.verifies && config.get_ssl_mode() != SslMode::Disable {
            let roots = Arc::new(roots(url.roots.as_deref()).map_err(problem)?);
            let strict = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
            Some(strict.build().map_err(|error| problem(error.to_string()))?)
        } else {
            None
        };
        let signatures = provider.signature_verification_algorithms;
        let verifier: Arc<dyn ServerCertVerifier> = match strict {
            Some(strict) if url.names_host => strict,
            strict => Arc::new(AnyName { signatures, strict }),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| problem(error.to_string()))?;
        let client = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self {
            config: Arc::new(client),
        })
    }

    /// The connector to one host.
    pub(super) fn connector(&self, place: &Place, pid: Pid) -> Connector {
        let name = match place {
            Place::Tcp { host, .. } => host.clone(),
            Place::Unix(_) => String::new(),
        };
        let config = self.config.clone();
        Connector { config, name, pid }
    }
}

/// Whom to believe: a file, or those that this machine believes.
fn roots(file: Option<&str>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    if let Some(file) = file {
        let bytes = fs::read(file).map_err(|error| format!("cannot read `{file}`: {error}"))?;
        for certificate in CertificateDer::pem_slice_iter(&bytes) {
            let certificate = certificate.map_err(|error| format!("`{file}`: {error:?}"))?;
            let added = store.add(certificate);
            added.map_err(|error| format!("`{file}`: {error}"))?;
        }
    } else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if store.is_empty() {
        return Err("no root certificate was found: name a file by `sslrootcert`".to_owned());
    }
    Ok(store)
}

/// Encrypts one connection, and reads the server process's id inside it.
#[derive(Debug)]
pub(super) struct Connector {
    config: Arc<ClientConfig>,
    name: String,
    pid: Pid,
}

type Rustls = MakeRustlsConnect;
type Encrypted = <Rustls as MakeTlsConnect<Wire>>::Stream;

impl TlsConnect<Peek<Wire>> for Connector {
    type Stream = Peek<Encrypted>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Stream>> + Send>>;

    fn connect(self, stream: Peek<Wire>) -> Self::Future {
        Box::pin(async move {
            let mut make = Rustls::new((*self.config).clone());
            let connect = MakeTlsConnect::<Wire>::make_tls_connect(&mut make, &self.name);
            let connect = connect.map_err(io::Error::other)?;
            let stream = connect.connect(stream.into_inner()).await?;
            Ok(Peek::new(stream, self.pid, false))
        })
    }
}

/// Checks signatures, and of the certificate who signed it, or nothing: not for which name it is.
#[derive(Debug)]
struct AnyName {
    signatures: WebPkiSupportedAlgorithms,
    /// `None`: the connection is encrypted, to whoever answers.
    strict: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(strict) = &self.strict else {
            return Ok(ServerCertVerified::assertion());
        };
        match strict.verify_server_cert(certificate, between, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.signatures)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.signatures)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_schemes()
    }
}
