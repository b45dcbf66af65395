//! What a log looks like to a search engine, and the text of it that words are taken from.
//! Values are kept as sent; how they are cut to the engines' limits is in `fields` and `tokens`.

use chrono::{DateTime, Utc};
use contracts::{LogId, RetentionClass, Tenant};
use serde_json::value::RawValue;

use super::fields;

/// An actor or a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entity {
    /// E.g. `user`; empty when the log has none.
    pub kind: String,
    /// Its id; empty when the log has none.
    pub id: String,
    /// For people; searched as text only.
    pub name: Option<String>,
}

/// One log as it is indexed: the whole document, made from what Postgres holds.
#[derive(Clone, Debug)]
pub struct Document {
    /// Whose log.
    pub tenant: Tenant,
    /// The log.
    pub id: LogId,
    /// Its retention class, which chooses the index.
    pub class: RetentionClass,
    /// The server's time, microseconds; orders results and chooses the index.
    pub recorded_at: DateTime<Utc>,
    /// Postgres's revision, 0 for a log that was never changed. A lower one never replaces a
    /// higher one.
    pub revision: u64,
    /// The client's time.
    pub occurred_at: Option<DateTime<Utc>>,
    /// Who did it.
    pub actor: Entity,
    /// What was done.
    pub action: String,
    /// To what.
    pub targets: Vec<Entity>,
    /// `success`, `failure`, `denied` or `unknown`.
    pub outcome: String,
    /// From the newest revision.
    pub tags: Vec<String>,
    /// From the newest revision; searched as text.
    pub annotation: Option<String>,
    /// The event's `metadata` object verbatim: its values are filters, its strings are text too.
    pub metadata: Option<Box<RawValue>>,
    /// More text to search, e.g. the context's user agent and addresses; one passage each, phrases
    /// do not cross them.
    pub text: Vec<String>,
}

impl Document {
    /// Everything that words are taken from, most important first, since a document's tokens are
    /// bounded: action, actor, targets, tags, annotation, extra text, metadata's values.
    pub fn passages(&self) -> Vec<String> {
        let mut passages = vec![self.action.clone(), self.outcome.clone()];
        for entity in std::iter::once(&self.actor).chain(&self.targets) {
            passages.extend(entity.name.clone());
            passages.push(entity.id.clone());
            passages.push(entity.kind.clone());
        }
        passages.extend(self.tags.iter().cloned());
        passages.extend(self.annotation.clone());
        passages.extend(self.text.iter().cloned());
        if let Some(metadata) = &self.metadata {
            passages.extend(fields::metadata(metadata).texts);
        }
        passages.retain(|passage| !passage.is_empty());
        passages
    }

    /// Which document it is.
    pub fn reference(&self) -> DocumentRef {
        DocumentRef {
            tenant: self.tenant.clone(),
            id: self.id,
            class: self.class,
            recorded_at: self.recorded_at,
        }
    }
}

/// Which document, and where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentRef {
    /// Whose log.
    pub tenant: Tenant,
    /// The log.
    pub id: LogId,
    /// Its retention class.
    pub class: RetentionClass,
    /// The server's time.
    pub recorded_at: DateTime<Utc>,
}
