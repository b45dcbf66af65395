//! Signed notes as C2SP defines them (c2sp.org/signed-note): a text, an empty line, signature lines.
//! The signature is over the text with its last line feed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::key::{SIGNED_BYTES_MAX, SignError, Signer, VerifyKey};

/// Signature lines of a note at most.
pub const SIGNATURES_MAX: usize = 100;
/// How such a line begins: an em dash and a space.
const PREFIX: &str = "— ";

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine {
    /// The signer's name.
    pub name: String,
    /// First bytes of the key's hash.
    pub hash: [u8; 4],
    /// The signature; 64 bytes for Ed25519, others for others' keys.
    pub signature: Vec<u8>,
}

/// What a signature line says about one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// It is the key's.
    Valid,
    /// It names the key and is not the key's.
    Forged,
    /// No line names the key.
    Absent,
}

/// A text with its signatures, none of them believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What is signed, with its last line feed.
    pub text: String,
    /// At least one.
    pub signatures: Vec<SignatureLine>,
}

/// Bytes that are no signed note.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no signed note: {0}")]
pub struct BadNote(&'static str);

impl Note {
    /// Signs a text with each of the keys, and checks every signature before it is used.
    pub async fn sign(text: String, signers: &[&dyn Signer]) -> Result<Self, SignError> {
        if text.len() > SIGNED_BYTES_MAX {
            return Err(SignError::TooLong(text.len()));
        }
        let mut signatures = Vec::with_capacity(signers.len());
        for signer in signers {
            let (key, signature) = (signer.key(), signer.sign(text.as_bytes()).await?);
            if !key.verifies(text.as_bytes(), &signature) {
                return Err(SignError::WrongKey(key.id()));
            }
            signatures.push(SignatureLine {
                name: key.name().to_owned(),
                hash: key.hash(),
                signature: signature.to_vec(),
            });
        }
        Ok(Self { text, signatures })
    }

    /// Reads a note.
    pub fn parse(note: &str) -> Result<Self, BadNote> {
        let control = |c: char| c < ' ' && c != '\n';
        if note.contains(control) {
            return Err(BadNote("a control character in it"));
        }
        let at = note.rfind("\n\n").ok_or(BadNote("no empty line before its signatures"))?;
        let (text, signatures) = (&note[..=at], &note[at + 2..]);
        let signatures = signatures.strip_suffix('\n').ok_or(BadNote("its last line is cut"))?;
        if text.len() > SIGNED_BYTES_MAX {
            return Err(BadNote("its text is longer than 4096 bytes"));
        }
        let read: Option<Vec<_>> =
            signatures.split('\n').take(SIGNATURES_MAX + 1).map(SignatureLine::parse).collect();
        let signatures = read.ok_or(BadNote("a signature line is not `— name base64`"))?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(BadNote("more than 100 signature lines"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// What it says about a key. Where several lines name the key, the first counts.
    pub fn signed_by(&self, key: &VerifyKey) -> Signed {
        let named = |line: &&SignatureLine| line.name == key.name() && line.hash == key.hash();
        let Some(line) = self.signatures.iter().find(named) else { return Signed::Absent };
        let valid = <&[u8; 64]>::try_from(line.signature.as_slice())
            .is_ok_and(|signature| key.verifies(self.text.as_bytes(), signature));
        if valid { Signed::Valid } else { Signed::Forged }
    }

    /// The ids of the keys that are said to have signed, valid or not.
    pub fn key_ids(&self) -> String {
        let ids = self.signatures.iter().map(|s| format!("{}+{}", s.name, hex::encode(s.hash)));
        ids.collect::<Vec<_>>().join(", ")
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        for line in &self.signatures {
            let bytes = [&line.hash[..], &line.signature].concat();
            writeln!(f, "{PREFIX}{} {}", line.name, BASE64.encode(bytes))?;
        }
        Ok(())
    }
}

impl SignatureLine {
    fn parse(line: &str) -> Option<Self> {
        let (name, base64) = line.strip_prefix(PREFIX)?.split_once(' ')?;
        let named = !name.is_empty() && !name.contains('+') && !name.contains(char::is_whitespace);
        let bytes = BASE64.decode(base64).ok().filter(|_| named)?;
        let (hash, signature) = bytes.split_first_chunk::<4>()?;
        let signature = (!signature.is_empty()).then(|| signature.to_vec())?;
        Some(Self { name: name.to_owned(), hash: *hash, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::MemorySigner;

    /// The example of the signed-note package's documentation, made by another implementation.
    const NEUMANN: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn a_note_that_others_signed_is_read_and_verified() {
        let (key, note) = (NEUMANN.parse().unwrap(), Note::parse(NOTE).unwrap());
        assert_eq!(note.signed_by(&key), Signed::Valid);
        assert_eq!(note.to_string(), NOTE);
        assert_eq!(note.key_ids(), "PeterNeumann+c74f20a3");
        let forged = Note::parse(&NOTE.replace("answer", "problem")).unwrap();
        assert_eq!(forged.signed_by(&key), Signed::Forged);
    }

    #[tokio::test]
    async fn each_key_signs_and_no_other_is_believed() {
        let with = |seed| MemorySigner::from_seed("audit.example.com", &[seed; 32]).unwrap();
        let (one, two, three) = (with(1), with(2), with(3));
        let note = Note::sign("a text\n".into(), &[&one, &two]).await.unwrap();
        let note = Note::parse(&note.to_string()).unwrap();
        assert_eq!(note.signed_by(one.key()), Signed::Valid);
        assert_eq!(note.signed_by(two.key()), Signed::Valid);
        assert_eq!(note.signed_by(three.key()), Signed::Absent);
        let long = Note::sign("x".repeat(SIGNED_BYTES_MAX + 1), &[&one]).await;
        assert!(matches!(long, Err(SignError::TooLong(4_097))));
    }

    #[derive(Debug)]
    struct Mixed(MemorySigner, MemorySigner);

    #[async_trait::async_trait]
    impl Signer for Mixed {
        fn key(&self) -> &VerifyKey {
            self.0.key()
        }
        async fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
            self.1.sign(message).await
        }
    }

    #[tokio::test]
    async fn a_signature_of_another_key_is_not_published() {
        let with = |seed| MemorySigner::from_seed("audit.example.com", &[seed; 32]).unwrap();
        let mixed = Mixed(with(1), with(2));
        let signed = Note::sign("a text\n".into(), &[&mixed]).await;
        assert!(matches!(signed, Err(SignError::WrongKey(_))));
    }

    #[test]
    fn what_is_no_note_is_refused() {
        for bad in [
            "",
            "text\n",
            "text\n\n",
            "text\n\n— name\n",
            "text\n\n- name AAAAAAAA\n",
            "text\n\n— na+me AAAAAAAA\n",
            "text\n\n— name AAAAAA==\n",
            "text\n\n— name AAAAAAAA",
            "te\txt\n\n— name AAAAAAAA\n",
            &format!("text\n\n{}", "— name AAAAAAAA\n".repeat(101)),
            &format!("{}\n\n— name AAAAAAAA\n", "x".repeat(5_000)),
        ] {
            assert!(Note::parse(bad).is_err(), "{bad}");
        }
        assert!(Note::parse("text\n\n— name AAAAAAAA\n").is_ok());
        proptest::proptest!(|(any: String)| { let _ = Note::parse(&any); });
    }
}
