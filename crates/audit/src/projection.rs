//! From a log to its search document: always the whole document, built from the record's bytes and
//! what the revisions add up to, so that writing it twice or in any order ends the same.
//! Metadata is handed over verbatim; numbers in it may be larger than any number type.

use sinks::search::{Document, Entity};

use crate::model::StoredLog;
use crate::record::{Party, Record};

/// What a log's revisions add up to.
#[derive(Clone, Debug, Default)]
pub struct Revisions {
    /// How many there are.
    pub count: u64,
    /// The tags that hold now.
    pub tags: Vec<String>,
    /// The annotation that holds now.
    pub annotation: Option<String>,
}

/// The document of a record.
pub fn document(record: Record<'_>, revisions: Revisions) -> Document {
    let event = record.event;
    let context = event.context;
    let text = [context.ip, context.user_agent, context.session, context.request_id];
    Document {
        tenant: record.tenant,
        id: record.id,
        class: record.class,
        recorded_at: record.recorded_at,
        revision: revisions.count,
        occurred_at: event.occurred_at,
        actor: entity(event.actor),
        action: event.action.into_string(),
        targets: event.targets.into_iter().map(entity).collect(),
        outcome: event.outcome.as_str().to_owned(),
        tags: revisions.tags,
        annotation: revisions.annotation,
        metadata: event.metadata.map(ToOwned::to_owned),
        text: text.into_iter().flatten().map(crate::record::Text::into_string).collect(),
    }
}

/// The document of a stored log.
pub fn of_stored(log: &StoredLog) -> Result<Document, serde_json::Error> {
    let revisions = Revisions {
        count: u64::try_from(log.revision).unwrap_or(0),
        tags: log.tags.clone().unwrap_or_default(),
        annotation: log.annotation.clone(),
    };
    Ok(document(Record::parse(&log.record)?, revisions))
}

fn entity(party: Party<'_>) -> Entity {
    Entity {
        kind: party.kind.into_string(),
        id: party.id.into_string(),
        name: party.name.map(crate::record::Text::into_string),
    }
}
