//! TLS by rustls, for every client alike.
//!
//! The provider is named, not installed: the application's own choice stays untouched, and none is needed. Files are read once, when the
//! backend connects.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::endpoint::Trust;
use crate::error::ConnectError;

/// What encrypts the connections of an endpoint.
pub(super) fn config(trust: &Trust) -> Result<Arc<ClientConfig>, ConnectError> {
    let roots = roots(trust.ca.as_deref())?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad("rediss", &"TLS", &error.to_string()))?
        .with_root_certificates(roots);
    let config = match &trust.own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates("cert", certificate)?;
            let wrong = |error: &dyn ToString| bad("key", &key.display(), &error.to_string());
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(&error))?;
            let config = builder.with_client_auth_cert(chain, secret);
            config.map_err(|error| wrong(&error))?
        }
    };
    Ok(Arc::new(config))
}

/// Whom to believe: those in a file, or those that this system believes.
fn roots(file: Option<&Path>) -> Result<RootCertStore, ConnectError> {
    let mut store = RootCertStore::empty();
    if let Some(file) = file {
        for certificate in certificates("ca", file)? {
            let added = store.add(certificate);
            added.map_err(|error| bad("ca", &file.display(), &error.to_string()))?;
        }
        return Ok(store);
    }
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        let reason = "this system trusts nobody, so a file must say whom to trust";
        return Err(bad("ca", &"left out", reason));
    }
    Ok(store)
}

fn certificates(
    setting: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let wrong = |reason: &str| bad(setting, &file.display(), reason);
    let bytes = fs::read(file).map_err(|error| wrong(&error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| wrong(&error.to_string()))?;
    if found.is_empty() {
        return Err(wrong("there is no certificate in it"));
    }
    Ok(found)
}

fn bad(setting: &'static str, given: &dyn ToString, reason: &str) -> ConnectError {
    ConnectError::BadSetting {
        setting,
        given: given.to_string(),
        wanted: reason.to_owned(),
    }
}

/// Encrypts a connection to what has this name.
pub(super) async fn over(
    stream: TcpStream,
    config: &Arc<ClientConfig>,
    name: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(config.clone())
        .connect(name, stream)
        .await
}

/// What errors say when TLS does not come about, and what to do then. Libraries hand them on as texts, some for people and some not.
const ADVICE: [(&[&str], &str); 6] = [
    (
        &["UnknownIssuer", "BadSignature"],
        "nobody whom we trust has signed its certificate: name the file of who has by `ca=`",
    ),
    (
        &["NotValidForName", "not valid for name"],
        "its certificate is for another name: connect by a name that it is for",
    ),
    (
        &["Expired", "NotValidYet", "expired", "not valid yet"],
        "its certificate has expired, or is not valid yet: renew it, or set the clock of this machine",
    ),
    (
        &["InvalidContentType", "InvalidMessage", "corrupt message"],
        "what listens there does not speak TLS: write `redis` for `rediss`, or name the port that does",
    ),
    (
        &["CertificateRequired", "certificate required"],
        "it wants a certificate of ours: name the files by `cert=` and `key=`",
    ),
    (
        &[
            "UnknownCA",
            "BadCertificate",
            "CertificateUnknown",
            "DecryptError",
        ],
        "it does not take our certificate: name others by `cert=` and `key=`",
    ),
];

/// What to do about an error, if it is one of TLS.
pub(super) fn advice(error: &str) -> Option<&'static str> {
    let is_it = |words: &[&str]| words.iter().any(|words| error.contains(words));
    let found = ADVICE.iter().find(|(words, _)| is_it(words));
    found.map(|(_, advice)| *advice)
}

/// What is said of a server that does not answer in time.
pub(super) const SILENT: &str =
    "no answer came in time: write `redis` for `rediss` if that port does not speak TLS";
