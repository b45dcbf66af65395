//! Lines in memory, and the archive that the product's own writer makes of them: what the figures of
//! processor time alone stand on.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};
use evidence::document::{
    Basis, Body, ChainEnd, Header, KeyRecord, Manifest, Unit, document_name, head_name,
    object_name, seal,
};
use evidence::head::origin;
use evidence::merkle::{self, Salt, Tree};
use evidence::object::{Contents, ObjectWriter};
use evidence::{Codec, Document, Hash, Head, MemorySigner, Signer, VerifyKey};

use super::bare;
use crate::{machine, samples};

/// Name and seed of the key that signs what is measured.
pub const KEY: (&str, [u8; 32]) = ("bench", [1; 32]);
/// The same as the text inside PKCS#8 in PEM, as a process gets it.
pub const PRIVATE_KEY: &str = "MC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";

/// Lines as rows hold them, by ascending id.
pub struct Corpus {
    lines: Vec<(Salt, Bytes)>,
    /// Bytes of the lines with their line feeds.
    pub bytes: usize,
}

/// A tenant's archive as a bucket holds it: one object, its manifest, a signed head.
pub struct Archive {
    /// By name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The object's name.
    pub object: String,
    /// What it holds.
    pub contents: Contents,
    /// The key that signed all of it.
    pub key: VerifyKey,
}

impl Corpus {
    /// So many logs.
    pub fn new(count: usize) -> Self {
        let logs = samples::new_logs(count).into_iter();
        let lines: Vec<_> = logs.map(|log| (log.salt, log.record)).collect();
        let bytes = lines.iter().map(|(_, line)| line.len() + 1).sum();
        Self { lines, bytes }
    }

    /// The same as ready-made blocks.
    pub fn blocks(&self) -> Vec<bare::Block> {
        bare::blocks(self.lines.iter().map(|(salt, line)| (salt, &line[..])))
    }

    /// The product's writer, into memory that is there already.
    pub fn write(&self, codec: Codec, mut out: Vec<u8>) -> anyhow::Result<(Vec<u8>, Contents)> {
        out.clear();
        let mut writer = ObjectWriter::new(out, codec, &samples::tenant());
        for (salt, line) in &self.lines {
            writer.push(salt, line)?;
        }
        Ok(writer.finish()?)
    }

    /// An archive of it.
    pub async fn archive(&self, codec: Codec) -> anyhow::Result<Archive> {
        let (packed, contents) = self.write(codec, Vec::new())?;
        let (tenant, now) = (samples::tenant(), machine::now().trunc_subsecs(6));
        let object = object_name(&tenant, now, 1, codec);
        let mut chain = Chain::new(now)?;
        let public_key = chain.signer.key().to_string();
        let record = KeyRecord { public_key, replaces: None, reason: "first".into() };
        chain.issue(Body::Key(record)).await?;
        let manifest = Manifest {
            object: object.clone(),
            unit: Unit::try_from("unit-1".to_owned())?,
            basis: Basis::Request { id: "bench".into() },
            contents: contents.clone(),
            locked_until: None,
            supersedes: None,
        };
        chain.issue(Body::Manifest(Box::new(manifest))).await?;
        let (key, mut files) = chain.headed().await?;
        files.insert(object.clone(), packed);
        Ok(Archive { files, object, contents, key })
    }
}

/// A chain in the making.
struct Chain {
    signer: MemorySigner,
    now: DateTime<Utc>,
    end: Option<ChainEnd>,
    leaves: Vec<Hash>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Chain {
    fn new(now: DateTime<Utc>) -> anyhow::Result<Self> {
        let signer = MemorySigner::from_seed(KEY.0, &KEY.1)?;
        Ok(Self { signer, now, end: None, leaves: Vec::new(), files: BTreeMap::new() })
    }

    async fn issue(&mut self, body: Body) -> anyhow::Result<()> {
        let tenant = samples::tenant();
        let header = Header::next(&tenant, self.end, self.now, self.signer.key().id())?;
        let document = Document { header, body };
        self.end = Some(document.end());
        self.leaves.push(merkle::leaf(&document.bytes()));
        let name = document_name(&tenant, document.header.sequence, document.body.kind());
        self.files.insert(name, seal(&document, &[&self.signer]).await?);
        Ok(())
    }

    /// The key and the files, with a head over all of it.
    async fn headed(mut self) -> anyhow::Result<(VerifyKey, BTreeMap<String, Vec<u8>>)> {
        let (tenant, size) = (samples::tenant(), self.leaves.len() as u64);
        let key = self.signer.key().clone();
        let root = self.leaves.iter().copied().collect::<Tree>().root();
        let head = Head { origin: origin(key.name(), &tenant), size, root, at: self.now };
        let name = head_name(&tenant, self.now, size);
        self.files.insert(name, head.sign(&self.signer).await?.into_bytes());
        Ok((key, self.files))
    }
}
