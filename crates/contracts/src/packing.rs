//! Bodies that do not travel as they are: compressed, or put into an object store and claimed from
//! there. Pure: it compresses, decompresses within a declared and enforced bound, and reads or writes
//! wire shapes; it never fetches an object and never decides what is packed.

use std::io::{Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Bytes of a body before packing at most. Sixteen times what SQS takes: a bulk that compresses well,
/// and little enough that a message which lies about it cannot exhaust a worker.
pub const BODY_BYTES_MAX: u64 = 16 << 20;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// JSON in place.
    #[default]
    Json,
    /// JSON compressed by gzip: base64 in a message, as it is in an object.
    Gzip,
}

impl Encoding {
    /// Whether this build reads the encoding of that wire name.
    pub fn known(name: &str) -> bool {
        matches!(name, "json" | "gzip")
    }
}

/// Where a large body was put (claim check).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Bucket or root of the object store.
    pub bucket: String,
    /// Object key.
    pub key: String,
    /// SHA-256 of the object's bytes, hex.
    pub sha256: String,
    /// Object size in bytes.
    pub size: u64,
}

/// A compressed body in the message itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gzipped {
    /// Size of the body once unpacked, as the sender declares it.
    pub bytes: u64,
    /// The compressed bytes as they travel.
    pub base64: String,
}

/// A body in the object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Where, and what must be found there.
    pub claim: Claim,
    /// How the object's bytes are written.
    pub encoding: Encoding,
    /// Size of the body once unpacked, as the sender declares it.
    pub bytes: u64,
}

/// Why a body could not be unpacked. It will stay so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// It declares more than [`BODY_BYTES_MAX`].
    #[error("its body declares {0} bytes, the limit is {BODY_BYTES_MAX}")]
    TooLarge(u64),
    /// It holds more or less than it declares.
    #[error("its body declares {0} bytes and holds another number")]
    Undeclared(u64),
    /// Not base64, not gzip, cut off, or not JSON inside.
    #[error("its body is damaged: {0}")]
    Damaged(String),
}

/// Compresses a body.
pub fn compress(body: &str) -> Vec<u8> {
    // Fast: somebody waits for it, and JSON gives up most of its bulk at once.
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // A vector takes every write.
    let _ = encoder.write_all(body.as_bytes());
    encoder.finish().unwrap_or_default()
}

/// Decompresses, and stops as soon as there is more than `declared`.
fn decompress(bytes: &[u8], declared: u64) -> Result<String, UnpackError> {
    let mut decoder = GzDecoder::new(bytes);
    let mut body = Vec::new();
    let read = (&mut decoder).take(declared + 1).read_to_end(&mut body);
    read.map_err(|error| UnpackError::Damaged(error.to_string()))?;
    if body.len() as u64 != declared {
        return Err(UnpackError::Undeclared(declared));
    }
    if !decoder.into_inner().is_empty() {
        return Err(UnpackError::Damaged("more follows the compressed body".to_owned()));
    }
    String::from_utf8(body).map_err(|error| UnpackError::Damaged(error.to_string()))
}

fn checked(declared: u64) -> Result<(), UnpackError> {
    if declared > BODY_BYTES_MAX { Err(UnpackError::TooLarge(declared)) } else { Ok(()) }
}

fn json(body: String) -> Result<Box<RawValue>, UnpackError> {
    RawValue::from_string(body).map_err(|error| UnpackError::Damaged(error.to_string()))
}

impl Gzipped {
    /// The wire form of what [`compress`] made of a body of `bytes`.
    pub fn new(bytes: usize, compressed: &[u8]) -> Self {
        Self { bytes: bytes as u64, base64: STANDARD.encode(compressed) }
    }

    /// Characters that `compressed` takes up in a message.
    pub fn wire_len(compressed: usize) -> usize {
        compressed.div_ceil(3) * 4
    }

    /// The body, byte for byte as it was before.
    pub fn unpack(&self) -> Result<Box<RawValue>, UnpackError> {
        checked(self.bytes)?;
        let bytes = STANDARD.decode(&self.base64);
        let bytes = bytes.map_err(|error| UnpackError::Damaged(error.to_string()))?;
        json(decompress(&bytes, self.bytes)?)
    }
}

impl Claimed {
    /// The body, from the object's bytes; whether those are the ones claimed is the caller's to check.
    pub fn unpack(&self, object: &[u8]) -> Result<Box<RawValue>, UnpackError> {
        checked(self.bytes)?;
        match self.encoding {
            Encoding::Gzip => json(decompress(object, self.bytes)?),
            Encoding::Json if object.len() as u64 != self.bytes => {
                Err(UnpackError::Undeclared(self.bytes))
            }
            Encoding::Json => {
                let body = String::from_utf8(object.to_vec());
                json(body.map_err(|error| UnpackError::Damaged(error.to_string()))?)
            }
        }
    }
}
