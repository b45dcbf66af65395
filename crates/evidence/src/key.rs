//! Ed25519 keys: the public half in the text form of C2SP signed notes, the private half behind a port
//! that a file, a variable or a key service can stand behind. A private key is never printed.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Bytes that are signed at most; AWS KMS takes no more in one call.
pub const SIGNED_BYTES_MAX: usize = 4_096;
/// Characters of a key's name at most.
pub const KEY_NAME_MAX: usize = 100;
/// What signed notes call Ed25519.
const ED25519: u8 = 1;

/// How the DER of every Ed25519 public key begins.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A public key that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPublicKey {
    /// Another kind of key.
    #[error("no Ed25519 public key in DER")]
    Der,
    /// A weak key, or a name that cannot stand in a signature line.
    #[error("a weak key, or {0:?} is no name for one: 1 to {KEY_NAME_MAX} of A-Z a-z 0-9 . _ / -")]
    Unusable(String),
}

/// A public key and its name: `audit.example.com+1a2b3c4d+AQ…`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyKey {
    name: String,
    hash: [u8; 4],
    key: VerifyingKey,
}

/// A text that is no public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no public key: one line as audit.example.com+1a2b3c4d+AQ…, the name of A-Z a-z 0-9 . _ / -, as the first document of a chain shows it"
)]
pub struct InvalidKey(String);

impl VerifyKey {
    /// The key with a name.
    fn new(name: &str, key: VerifyingKey) -> Option<Self> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
        let fits = (1..=KEY_NAME_MAX).contains(&name.len()) && name.bytes().all(known);
        // A weak key accepts signatures that nobody made.
        (fits && !key.is_weak()).then(|| {
            let digest = Sha256::new_with_prefix(name)
                .chain_update([b'\n', ED25519])
                .chain_update(key.as_bytes())
                .finalize();
            Self { name: name.to_owned(), hash: [digest[0], digest[1], digest[2], digest[3]], key }
        })
    }

    /// From a public key in DER (`SubjectPublicKeyInfo`, RFC 8410), as key services and openssl give it.
    pub fn from_der(name: &str, der: &[u8]) -> Result<Self, BadPublicKey> {
        let raw = der.strip_prefix(&SPKI).and_then(|raw| <&[u8; 32]>::try_from(raw).ok());
        let key = raw.and_then(|raw| VerifyingKey::from_bytes(raw).ok());
        let key = key.ok_or(BadPublicKey::Der)?;
        Self::new(name, key)
            .ok_or_else(|| BadPublicKey::Unusable(name.chars().take(KEY_NAME_MAX).collect()))
    }

    /// Its name, which is the first part of each origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What signature lines carry before the signature.
    pub fn hash(&self) -> [u8; 4] {
        self.hash
    }

    /// Name and hash, as documents name the key.
    pub fn id(&self) -> String {
        format!("{}+{}", self.name, hex::encode(self.hash))
    }

    /// Whether the signature over `message` is this key's (the strict rule of `ed25519-dalek`, which
    /// leaves one valid signature per message and nonce).
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl FromStr for VerifyKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (name, rest) = text.split_once('+')?;
            let (_, key) = rest.split_once('+')?;
            let bytes = BASE64.decode(key).ok()?;
            let (kind, key) = bytes.split_first()?;
            let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
            let found = Self::new(name, key).filter(|_| *kind == ED25519)?;
            (found.to_string() == text).then_some(found)
        };
        read().ok_or_else(|| InvalidKey(text.chars().take(200).collect()))
    }
}

impl fmt::Display for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[ED25519][..], self.key.as_bytes()].concat();
        write!(f, "{}+{}", self.id(), BASE64.encode(bytes))
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Longer than [`SIGNED_BYTES_MAX`].
    #[error("{0} bytes to sign; {SIGNED_BYTES_MAX} at most")]
    TooLong(usize),
    /// The key service did not answer or refused.
    #[error("key {key}: {reason}")]
    Refused {
        /// The key's id.
        key: String,
        /// What the service said.
        reason: String,
    },
    /// What came back is no signature of this key: the private key is another one.
    #[error(
        "key {0}: the signature that was made is not this key's; check that both halves belong together"
    )]
    WrongKey(String),
}

/// Whoever holds a private key. It signs what it is given and knows nothing of documents.
#[async_trait]
pub trait Signer: Send + Sync + fmt::Debug {
    /// The public half.
    fn key(&self) -> &VerifyKey;

    /// Signs up to [`SIGNED_BYTES_MAX`] bytes with pure Ed25519 (RFC 8032).
    async fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError>;
}

/// A private key in this process's memory, from a file or a variable.
pub struct MemorySigner {
    key: VerifyKey,
    private: SigningKey,
}

/// A private key that cannot be used. It does not repeat the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPrivateKey {
    /// Not the PEM that openssl writes.
    #[error(
        "no Ed25519 private key: PKCS#8 in PEM is expected, as `openssl genpkey -algorithm ed25519` writes it"
    )]
    Pem,
    /// The name cannot stand in a signature line.
    #[error(
        "{0:?} is no name for a key: 1 to {KEY_NAME_MAX} of A-Z a-z 0-9 . _ / -, e.g. audit.example.com"
    )]
    Name(String),
}

impl MemorySigner {
    /// From PKCS#8 in PEM.
    pub fn from_pem(name: &str, pem: &str) -> Result<Self, BadPrivateKey> {
        let private = SigningKey::from_pkcs8_pem(pem.trim()).map_err(|_| BadPrivateKey::Pem)?;
        Self::new(name, private)
    }

    /// From the 32 bytes of RFC 8032.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, BadPrivateKey> {
        Self::new(name, SigningKey::from_bytes(seed))
    }

    /// A private key from 32 random bytes, as [`Self::from_pem`] reads it. It is the secret itself: it
    /// belongs into a file that nobody else can read, and into no log.
    pub fn pem_of_seed(
        seed: &[u8; 32],
    ) -> Result<impl Deref<Target = String> + use<>, BadPrivateKey> {
        // Without the public half, as openssl writes it: older programs read no other form.
        let pair = KeypairBytes { secret_key: *seed, public_key: None };
        pair.to_pkcs8_pem(LineEnding::LF).map_err(|_| BadPrivateKey::Pem)
    }

    fn new(name: &str, private: SigningKey) -> Result<Self, BadPrivateKey> {
        let key = VerifyKey::new(name, private.verifying_key())
            .ok_or_else(|| BadPrivateKey::Name(name.chars().take(KEY_NAME_MAX).collect()))?;
        Ok(Self { key, private })
    }
}

#[async_trait]
impl Signer for MemorySigner {
    fn key(&self) -> &VerifyKey {
        &self.key
    }

    async fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.private.sign(message).to_bytes())
    }
}

impl fmt::Debug for MemorySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemorySigner").field(&self.key).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the signed-note package's own documentation.
    const NEUMANN: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    /// Made by `openssl genpkey -algorithm ed25519`.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    #[test]
    fn the_text_of_a_public_key_is_that_of_signed_notes() {
        let key: VerifyKey = NEUMANN.parse().unwrap();
        assert_eq!((key.name(), key.id().as_str()), ("PeterNeumann", "PeterNeumann+c74f20a3"));
        assert_eq!(key.to_string(), NEUMANN);
        for bad in [
            "",
            "PeterNeumann",
            &NEUMANN.replace("c74f20a3", "c74f20a4"),
            &NEUMANN.replace("Peter", "Peter "),
            &NEUMANN.replace("+AR", "+Ah"),
            &format!("{NEUMANN}\n"),
        ] {
            assert!(bad.parse::<VerifyKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_weak_key_is_none() {
        let bytes = [&[ED25519][..], &[0; 32]].concat();
        let digest = Sha256::new_with_prefix("weak\n").chain_update(&bytes).finalize();
        let text = format!("weak+{}+{}", hex::encode(&digest[..4]), BASE64.encode(&bytes));
        assert!(text.parse::<VerifyKey>().is_err());
    }

    #[test]
    fn openssls_file_is_a_private_key_and_is_not_shown() {
        let signer = MemorySigner::from_pem("audit.example.com", PEM).unwrap();
        assert_eq!(format!("{signer:?}"), format!("MemorySigner({})", signer.key()));
        assert_eq!(signer.key().to_string().parse().as_ref(), Ok(signer.key()));
        assert_eq!(MemorySigner::from_pem("a", "nonsense").unwrap_err(), BadPrivateKey::Pem);
        assert!(matches!(MemorySigner::from_pem("a b", PEM), Err(BadPrivateKey::Name(_))));
        assert!(matches!(MemorySigner::from_pem("a+b", PEM), Err(BadPrivateKey::Name(_))));
    }

    #[test]
    fn a_private_key_is_written_as_openssl_writes_it() {
        // What the file above holds, by `openssl pkey -text`.
        let private = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let seed: [u8; 32] = hex::decode(private).unwrap().try_into().unwrap();
        assert_eq!(MemorySigner::pem_of_seed(&seed).unwrap().as_str(), PEM);
        let signer = MemorySigner::from_seed("a", &seed).unwrap();
        assert_eq!(MemorySigner::from_pem("a", PEM).unwrap().key(), signer.key());
    }

    #[test]
    fn the_der_of_a_key_is_the_key() {
        let signer = MemorySigner::from_seed("audit.example.com", &[1; 32]).unwrap();
        let der = [&SPKI[..], signer.key().key.as_bytes()].concat();
        assert_eq!(VerifyKey::from_der("audit.example.com", &der).as_ref(), Ok(signer.key()));
        for bad in [&der[1..], &der[..43], &[&der[..], &[0]].concat()] {
            assert_eq!(VerifyKey::from_der("a", bad), Err(BadPublicKey::Der));
        }
        assert!(matches!(VerifyKey::from_der("a b", &der), Err(BadPublicKey::Unusable(_))));
    }
}
