//! A certification authority for one folder, and the certificates that it signs. For trying things out: its key lies beside them.

use crate::Result;
use keyferry_net::{Credentials, pem};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of an authority.
pub struct Pki {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// The authority in `folder`, made if there is none.
    ///
    /// # Errors
    /// When the folder can't be used or what is in it can't be read.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Pki> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        if certificate.exists() != key.exists() {
            let (there, gone) = if key.exists() {
                (key, certificate)
            } else {
                (certificate, key)
            };
            return Err(format!(
                "{} is there, and {} is not: put it back, or take both away",
                there.display(),
                gone.display()
            )
            .into());
        }
        if !key.exists() {
            let pair = KeyPair::generate()?;
            let mut params = named("keyferry example CA");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            write_secret(&key, &pair.serialize_pem())?;
            fs::write(&certificate, params.self_signed(&pair)?.pem())?;
        }
        let pair = KeyPair::from_pem(&fs::read_to_string(&key)?)?;
        let mut params = named("keyferry example CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Pki {
            folder,
            issuer: Issuer::new(params, pair),
        })
    }

    /// Where the authority's certificate is.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Where the certificate and the key of `name` are.
    pub fn files(&self, name: &str) -> (PathBuf, PathBuf) {
        (
            self.folder.join(format!("{name}.pem")),
            self.folder.join(format!("{name}.key")),
        )
    }

    /// Certificate and key for `name`, made if there are none; good for either end of a connection to this machine and to `hosts`.
    ///
    /// # Errors
    /// When files can't be written or read.
    pub fn credentials(&self, name: &str, hosts: &[String]) -> Result<Credentials> {
        let (certificate, key) = self.files(name);
        if !certificate.exists() || !key.exists() {
            let pair = KeyPair::generate()?;
            let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            names.extend(
                hosts
                    .iter()
                    .filter(|host| !names.contains(host))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name = named(name).distinguished_name;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
            write_secret(&key, &pair.serialize_pem())?;
            fs::write(&certificate, params.signed_by(&pair, &self.issuer)?.pem())?;
        }
        Ok(Credentials::new(
            pem::certificates(self.ca())?,
            pem::certificates(certificate)?,
            pem::private_key(key)?,
        ))
    }

    /// What a server of someone else's, which knows rustls alone, shows as `name`; it lets in who has a certificate from here.
    ///
    /// # Errors
    /// As for [`credentials`](Pki::credentials).
    pub fn tls(&self, name: &str) -> Result<Arc<rustls::ServerConfig>> {
        self.credentials(name, &[])?;
        let (certificate, key) = self.files(name);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca())?)?;
        let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
        let (chain, key) = (
            vec![CertificateDer::from_pem_file(certificate)?],
            PrivateKeyDer::from_pem_file(key)?,
        );
        Ok(Arc::new(
            rustls::ServerConfig::builder()
                .with_client_cert_verifier(clients)
                .with_single_cert(chain, key)?,
        ))
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Writes a key that nobody else on this machine may read. It has its name once it is complete, and is on the device when this returns, its
/// name too: what it seals may be written then.
///
/// # Errors
/// When the file can't be written.
pub fn write_secret(path: &Path, text: &str) -> Result {
    let told = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // One that a crash left behind.
    let _ = fs::remove_file(&new);
    let mut file = options.open(&new).map_err(told)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(told)?;
    file.sync_all().map_err(told)?;
    drop(file);
    fs::rename(&new, path).map_err(told)?;
    let folder = path.parent().filter(|name| !name.as_os_str().is_empty());
    // Where a folder can't be opened, there is no way to see to its names.
    match fs::File::open(folder.unwrap_or(Path::new("."))) {
        Ok(folder) => Ok(folder.sync_all().map_err(told)?),
        Err(_) => Ok(()),
    }
}

/// The permissions of a file that others than its owner may read or write; `None` for any other file, and where there are no such
/// permissions.
pub fn open_to_others(path: &Path) -> Option<u32> {
    #[cfg(unix)]
    {
        let found = fs::metadata(path).ok()?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777;
        (mode & 0o077 != 0).then_some(mode)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_its_owners_alone_and_replaces_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "older").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(open_to_others(&path), Some(0o644));
        fs::write(folder.path().join("key.new"), "left behind").unwrap();
        write_secret(&path, "text").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        assert_eq!(open_to_others(&path), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
