//! The signing keys: from a file, a variable or AWS KMS, by name. After a rotation the old key stays at hand
//! until every document that names it is sealed. A private key is never printed.

use std::collections::BTreeMap;
use std::sync::Arc;

use chassis::Secret;
use evidence::key::{BadPrivateKey, SignError};
use evidence::{MemorySigner, Signer};
use sinks::kms::KmsSigner;

/// Which keys sign the archive's documents.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Signing")]
pub struct SigningConfig {
    /// Name of the signing key, the first part of every public key and head
    ///
    /// A domain of yours says whose archive it is. Never change it under a key.
    ///
    /// Example: audit.example.com
    #[arg(long, env = "ARCHIVE_SIGNING_KEY_NAME", default_value = "flotilla")]
    pub archive_signing_key_name: String,

    /// Private key that signs the archive: Ed25519, PKCS#8 in PEM
    ///
    /// Made by `openssl genpkey -algorithm ed25519`. Give it as a file: `ARCHIVE_SIGNING_KEY_FILE`.
    #[arg(
        long,
        env = "ARCHIVE_SIGNING_KEY",
        hide_env_values = true,
        value_name = "PEM",
        conflicts_with = "archive_signing_kms_key"
    )]
    pub archive_signing_key: Option<Secret>,

    /// AWS KMS key in its place: id, ARN or alias of a key of spec `ECC_NIST_EDWARDS25519`
    ///
    /// Needs `kms:GetPublicKey` and `kms:Sign`.
    ///
    /// Example: alias/flotilla-archive
    #[arg(long, env = "ARCHIVE_SIGNING_KMS_KEY", value_name = "KEY")]
    pub archive_signing_kms_key: Option<String>,

    /// The private key before the last rotation
    ///
    /// It signs the rotation's records and what was numbered before them; to be taken away when
    /// `fleetctl signing show` says that nothing waits for it.
    #[arg(
        long,
        env = "ARCHIVE_SIGNING_KEY_PREVIOUS",
        hide_env_values = true,
        value_name = "PEM",
        conflicts_with = "archive_signing_kms_key_previous"
    )]
    pub archive_signing_key_previous: Option<Secret>,

    /// The AWS KMS key before the last rotation
    ///
    /// Example: alias/flotilla-archive-2025
    #[arg(long, env = "ARCHIVE_SIGNING_KMS_KEY_PREVIOUS", value_name = "KEY")]
    pub archive_signing_kms_key_previous: Option<String>,
}

/// Why a key is not at hand.
#[derive(Debug, thiserror::Error)]
pub enum KeyUnavailable {
    /// What was given is no key; it will not become one.
    #[error(transparent)]
    Bad(#[from] BadPrivateKey),
    /// KMS did not give its public half.
    #[error(transparent)]
    Kms(#[from] SignError),
}

impl SigningConfig {
    /// The key that signs what comes next, where one is set.
    pub async fn signer(&self) -> Result<Option<Arc<dyn Signer>>, KeyUnavailable> {
        self.open(self.archive_signing_key.as_ref(), self.archive_signing_kms_key.as_deref()).await
    }

    /// The keys; empty where none is set.
    pub async fn keys(&self) -> Result<Keys, KeyUnavailable> {
        let pem = self.archive_signing_key_previous.as_ref();
        let kms = self.archive_signing_kms_key_previous.as_deref();
        let previous = self.open(pem, kms).await?;
        Ok(self.signer().await?.into_iter().chain(previous).collect())
    }

    async fn open(
        &self,
        pem: Option<&Secret>,
        kms: Option<&str>,
    ) -> Result<Option<Arc<dyn Signer>>, KeyUnavailable> {
        let name = &self.archive_signing_key_name;
        Ok(match (pem, kms) {
            (Some(pem), _) => Some(Arc::new(MemorySigner::from_pem(name, pem.reveal())?)),
            (None, Some(key)) => Some(Arc::new(KmsSigner::from_environment(name, key).await?)),
            (None, None) => None,
        })
    }
}

/// Signers by the ids of their keys.
#[derive(Clone, Debug, Default)]
pub struct Keys(BTreeMap<String, Arc<dyn Signer>>);

impl Keys {
    /// One more.
    pub fn add(&mut self, signer: Arc<dyn Signer>) {
        self.0.insert(signer.key().id(), signer);
    }

    /// The signer of that key, where it is at hand.
    pub fn get(&self, key_id: &str) -> Option<&Arc<dyn Signer>> {
        self.0.get(key_id)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Arc<dyn Signer>> for Keys {
    fn from_iter<I: IntoIterator<Item = Arc<dyn Signer>>>(signers: I) -> Self {
        let mut keys = Self::default();
        signers.into_iter().for_each(|signer| keys.add(signer));
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_that_cannot_be_read_is_named_without_showing_it() {
        let config = SigningConfig {
            archive_signing_key_name: "audit.example.com".into(),
            archive_signing_key: Some("not a key 4711".to_owned().into()),
            ..SigningConfig::default()
        };
        let error = config.keys().await.unwrap_err();
        assert!(matches!(error, KeyUnavailable::Bad(BadPrivateKey::Pem)), "{error}");
        assert!(!format!("{error} {config:?}").contains("4711"));
        assert!(SigningConfig::default().keys().await.unwrap().is_empty());
    }
}
