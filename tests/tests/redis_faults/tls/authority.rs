//! Who signs certificates, for one test.

use std::path::{Path, PathBuf};

use coordinator_servers::Folder;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::kit::Tested;

/// An authority, and a folder with all that it has signed. Dropping it removes that.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    ca: PathBuf,
    folder: Folder,
}

impl Authority {
    pub(super) fn new(name: &str) -> Tested<Self> {
        let mut wanted = CertificateParams::new([])?;
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wanted.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(wanted, KeyPair::generate()?)?;
        let folder = Folder::new(None)?;
        let ca = folder.write("ca.pem", &issuer.pem(), None)?;
        Ok(Self { issuer, ca, folder })
    }

    /// The file of its own certificate.
    pub(super) fn ca(&self) -> &Path {
        &self.ca
    }

    /// The files of a certificate for these names, and of its key.
    pub(super) fn certify(&self, file: &str, names: &[&str]) -> Tested<(PathBuf, PathBuf)> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names)?.signed_by(&key, &self.issuer)?;
        let write =
            |kind: &str, text: &str| self.folder.write(&format!("{file}.{kind}"), text, None);
        Ok((
            write("pem", &certificate.pem())?,
            write("key", &key.serialize_pem())?,
        ))
    }
}
