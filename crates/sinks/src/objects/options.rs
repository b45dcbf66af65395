//! What an object is stored with besides its bytes: metadata, tags, storage class, encryption, lock.
//! Checked before anything is sent, against S3's own limits, so that both stores refuse the same. It
//! never guesses: what is not set is the bucket's default.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::ObjectKey;

/// Bytes of all names and values of an object's metadata at most, as S3 allows.
pub const METADATA_BYTES_MAX: usize = 2_048;
/// Tags of an object at most, as S3 allows.
pub const TAGS_MAX: usize = 10;
/// Characters of a tag's name at most.
const TAG_NAME_MAX: usize = 128;
/// Characters of a tag's value at most.
const TAG_VALUE_MAX: usize = 256;
/// Bytes of a name of metadata at most.
const METADATA_NAME_MAX: usize = 128;

/// Options that no object can be stored with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no object can be stored so: {0}")]
pub struct InvalidOptions(String);

/// How an object is stored; the default leaves everything to the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectOptions {
    /// Named texts beside the object: names of `a-z 0-9 - _`, values of printable ASCII, together at
    /// most [`METADATA_BYTES_MAX`].
    pub metadata: BTreeMap<String, String>,
    /// For billing, access and lifecycle rules: at most [`TAGS_MAX`].
    pub tags: BTreeMap<String, String>,
    /// What it costs to keep and to read.
    pub storage_class: StorageClass,
    /// By which key it lies encrypted.
    pub encryption: Encryption,
    /// Until when nobody deletes it. The bucket must have Object Lock on.
    pub lock: Option<Lock>,
    /// Nobody deletes it until the hold is taken off ([`super::Objects::set_legal_hold`]).
    pub legal_hold: bool,
}

impl ObjectOptions {
    /// Says what no store takes.
    pub fn check(&self) -> Result<(), InvalidOptions> {
        let no = |why: String| Err(InvalidOptions(why));
        let bytes: usize = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > METADATA_BYTES_MAX {
            return no(format!("{bytes} bytes of metadata, at most {METADATA_BYTES_MAX} fit"));
        }
        for (name, value) in &self.metadata {
            let known =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
            if name.is_empty() || name.len() > METADATA_NAME_MAX || !name.bytes().all(known) {
                return no(format!("metadata {name:?}: a name is 1 to 128 of a-z 0-9 - _"));
            }
            // Outer blanks do not survive a header.
            let printable = value.bytes().all(|b| matches!(b, b' '..=b'~'));
            if !printable || value.trim() != value {
                return no(format!(
                    "metadata {name:?}: a value is printable ASCII, no outer blanks"
                ));
            }
        }
        if self.tags.len() > TAGS_MAX {
            return no(format!("{} tags, at most {TAGS_MAX} fit", self.tags.len()));
        }
        for (name, value) in &self.tags {
            let known = |c: char| {
                c.is_alphanumeric()
                    || matches!(c, ' ' | '+' | '-' | '=' | '.' | '_' | ':' | '/' | '@')
            };
            let named = (1..=TAG_NAME_MAX).contains(&name.chars().count())
                && name.chars().all(known)
                && !name.starts_with("aws:");
            if !named || value.chars().count() > TAG_VALUE_MAX || !value.chars().all(known) {
                return no(format!(
                    "tag {name:?}: 1 to 128 letters, digits, blanks and + - = . _ : / @, a value of at most 256 of them"
                ));
            }
        }
        Ok(())
    }
}

/// S3's storage classes. A directory keeps the name and reads everything at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StorageClass {
    /// Read at once, no shortest term.
    #[default]
    Standard,
    /// Read at once, billed for 30 days at least.
    StandardIa,
    /// The same in one zone: a fire takes it.
    OnezoneIa,
    /// S3 moves it by its use.
    IntelligentTiering,
    /// Read at once, billed for 90 days at least.
    GlacierIr,
    /// Must be restored first, minutes to hours.
    Glacier,
    /// Must be restored first, half a day.
    DeepArchive,
}

/// A text that names no storage class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no storage class: STANDARD, STANDARD_IA, ONEZONE_IA, INTELLIGENT_TIERING, GLACIER_IR, GLACIER or DEEP_ARCHIVE"
)]
pub struct InvalidStorageClass(String);

impl StorageClass {
    /// Every class, cheapest to read first.
    pub const ALL: [Self; 7] = [
        Self::Standard,
        Self::StandardIa,
        Self::OnezoneIa,
        Self::IntelligentTiering,
        Self::GlacierIr,
        Self::Glacier,
        Self::DeepArchive,
    ];

    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::StandardIa => "STANDARD_IA",
            Self::OnezoneIa => "ONEZONE_IA",
            Self::IntelligentTiering => "INTELLIGENT_TIERING",
            Self::GlacierIr => "GLACIER_IR",
            Self::Glacier => "GLACIER",
            Self::DeepArchive => "DEEP_ARCHIVE",
        }
    }

    /// Whether an object of it must be restored before it is read.
    pub const fn needs_restore(self) -> bool {
        matches!(self, Self::Glacier | Self::DeepArchive)
    }
}

impl fmt::Display for StorageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for StorageClass {
    type Err = InvalidStorageClass;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|class| class.name() == text);
        found.ok_or_else(|| InvalidStorageClass(text.chars().take(40).collect()))
    }
}

/// Server-side encryption. A directory notes it and encrypts nothing: that is the disk's part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// What the bucket does by default.
    #[default]
    Bucket,
    /// `AES256`: keys of S3's own.
    S3,
    /// `aws:kms`: that key, or the account's default one.
    Kms {
        /// Id, alias or ARN.
        key_id: Option<String>,
    },
}

/// Who may shorten a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "UPPERCASE")]
#[value(rename_all = "UPPERCASE")]
pub enum LockMode {
    /// Principals with `s3:BypassGovernanceRetention`; nothing here ever asks for it.
    Governance,
    /// Nobody, not the account's root either.
    Compliance,
}

/// A retention: until then no version of the object is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Who may shorten it.
    pub mode: LockMode,
    /// Until when.
    pub until: DateTime<Utc>,
}

/// What is known of an object without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its name.
    pub key: ObjectKey,
    /// Bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: DateTime<Utc>,
    /// As it is stored now; a lifecycle rule may have moved it.
    pub storage_class: StorageClass,
    /// Its retention; may lie in the past.
    pub lock: Option<Lock>,
    /// Whether it is held whatever its retention.
    pub legal_hold: bool,
    /// What it was stored with.
    pub metadata: BTreeMap<String, String>,
}

impl ObjectHead {
    /// What keeps it from being deleted at that time.
    pub fn held(&self, now: DateTime<Utc>) -> Option<Held> {
        let until = self.lock.map(|lock| lock.until).filter(|until| *until > now);
        (until.is_some() || self.legal_hold).then_some(Held { until, legal_hold: self.legal_hold })
    }
}

/// Why an object cannot be deleted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// When its retention ends; none where only a legal hold keeps it, or the store would not say.
    pub until: Option<DateTime<Utc>>,
    /// A legal hold, which has no end of its own.
    pub legal_hold: bool,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.until, self.legal_hold) {
            (Some(until), false) => {
                write!(f, "locked until {}", until.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
            (Some(until), true) => {
                let until = until.to_rfc3339_opts(SecondsFormat::Secs, true);
                write!(f, "under a legal hold, and locked until {until}")
            }
            (None, true) => f.write_str("under a legal hold"),
            (None, false) => f.write_str("locked; the store does not say until when"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(metadata: &[(&str, &str)], tags: &[(&str, &str)]) -> ObjectOptions {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
        };
        ObjectOptions { metadata: map(metadata), tags: map(tags), ..ObjectOptions::default() }
    }

    #[test]
    fn what_s3_would_refuse_is_refused_before_it_is_sent() {
        let (fits, over) = ("v".repeat(METADATA_BYTES_MAX - 1), "v".repeat(METADATA_BYTES_MAX));
        for good in [
            with(&[], &[]),
            with(&[("unit", "run-1"), ("sha-256_x", "")], &[("tenant", "acme"), ("ä b", "")]),
            with(&[("m", &fits)], &[]),
        ] {
            good.check().unwrap();
        }
        let long = "t".repeat(129);
        for (bad, named) in [
            (with(&[("m", &over)], &[]), "2048"),
            (with(&[("Upper", "x")], &[]), "Upper"),
            (with(&[("", "x")], &[]), "a-z"),
            (with(&[("m", "ä")], &[]), "ASCII"),
            (with(&[("m", " x")], &[]), "blanks"),
            (with(&[("m", "a\r\nx-evil: 1")], &[]), "ASCII"),
            (with(&[], &[("aws:own", "x")]), "aws:own"),
            (with(&[], &[("t", "a&b")]), "tag"),
            (with(&[], &[(&long, "")]), "128"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let many = (0..11).map(|n| (format!("t{n}"), String::new())).collect();
        let many = ObjectOptions { tags: many, ..ObjectOptions::default() };
        assert!(many.check().unwrap_err().to_string().contains("11 tags"));
    }

    #[test]
    fn a_storage_class_has_the_names_of_the_wire() {
        for class in StorageClass::ALL {
            assert_eq!(class.name().parse(), Ok(class));
            assert_eq!(serde_json::to_value(class).unwrap(), class.name());
        }
        let error = "COLD".parse::<StorageClass>().unwrap_err().to_string();
        assert!(error.contains("COLD") && error.contains("DEEP_ARCHIVE"), "{error}");
    }
}
