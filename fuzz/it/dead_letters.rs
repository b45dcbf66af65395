//! What lies on a dead-letter queue: a letter of ours, or whatever the broker's own redrive put there.

use std::path::Path;

use queue_core::dead_letter::{DeadLetter, OnDeadLetterQueue};

use crate::corpus::{Corpus, Input};

fn read(text: &str) -> bool {
    let OnDeadLetterQueue::Letter(letter) = DeadLetter::read(text) else { return false };
    let written = letter.to_json().unwrap();
    let again =
        DeadLetter::from_json(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(again.to_json().unwrap(), written);
    true
}

#[test]
fn dead_letter() {
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/queue-core/golden/dead_letter");
    let corpus = Corpus::of(&[golden]);
    for file in corpus.files() {
        assert!(read(std::str::from_utf8(file).unwrap()), "{}", String::from_utf8_lossy(file));
    }
    bolero::check!().with_type::<Input>().for_each(|input| {
        if let Ok(text) = String::from_utf8(corpus.make(input)) {
            read(&text);
        }
    });
}
