//! The books, compared as sets of ids and hashes: what the clients were told, what PostgreSQL holds,
//! what OpenSearch holds, what a reader finds through the API, what lies dead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::TryStreamExt;
use queue_core::dead_letter::DeadLetter;
use queue_core::driver::ReceiveRequest;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use crate::fleet::{Direct, Fleet, TENANT};
use crate::load::{Hash, Notes, hash};

/// Documents per page of a scroll.
const SCROLL: usize = 5_000;
/// Long enough to read all dead letters once; over before they are read again.
const LOOK: Duration = Duration::from_secs(2);

/// What stands where.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) stored: BTreeMap<Uuid, Hash>,
    pub(crate) indexed: BTreeSet<Uuid>,
    pub(crate) found: BTreeSet<Uuid>,
    /// Rows, documents or results beyond the first of an id, and second logs of one event.
    pub(crate) doubled: usize,
    /// Dead letters of poisoned messages, by body.
    pub(crate) explained: BTreeSet<String>,
    /// Dead letters of anything else, with their reason.
    pub(crate) unexplained: Vec<String>,
}

impl Books {
    pub(crate) async fn read(fleet: &Fleet) -> anyhow::Result<Self> {
        let mut books = Self::default();
        books.read_postgres(&fleet.direct).await.context("reading PostgreSQL")?;
        books.read_opensearch(&fleet.direct).await.context("reading OpenSearch")?;
        books.read_api(fleet).await.context("reading through the API")?;
        books.read_dead_letters(&fleet.direct).await.context("reading dead letters")?;
        Ok(books)
    }

    async fn read_postgres(&mut self, direct: &Direct) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Record<'a> {
            #[serde(borrow)]
            event: &'a RawValue,
        }
        let mut connection = PgConnection::connect(&direct.database).await?;
        // What was accepted; the fleet's own entries, e.g. of the search below, are none of it.
        let query =
            "SELECT id, record FROM logs WHERE tenant = $1 AND action NOT LIKE 'flotilla.%'";
        let mut rows = sqlx::query(query).bind(TENANT).fetch(&mut connection);
        let mut events = BTreeSet::new();
        while let Some(row) = rows.try_next().await? {
            let (id, record): (Uuid, &[u8]) = (row.try_get("id")?, row.try_get("record")?);
            let record: Record = serde_json::from_slice(record)?;
            let hash = hash(record.event.get());
            let again = self.stored.insert(id, hash).is_some() || !events.insert(hash);
            self.doubled += usize::from(again);
        }
        Ok(())
    }

    async fn read_opensearch(&mut self, direct: &Direct) -> anyhow::Result<()> {
        let http = reqwest::Client::new();
        let url = &direct.opensearch;
        http.post(format!("{url}/audit*/_refresh")).send().await?.error_for_status()?;
        let accepted = json!({"bool": {"must_not": {"prefix": {"action": "flotilla."}}}});
        let first = json!({"size": SCROLL, "_source": false, "query": accepted, "sort": ["_doc"]});
        let search = http.post(format!("{url}/audit*/_search?scroll=1m")).json(&first);
        let mut page: Value = search.send().await?.error_for_status()?.json().await?;
        loop {
            let hits = page["hits"]["hits"].as_array().context("hits")?;
            if hits.is_empty() {
                return Ok(());
            }
            for hit in hits {
                let id =
                    hit["_id"].as_str().and_then(|id| id.rsplit('/').next()).context("an id")?;
                self.doubled += usize::from(!self.indexed.insert(id.parse()?));
            }
            let next = json!({"scroll": "1m", "scroll_id": page["_scroll_id"]});
            let next = http.post(format!("{url}/_search/scroll")).json(&next);
            page = next.send().await?.error_for_status()?.json().await?;
        }
    }

    async fn read_api(&mut self, fleet: &Fleet) -> anyhow::Result<()> {
        let http = reqwest::Client::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = vec![("limit", "500".to_owned())];
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let get = http.get(format!("{}/logs", fleet.api)).query(&query).bearer_auth(&fleet.key);
            let page: Value = get.send().await?.error_for_status()?.json().await?;
            let logs = page["logs"].as_array().context("logs")?;
            let own = |log: &&Value| {
                log["event"]["action"]
                    .as_str()
                    .is_some_and(|action| action.starts_with("flotilla."))
            };
            for log in logs.iter().filter(|log| !own(log)) {
                let id = log["id"].as_str().context("an id")?.parse()?;
                self.doubled += usize::from(!self.found.insert(id));
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(()),
            }
        }
    }

    async fn read_dead_letters(&mut self, direct: &Direct) -> anyhow::Result<()> {
        let request = ReceiveRequest { max: 10, wait: Duration::ZERO, lease: LOOK };
        loop {
            let letters = direct.dead_letters.receive(request).await?;
            if letters.is_empty() {
                return Ok(());
            }
            for letter in letters {
                match DeadLetter::from_json(&letter.body) {
                    Ok(told) if told.code == "message-not-json" => {
                        self.explained.insert(told.body);
                    }
                    Ok(told) => self.unexplained.push(format!("{}: {}", told.code, told.message)),
                    Err(_) => self.unexplained.push(format!("no reason: {:.80}", letter.body)),
                }
            }
        }
    }

    /// Everything that does not agree, in words.
    pub(crate) fn agree(&self, notes: &Notes) -> anyhow::Result<()> {
        let lost = self.lost(notes).len();
        let changed = |(id, hash): &(&Uuid, &Hash)| self.stored.get(id).is_some_and(|h| h != *hash);
        let changed = notes.accepted.iter().filter(changed).count();
        let told = |(id, hash): &(&Uuid, &Hash)| {
            notes.accepted.contains_key(id) || notes.doubtful.contains(*hash)
        };
        let untold = self.stored.iter().filter(|stored| !told(stored)).count();
        let stored: BTreeSet<Uuid> = self.stored.keys().copied().collect();
        let indexed = stored.symmetric_difference(&self.indexed).count();
        let found = stored.symmetric_difference(&self.found).count();
        let poison = self.explained.symmetric_difference(&notes.poison).count();
        let wrong = [
            (lost, "accepted and not stored"),
            (changed, "not stored as they were sent"),
            (untold, "stored though nobody sent them"),
            (indexed, "stored or indexed, and not both"),
            (found, "stored or found, and not both"),
            (self.doubled, "doubled"),
            (poison, "poisoned and without a dead letter, or the other way round"),
        ];
        let mut wrong: Vec<String> = wrong
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        wrong.extend(self.unexplained.iter().take(5).map(|letter| format!("dead: {letter}")));
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }

    pub(crate) fn lost(&self, notes: &Notes) -> Vec<Uuid> {
        notes.accepted.keys().filter(|id| !self.stored.contains_key(id)).copied().collect()
    }

    /// Stored though nobody was told so: sent without a key, and the answer was lost.
    pub(crate) fn in_doubt(&self, notes: &Notes) -> usize {
        self.stored.keys().filter(|id| !notes.accepted.contains_key(id)).count()
    }
}
