//! Search on OpenSearch: one index per class and month behind aliases, written by `_bulk` with
//! external versions. It never deletes or re-indexes by query, and never reads a document back.

mod api;
mod bulk;
mod query;
mod schema;
mod targets;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use contracts::{LogId, Tenant};
use opensearch::http::Method;
use queue_core::Probe;

use self::api::{Api, CallError};
use self::bulk::{Outcome, Side, Slot};
use self::schema::Names;
use self::targets::Directory;
use super::config::SearchConfig;
use super::document::{Document, DocumentRef};
use super::partition::Partition;
use super::query::Query;
use super::{Indexed, PAGE_MAX, Page, Rebuild, Rebuilt, Search, SortKey, admit_remaining};
use crate::error::{ItemError, SinkError, SinkErrorKind};

/// The sink's name in metrics and errors.
pub const NAME: &str = "opensearch";
/// How often a document is sent again because its partition has moved.
const MOVES_MAX: usize = 3;
/// The probe gives up after this.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Search on one OpenSearch cluster, under one name prefix.
#[derive(Debug)]
pub struct OpenSearchSink {
    api: Api,
    names: Names,
    directory: Directory,
    ensured: AtomicBool,
    bulk_bytes_max: usize,
}

impl OpenSearchSink {
    /// Prepares a client; connects when first used.
    pub async fn new(config: &SearchConfig) -> Result<Self, SinkError> {
        Ok(Self::on(config, Api::new(config).await?))
    }

    /// Prepares a client that signs its calls (AWS Signature Version 4) with the credentials and
    /// the region of `aws`, whatever `OPENSEARCH_AUTH` says.
    pub fn signed(config: &SearchConfig, aws: &aws_config::SdkConfig) -> Result<Self, SinkError> {
        Ok(Self::on(config, Api::signed(config, aws)?))
    }

    fn on(config: &SearchConfig, api: Api) -> Self {
        let names = Names::new(&config.opensearch_index_prefix);
        Self {
            directory: Directory::new(api.clone(), names.clone()),
            api,
            names,
            ensured: AtomicBool::new(false),
            bulk_bytes_max: bulk::BULK_BYTES_MAX,
        }
    }

    /// With another bound on a request's bytes than 8 MiB, where a proxy allows less.
    #[must_use]
    pub fn with_bulk_bytes_max(mut self, bytes: usize) -> Self {
        self.bulk_bytes_max = bytes;
        self
    }

    async fn ensure_once(&self) -> Result<(), SinkError> {
        if self.ensured.load(Ordering::Acquire) { Ok(()) } else { self.ensure().await }
    }

    /// Writes slots through wherever their partitions are now; `make` builds the slot at a
    /// position for those targets.
    async fn write(
        &self,
        partitions: &[Partition],
        make: impl Fn(usize, &[(Side, &str)]) -> Slot + Sync,
    ) -> Result<Vec<Outcome>, SinkError> {
        self.ensure_once().await?;
        let mut outcomes = vec![Outcome::Moved; partitions.len()];
        for _ in 0..MOVES_MAX {
            let open: Vec<usize> =
                (0..outcomes.len()).filter(|at| outcomes[*at] == Outcome::Moved).collect();
            if open.is_empty() {
                return Ok(outcomes);
            }
            let mut targets = HashMap::new();
            for at in &open {
                let partition = partitions[*at];
                if let Entry::Vacant(unknown) = targets.entry(partition) {
                    unknown.insert(self.directory.targets(partition).await?);
                }
            }
            let slots: Vec<Slot> =
                open.iter().map(|at| make(*at, &targets[&partitions[*at]].all())).collect();
            for (at, outcome) in open.into_iter().zip(self.send(&slots).await?) {
                if outcome == Outcome::Moved {
                    self.directory.forget(partitions[at]);
                }
                outcomes[at] = outcome;
            }
        }
        for outcome in &mut outcomes {
            if *outcome == Outcome::Moved {
                *outcome = Outcome::Failed(ItemError::Retry("its index keeps moving".into()));
            }
        }
        Ok(outcomes)
    }

    /// Sends slots in requests within the byte bound, one after the other.
    async fn send(&self, slots: &[Slot]) -> Result<Vec<Outcome>, SinkError> {
        let mut outcomes = Vec::with_capacity(slots.len());
        let slots: Vec<&Slot> = slots.iter().collect();
        let mut rest = slots.as_slice();
        let mut bytes_max = self.bulk_bytes_max;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(bulk::chunk_len(rest, bytes_max));
            let body: String = chunk.iter().map(|slot| slot.lines.as_str()).collect();
            let bytes = body.len();
            let query = [("filter_path", bulk::FILTER_PATH)];
            let answer = match self.api.call(Method::Post, "_bulk", &query, Some(body)).await {
                Ok(answer) => answer,
                Err(CallError::CutOff(why)) => {
                    outcomes.extend(chunk.iter().map(|_| retry(&why)));
                    rest = after;
                    continue;
                }
                Err(CallError::Whole(error)) => return Err(error),
            };
            match answer.status {
                413 if chunk.len() > 1 => bytes_max = bytes / 2,
                413 => {
                    let why = format!("{bytes} bytes are over the engine's request limit");
                    outcomes.push(Outcome::Failed(ItemError::Reject(why)));
                    rest = after;
                }
                _ if answer.is_success() => {
                    outcomes.extend(bulk::read(chunk, &answer.body));
                    rest = after;
                }
                _ => return Err(answer.into_error()),
            }
        }
        Ok(outcomes)
    }
}

fn retry(why: &str) -> Outcome {
    Outcome::Failed(ItemError::Retry(why.to_owned()))
}

fn indexed(outcome: Outcome) -> Result<Indexed, ItemError> {
    match outcome {
        Outcome::Written => Ok(Indexed::Written),
        Outcome::Superseded => Ok(Indexed::Superseded),
        Outcome::Moved => Err(ItemError::Retry("its index was replaced".into())),
        Outcome::Failed(error) => Err(error),
    }
}

#[async_trait]
impl Search for OpenSearchSink {
    async fn ensure(&self) -> Result<(), SinkError> {
        let path = format!("_index_template/{}", self.names.template());
        self.api.json(Method::Put, &path, &[], Some(&self.names.template_body())).await?;
        self.ensured.store(true, Ordering::Release);
        Ok(())
    }

    async fn index(
        &self,
        documents: &[Document],
    ) -> Result<Vec<Result<Indexed, ItemError>>, SinkError> {
        let partitions: Vec<_> =
            documents.iter().map(|d| Partition::of(d.class, d.recorded_at)).collect();
        let outcomes =
            self.write(&partitions, |at, targets| Slot::index(targets, &documents[at])).await?;
        Ok(outcomes.into_iter().map(indexed).collect())
    }

    async fn erase(&self, logs: &[DocumentRef]) -> Result<Vec<Result<(), ItemError>>, SinkError> {
        let partitions: Vec<_> =
            logs.iter().map(|log| Partition::of(log.class, log.recorded_at)).collect();
        let outcomes =
            self.write(&partitions, |at, targets| Slot::erase(targets, &logs[at])).await?;
        Ok(outcomes.into_iter().map(|outcome| indexed(outcome).map(|_| ())).collect())
    }

    async fn search(
        &self,
        tenant: &Tenant,
        query: &Query,
        limit: usize,
        after: Option<SortKey>,
    ) -> Result<Page, SinkError> {
        let Some(filter) = query::filter(tenant, query) else { return Ok(Page::default()) };
        let limit = limit.clamp(1, PAGE_MAX);
        let path = format!("{}/_search", self.names.read());
        let parameters = [
            ("routing", tenant.as_str()),
            ("ignore_unavailable", "true"),
            ("allow_partial_search_results", "false"),
        ];
        let request = query::request(&filter, limit, after);
        let answer = self.api.json(Method::Post, &path, &parameters, Some(&request)).await?;
        query::page(answer, limit)
    }

    async fn count(&self, tenant: &Tenant, query: &Query) -> Result<u64, SinkError> {
        let Some(filter) = query::filter(tenant, query) else { return Ok(0) };
        let path = format!("{}/_count", self.names.read());
        let parameters = [("routing", tenant.as_str()), ("ignore_unavailable", "true")];
        let request = serde_json::json!({ "query": filter });
        let answer = self.api.json(Method::Post, &path, &parameters, Some(&request)).await?;
        query::count(answer)
    }

    async fn remaining(&self, tenant: &Tenant, logs: &[LogId]) -> Result<u64, SinkError> {
        admit_remaining(NAME, logs)?;
        let path = format!("{}/_count", self.names.read());
        let parameters = [("routing", tenant.as_str()), ("ignore_unavailable", "true")];
        let request = query::among(tenant, logs);
        let answer = self.api.json(Method::Post, &path, &parameters, Some(&request)).await?;
        query::count(answer)
    }

    async fn refresh(&self) -> Result<(), SinkError> {
        let path = format!("{}/_refresh", self.names.read());
        let parameters = [("ignore_unavailable", "true")];
        self.api.json(Method::Post, &path, &parameters, None).await.map(|_| ())
    }

    async fn begin_rebuild(&self, partition: Partition) -> Result<Rebuild, SinkError> {
        self.ensure().await?;
        let target = self.directory.begin(partition).await?;
        Ok(Rebuild { partition, target })
    }

    async fn fill(
        &self,
        rebuild: &Rebuild,
        documents: &[Document],
    ) -> Result<Vec<Result<Indexed, ItemError>>, SinkError> {
        let targets = [(Side::Serving, rebuild.target.as_str())];
        let slots: Vec<Slot> =
            documents.iter().map(|document| Slot::index(&targets, document)).collect();
        let outcomes = self.send(&slots).await?;
        if outcomes.contains(&Outcome::Moved) {
            let why = "the rebuild was abandoned or finished by another; begin again";
            return Err(SinkError::new(NAME, SinkErrorKind::Refused, why));
        }
        Ok(outcomes.into_iter().map(indexed).collect())
    }

    async fn finish_rebuild(&self, rebuild: Rebuild) -> Result<Rebuilt, SinkError> {
        // What was filled must be visible at the instant it begins to serve.
        let path = format!("{}/_refresh", rebuild.target);
        self.api.json(Method::Post, &path, &[], None).await?;
        let now = self.directory.finish(rebuild.partition, &rebuild.target).await?;
        Ok(Rebuilt { now, dropped: None })
    }

    async fn abandon_rebuild(&self, rebuild: Rebuild) -> Result<(), SinkError> {
        self.directory.abandon(rebuild.partition, &rebuild.target).await
    }
}

#[async_trait]
impl Probe for OpenSearchSink {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn probe(&self) -> Result<(), String> {
        let health = self.api.json(Method::Get, "_cluster/health", &[], None);
        let health = tokio::time::timeout(PROBE_TIMEOUT, health)
            .await
            .map_err(|_| format!("no answer within {} s", PROBE_TIMEOUT.as_secs()))?
            .map_err(|error| error.to_string())?;
        match health.get("status").and_then(serde_json::Value::as_str) {
            Some("green" | "yellow") => Ok(()),
            status => Err(format!("the cluster is {}", status.unwrap_or("of unknown health"))),
        }
    }
}
