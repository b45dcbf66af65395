//! The emulator's two protocols, bytes in and bytes out, on a broker that has queues and messages.

use sqs_emulator::codec::{json, query};
use sqs_emulator::{Broker, BrokerConfig, Caller, Request, Response, SqsError};

use crate::corpus::{Corpus, Session};

const HOST: &str = "localhost:4566";
const XML: query::Format = query::Format::Xml;

#[derive(Clone)]
struct Emulator {
    broker: Broker,
    caller: Caller,
    now: i64,
}

impl Emulator {
    fn new() -> Self {
        let broker = Broker::new(BrokerConfig { seed: 1, ..BrokerConfig::default() });
        Self { broker, caller: Caller::default(), now: 1_000_000 }
    }

    /// After the files of the corpus, in order, each of which is accepted; what sessions start from is
    /// the state before the first that empties or deletes.
    fn after(corpus: &Corpus, ask: impl Fn(&mut Self, &[u8]) -> bool) -> Self {
        let (mut emulator, mut start) = (Self::new(), None);
        for file in corpus.files() {
            let text = String::from_utf8_lossy(file);
            if text.contains("PurgeQueue") {
                start.get_or_insert_with(|| emulator.clone());
            }
            assert!(ask(&mut emulator, file), "{text}");
        }
        start.unwrap_or(emulator)
    }

    fn call(&mut self, request: Result<Request, SqsError>) -> Result<Response, SqsError> {
        self.now += 300;
        self.broker.advance(self.now);
        let before = self.total();
        let request = request?;
        let response = self.broker.call(self.now, &self.caller, request.clone());
        if let (Err(_), Request::SendMessage { .. }) = (&response, &request) {
            assert!(self.total() <= before, "a refused message is there");
        }
        response
    }

    /// Messages of the queue that the corpus uses.
    fn total(&mut self) -> u64 {
        let names = vec!["All".to_owned()];
        let queue = Some(self.caller.queue("q"));
        let get = Request::GetQueueAttributes { queue, names };
        let Ok(Response::Attributes(values)) = self.broker.call(self.now, &self.caller, get) else {
            return 0;
        };
        let number = |name: &str| values[name].parse::<u64>().unwrap();
        number("ApproximateNumberOfMessages")
            + number("ApproximateNumberOfMessagesNotVisible")
            + number("ApproximateNumberOfMessagesDelayed")
    }
}

/// A file is a line with the action, then the body.
fn ask_json(emulator: &mut Emulator, input: &[u8]) -> bool {
    let line = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (action, body) = (&input[..line], input.get(line + 1..).unwrap_or_default());
    let target = format!("AmazonSQS.{}", String::from_utf8_lossy(action));
    let asked = json::decode(Some(&target), body, &emulator.caller);
    let reply = match emulator.call(asked) {
        Ok(response) => json::encode(&response, HOST),
        Err(error) => json::encode_error(&error),
    };
    let said =
        reply.body.is_empty() || serde_json::from_slice::<serde_json::Value>(&reply.body).is_ok();
    assert!(said, "{:?}", reply.body);
    assert_eq!(reply.query_error.is_some(), reply.status != 200);
    reply.status == 200
}

/// A file is a form.
fn ask_query(emulator: &mut Emulator, input: &[u8]) -> bool {
    let reply = match query::decode("/", None, input, &emulator.caller) {
        Ok(None) => query::no_action(),
        Ok(Some(call)) => match emulator.call(Ok(call.request)) {
            Ok(response) => query::encode(XML, call.action, &response, HOST, "id"),
            Err(error) => query::encode_error(XML, &error, "id"),
        },
        Err(error) => query::encode_error(XML, &error, "id"),
    };
    let text = std::str::from_utf8(&reply.body).unwrap();
    roxmltree::Document::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    reply.status == 200
}

#[test]
fn json_protocol() {
    let corpus = Corpus::read("json");
    let emulator = Emulator::after(&corpus, ask_json);
    bolero::check!().with_type::<Session>().for_each(|session| {
        let mut emulator = emulator.clone();
        for input in corpus.session(session) {
            ask_json(&mut emulator, &input);
        }
    });
}

#[test]
fn query_protocol() {
    let corpus = Corpus::read("query");
    let emulator = Emulator::after(&corpus, ask_query);
    bolero::check!().with_type::<Session>().for_each(|session| {
        let mut emulator = emulator.clone();
        for input in corpus.session(session) {
            ask_query(&mut emulator, &input);
        }
    });
}

/// What the emulator keeps on disk, should its checksum ever hold over other bytes.
#[test]
fn journal() {
    let mut emulator = Emulator::new();
    emulator.broker.keep_journal();
    for file in Corpus::read("json").files() {
        ask_json(&mut emulator, file);
    }
    let journals = Corpus::from(vec![emulator.broker.take_journal()]);
    let replay = |bytes: &[u8]| Broker::new(BrokerConfig::default()).replay(bytes);
    assert!(journals.files().all(|journal| replay(journal).is_ok()));
    bolero::check!().with_type::<Session>().for_each(|session| {
        for journal in journals.session(session) {
            let _refused = replay(&journal);
        }
    });
}
