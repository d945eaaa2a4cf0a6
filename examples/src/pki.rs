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

/// Writes a key that nobody else on this machine may read.
///
/// # Errors
/// When the file can't be written.
pub fn write_secret(path: &Path, text: &str) -> Result {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options
        .open(path)
        .map_err(|e| format!("{}: {e}", path.display()))?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(())
}
