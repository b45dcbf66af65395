//! What compression and the claim check cost: messages of 64 KiB as they are, compressed, and in an
//! object store of files, drained in turns. The median of the turns' ratios, so that what else happens
//! on the machine falls on all three.

use std::sync::{Arc, Mutex};

use contracts::catalogue::{AUDIT_INDEX, QueueSpec};
use contracts::{DecodeError, Envelope, EnvelopeId, Header, Message};
use queue_core::claim::{ClaimStore, Packer};
use queue_core::{Delivery, Failure, Worker};
use serde_json::value::RawValue;
use sinks::objects::{ClaimObjects, Files, SharedObjects};

use crate::books::Books;
use crate::report::{Figure, Report};
use crate::sqs::SqsLocal;
use crate::{machine, median, samples, work_off};

/// Turns of which the middle counts.
const TURNS: usize = 5;
/// Bytes of a body, half of them noise.
const BODY_BYTES: usize = 64 << 10;
/// A message may have so many; one that is claimed has fewer, one that is not has more.
const CLAIMED_BYTES: usize = 4 << 10;
const PLAIN_BYTES: usize = 1 << 20;
const UNIT: &str = "messages/s";

/// How bodies travel.
#[derive(Clone, Copy)]
enum Way {
    Plain,
    Compressed,
    Claimed,
}

/// A message of which only its size matters.
struct Heavy;

impl Message for Heavy {
    const QUEUE: &'static QueueSpec = &AUDIT_INDEX;
    fn kind(&self) -> &'static str {
        "HEAVY"
    }
    fn version(&self) -> u32 {
        1
    }
    fn body_json(&self) -> Result<String, serde_json::Error> {
        Ok(format!("\"{}\"", text()))
    }
    /// A body that did not come back whole is malformed.
    fn decode(header: &Header, body: &RawValue) -> Result<Self, DecodeError> {
        match body.get().len() {
            length if length == BODY_BYTES + 2 => Ok(Self),
            length => Err(DecodeError::Malformed {
                kind: header.kind.clone(),
                reason: format!("{length} bytes"),
            }),
        }
    }
}

/// As compressible as JSON of ids and numbers: hexadecimal noise.
fn text() -> String {
    (0..BODY_BYTES / 32).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect()
}

struct Reader {
    claims: Arc<dyn ClaimStore>,
    seen: Mutex<Vec<u128>>,
}

impl Worker for Reader {
    const NAME: &'static str = "reader";
    type Message = Heavy;
    async fn handle(&self, delivery: Delivery<Heavy>) -> Result<(), Failure> {
        let id = delivery.header.id.0.as_u128();
        self.seen.lock().expect("no handler panics").push(id);
        Ok(())
    }
    fn claims(&self) -> Option<Arc<dyn ClaimStore>> {
        Some(Arc::clone(&self.claims))
    }
}

/// Messages, and their ids.
async fn messages(
    way: Way,
    count: usize,
    claims: &Arc<dyn ClaimStore>,
) -> anyhow::Result<(Vec<u128>, Vec<String>)> {
    let packer = Packer::new(Some(Arc::clone(claims)));
    let (packer, room) = match way {
        Way::Plain => (packer.compressing_from(PLAIN_BYTES), PLAIN_BYTES),
        Way::Compressed => (packer.compressing_from(CLAIMED_BYTES), PLAIN_BYTES),
        Way::Claimed => (packer, CLAIMED_BYTES),
    };
    let (mut ids, mut texts) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..count {
        let header =
            Header { id: EnvelopeId(uuid::Uuid::now_v7()), ..samples::header(machine::now()) };
        ids.push(header.id.0.as_u128());
        let envelope = Envelope::wrap(header, &Heavy)?;
        texts.push(packer.pack(&envelope, room).await?.text);
    }
    let (wrong, bytes) = match way {
        Way::Plain => (texts[0].len() < BODY_BYTES, "inline"),
        Way::Compressed => (!(CLAIMED_BYTES..BODY_BYTES).contains(&texts[0].len()), "compressed"),
        Way::Claimed => (texts[0].len() > CLAIMED_BYTES, "claimed"),
    };
    anyhow::ensure!(!wrong, "{} bytes are not {bytes}", texts[0].len());
    Ok((ids, texts))
}

/// Takes the figures.
pub async fn run(report: &mut Report, count: usize) -> anyhow::Result<()> {
    let server = SqsLocal::start().await?;
    let folder = tempfile::tempdir()?;
    let objects: SharedObjects = Arc::new(Files::new(folder.path()));
    let claims: Arc<dyn ClaimStore> = Arc::new(ClaimObjects::new(objects));
    let mut rates: [Vec<f64>; 3] = Default::default();
    let mut books = Books::default();
    for _ in 0..TURNS {
        for (at, way) in [Way::Plain, Way::Compressed, Way::Claimed].into_iter().enumerate() {
            let (ids, texts) = messages(way, count, &claims).await?;
            let reader = Arc::new(Reader { claims: Arc::clone(&claims), seen: Mutex::default() });
            let run = work_off::run(&server, Arc::clone(&reader), texts).await?;
            let seen = reader.seen.lock().expect("no handler panics");
            books = books.and(Books::compare(&ids, &seen));
            rates[at].push(count as f64 / run.took.as_secs_f64());
        }
    }
    let [plain, compressed, claimed] = rates;
    let note = format!("{} KiB per message, half of it noise", BODY_BYTES >> 10);
    let figure = Figure::new("large bodies, inline", median(&plain), UNIT);
    report.add(figure.books(books).beside(note));
    for (name, rates) in [("compression", compressed), ("the claim check, files", claimed)] {
        let ratios: Vec<f64> =
            rates.iter().zip(&plain).map(|(with, without)| with / without).collect();
        let name = format!("cost of {name}: with / inline");
        let figure = Figure::new(name, median(&ratios), "ratio").books(books);
        report.add(figure.beside(format!("{:.0} {UNIT}; median of {TURNS} turns", median(&rates))));
    }
    Ok(())
}
