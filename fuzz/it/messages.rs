//! The envelope and every message type: what is read is written back as the same.

use std::path::{Path, PathBuf};

use chrono::DateTime;
use contracts::audit::IndexMessage;
use contracts::audit::lifecycle::{ArchiveMessage, CleanupMessage, RetentionMessage};
use contracts::legacy::BareMessage;
use contracts::message::{Bare, in_envelope};
use contracts::packing::{Claim, Claimed, Encoding};
use contracts::{Body, Envelope, Message};

use crate::corpus::{Corpus, Input};

/// The golden files of every type and version, and envelopes of other shapes.
fn corpus() -> Corpus {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read_dir(here.join("../crates/contracts/golden")).unwrap();
    let mut folders: Vec<PathBuf> = golden.map(|folder| folder.unwrap().path()).collect();
    folders.push(here.join("corpus/envelope"));
    Corpus::of(&folders)
}

fn envelope_of(text: &str) -> Option<Envelope> {
    let envelope = Envelope::from_json(text).ok()?;
    // A body that is not ASCII is copied as it is; the API never makes one.
    if let Some(again) = envelope.to_json().ok().filter(|_| text.is_ascii()) {
        let same = Envelope::from_json(&again).unwrap_or_else(|error| panic!("{error}: {again}"));
        assert_eq!(same.header, envelope.header, "{again}");
        match (&same.body, &envelope.body) {
            (Body::Inline(same), Body::Inline(body)) => assert_eq!(same.get(), body.get()),
            (Body::Gzip(same), Body::Gzip(packed)) => assert_eq!(same, packed),
            (Body::Claim(same), Body::Claim(claim)) => assert_eq!(same, claim),
            other => panic!("{other:?}"),
        }
    }
    opened(&envelope);
    Some(envelope)
}

/// What is packed opens into no more than it says (spaces around it go), or not at all.
fn opened(envelope: &Envelope) {
    if let Body::Gzip(packed) = &envelope.body
        && let Ok(body) = packed.unpack()
    {
        assert!(body.get().len() as u64 <= packed.bytes, "{body}");
    }
}

/// A message that is read is written and read as the same one.
fn message_of<M: Message>(envelope: &Envelope) -> bool {
    let Body::Inline(body) = &envelope.body else { return false };
    let Ok(message) = M::decode(&envelope.header, body) else { return false };
    let (kind, version) = (message.kind(), message.version());
    let Ok(wrapped) = Envelope::wrap(envelope.header.clone(), &message) else { return false };
    let Body::Inline(written) = &wrapped.body else { panic!("wrapped in place") };
    let again =
        M::decode(&wrapped.header, written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!((again.kind(), again.version()), (kind, version));
    assert_eq!(again.body_json().unwrap(), written.get());
    true
}

#[test]
fn envelope() {
    let corpus = corpus();
    for file in corpus.files() {
        assert!(envelope_of(std::str::from_utf8(file).unwrap()).is_some());
    }
    bolero::check!().with_type::<Input>().for_each(|input| {
        if let Ok(text) = String::from_utf8(corpus.make(input)) {
            envelope_of(&text);
        }
    });
}

/// The bytes of a claimed object, which anybody may have put there.
#[test]
fn packed_bodies() {
    let body = r#"{"a":[1,2.50,"x"]}"#.to_owned();
    let objects =
        Corpus::from(vec![contracts::packing::compress(&body), body.clone().into_bytes()]);
    let claimed = |encoding| Claimed {
        claim: Claim { bucket: "b".into(), key: "k".into(), sha256: String::new(), size: 0 },
        encoding,
        bytes: body.len() as u64,
    };
    let ways = [Encoding::Gzip, Encoding::Json].map(claimed);
    for (way, object) in ways.iter().zip(objects.files()) {
        assert_eq!(way.unpack(object).unwrap().get(), body);
    }
    bolero::check!().with_type::<Input>().for_each(|input| {
        let object = objects.make(input);
        for unpacked in ways.iter().filter_map(|way| way.unpack(&object).ok()) {
            assert!(unpacked.get().len() <= body.len(), "{unpacked}");
        }
    });
}

#[test]
fn index_messages() {
    let corpus = corpus();
    let read = |text: &str| {
        envelope_of(text).is_some_and(|envelope| message_of::<IndexMessage>(&envelope))
    };
    let known = corpus.files().filter(|file| read(std::str::from_utf8(file).unwrap())).count();
    assert!(known >= 4, "one of each type: {known}");
    bolero::check!().with_type::<Input>().for_each(|input| {
        if let Ok(text) = String::from_utf8(corpus.make(input)) {
            read(&text);
        }
    });
}

/// Those of the archive, cleanup and retention queues; no type is on two of them.
#[test]
fn lifecycle_messages() {
    let corpus = corpus();
    let read = |text: &str| {
        envelope_of(text).map_or(0, |envelope| {
            let queues = [
                message_of::<ArchiveMessage>(&envelope),
                message_of::<CleanupMessage>(&envelope),
                message_of::<RetentionMessage>(&envelope),
            ];
            queues.into_iter().filter(|known| *known).count()
        })
    };
    let known: usize = corpus.files().map(|file| read(std::str::from_utf8(file).unwrap())).sum();
    assert!(known >= 9, "one of each type: {known}");
    bolero::check!().with_type::<Input>().for_each(|input| {
        if let Ok(text) = String::from_utf8(corpus.make(input)) {
            assert!(read(&text) <= 1, "{text}");
        }
    });
}

#[test]
fn bare_messages() {
    let corpus = Corpus::read("bare");
    let from = Bare { message_id: "m-1", sent_at: DateTime::from_timestamp_millis(0).unwrap() };
    let read = |text: &str| match BareMessage::decode_bare(text, &from) {
        Some(Ok((header, message))) => {
            assert_eq!(header.kind, message.kind());
            if let Some(enveloped) = in_envelope::<BareMessage>(text, &from) {
                let envelope = Envelope::from_json(&enveloped).unwrap();
                assert_eq!(envelope.header, header, "the same identity in its envelope");
            }
            true
        }
        _ => false,
    };
    for file in corpus.files() {
        assert!(read(std::str::from_utf8(file).unwrap()), "{}", String::from_utf8_lossy(file));
    }
    bolero::check!().with_type::<Input>().for_each(|input| {
        if let Ok(text) = String::from_utf8(corpus.make(input)) {
            read(&text);
        }
    });
}
