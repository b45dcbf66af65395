//! Bulks as fast as they are taken, until every event is searchable: events per second, the whole way.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::books::Books;
use crate::client::Client;
use crate::load::{self, Load};
use crate::{ids, machine, samples};

const CONNECTIONS: usize = 4;
/// After the last answer; what is not searchable by then is lost.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at whether everything is searchable.
const PAUSE: Duration = Duration::from_millis(50);

/// How it went.
pub struct Bulk {
    /// Events per second from the first request until everything was searchable.
    pub rate: f64,
    /// Events per second that the API took.
    pub taken: f64,
    /// Every accepted id.
    pub accepted: Vec<u128>,
    /// When the load began.
    pub since: DateTime<Utc>,
    /// Accepted against found by walking through all pages.
    pub books: Books,
    /// Other answers than 202, by status.
    pub refused: String,
}

/// Sends for `seconds`, then waits until `searchable(since)` says that so many are there.
pub async fn measure<F: Future<Output = anyhow::Result<u64>>>(
    addr: SocketAddr,
    key: &str,
    seconds: u64,
    searchable: impl Fn(DateTime<Utc>) -> F,
) -> anyhow::Result<Bulk> {
    let (since, start) = (machine::now(), Instant::now());
    let outcome = load::run(Load {
        addr,
        connections: CONNECTIONS,
        duration: Duration::from_secs(seconds),
        rate: None,
        requests: samples::bulks(&format!("Bearer {key}")),
        answers: None,
    })
    .await?;
    let accepted = ids::of_answers(&outcome.bodies)?;
    let taken = accepted.len() as f64 / outcome.elapsed.as_secs_f64();
    let deadline = Instant::now() + PATIENCE;
    while searchable(since).await? < accepted.len() as u64 && Instant::now() < deadline {
        tokio::time::sleep(PAUSE).await;
    }
    let took = start.elapsed();
    // Totals only stop the clock; what counts are the ids.
    let found = Client::new(addr, key).walk((since, None)).await?;
    let books = Books::compare(&accepted, &found);
    let refused =
        if outcome.other.is_empty() { "none".into() } else { format!("{:?}", outcome.other) };
    let rate = (accepted.len() - books.lost) as f64 / took.as_secs_f64();
    Ok(Bulk { rate, taken, accepted, since, books, refused })
}
