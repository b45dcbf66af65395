//! Objects written, read back, cut, changed and fetched by range.

use std::io::{self, Read};

use contracts::Tenant;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::Codec;
use crate::merkle::Salt;

fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

fn id(number: u64) -> Uuid {
    Uuid::from_u64_pair(0x0194_0000_0000_7000, 0x8000_0000_0000_0000 | number)
}

fn line(number: u64, text: &str) -> String {
    format!(
        r#"{{"id":"{}","tenant":"acme","recorded_at":"2025-01-01T00:{:02}:00.000000Z","class":"30d","event":{{"text":"{text}"}}}}"#,
        id(number),
        number % 60,
    )
}

fn salt(number: u64) -> Salt {
    let mut salt = [5; 16];
    salt[..8].copy_from_slice(&number.to_be_bytes());
    salt
}

fn written(codec: Codec, lines: &[String], block_bytes: usize) -> (Vec<u8>, Contents) {
    let mut writer = ObjectWriter::new(Vec::new(), codec, &tenant()).with_block_bytes(block_bytes);
    for (number, line) in (0..).zip(lines) {
        writer.push(&salt(number), line.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn lines(count: u64) -> Vec<String> {
    (0..count).map(|number| line(number, &format!("event {number}"))).collect()
}

#[test]
fn what_is_read_is_what_was_written() {
    for codec in Codec::ALL {
        let lines = lines(100);
        let (bytes, contents) = written(codec, &lines, 1_000);
        assert!(contents.blocks.len() > 10 && contents.adds_up());
        let mut found = Vec::new();
        let observed = survey(&bytes[..], codec, |entry| {
            assert_eq!(entry.salt, salt(entry.index));
            found.push(String::from_utf8(entry.line.bytes.to_vec()).unwrap());
        });
        let observed = observed.unwrap();
        assert_eq!(observed.contents.unwrap(), contents, "{codec:?}");
        assert_eq!((observed.packed, found), (contents.packed, lines));
        assert_eq!(observed.tenants.first.as_deref(), Some("acme"));
    }
}

#[test]
fn an_object_without_lines_has_no_bytes() {
    for codec in Codec::ALL {
        let (bytes, contents) = written(codec, &[], 1_000);
        assert!(bytes.is_empty() && contents.range.is_none() && contents.adds_up());
        assert_eq!(survey(&bytes[..], codec, |_| ()).unwrap().contents.unwrap(), contents);
    }
}

#[test]
fn blocks_do_not_change_what_is_proved() {
    let lines = lines(50);
    let roots: Vec<_> = [1, 999, BLOCK_BYTES]
        .into_iter()
        .flat_map(|bytes| Codec::ALL.map(|codec| written(codec, &lines, bytes).1))
        .map(|contents| (contents.root, contents.plain, contents.lines))
        .collect();
    assert!(roots.windows(2).all(|two| two[0] == two[1]));
}

#[test]
fn one_event_and_one_minute_are_fetched_by_range() {
    let lines = lines(60);
    let (bytes, contents) = written(Codec::Zstd, &lines, 600);
    let fetch = |(begin, block): (u64, &Block), keep: &dyn Fn(&Entry<'_>) -> bool| {
        let end = begin + block.packed;
        let (mut found, at) = (Vec::new(), |at: u64| usize::try_from(at).unwrap());
        read_block(&bytes[at(begin)..at(end)], contents.codec, block, |entry| {
            if keep(entry) {
                found.push(entry.line.key.id);
            }
        })
        .unwrap();
        found
    };
    let one: Vec<_> = contents.blocks_of(id(17)).collect();
    assert_eq!(one.len(), 1);
    assert_eq!(fetch(one[0], &|entry| entry.line.key.id == id(17)), [id(17)]);
    assert_eq!(contents.blocks_of(id(60)).count(), 0);

    let minute = |number: u64| {
        crate::moment::parse(&format!("2025-01-01T00:{number:02}:00.000000Z")).unwrap()
    };
    let (from, to) = (minute(20), minute(22));
    let found: Vec<_> = contents
        .blocks_between(from, to)
        .flat_map(|at| fetch(at, &|entry| (from..to).contains(&entry.line.recorded_at)))
        .collect();
    assert_eq!(found, [id(20), id(21)]);
}

#[test]
fn a_block_that_is_not_the_manifests_is_refused() {
    let (bytes, contents) = written(Codec::Lz4, &lines(60), 600);
    let (first, second) = (contents.blocks[0], contents.blocks[1]);
    let size = |block: &Block| usize::try_from(block.packed).unwrap();
    let bytes = &bytes[size(&first)..][..size(&second)];
    assert!(read_block(bytes, Codec::Lz4, &second, |_| ()).is_ok());
    assert!(read_block(bytes, Codec::Lz4, &first, |_| ()).is_err());
    assert!(read_block(&bytes[..bytes.len() - 1], Codec::Lz4, &second, |_| ()).is_err());
    assert!(read_block(b"", Codec::Lz4, &second, |_| ()).is_err());
}

#[test]
fn lines_out_of_order_twice_or_of_others_do_not_go_in() {
    let mut writer = ObjectWriter::new(Vec::new(), Codec::Gzip, &tenant());
    writer.push(&salt(1), line(1, "").as_bytes()).unwrap();
    let again = writer.push(&salt(1), line(1, "").as_bytes());
    assert!(matches!(again, Err(Unwritable::Order(..))));
    let before = writer.push(&salt(0), line(0, "").as_bytes());
    assert!(matches!(before, Err(Unwritable::Order(..))));
    let other = writer.push(&salt(2), line(2, "").replace("acme", "other").as_bytes());
    assert!(matches!(other, Err(Unwritable::Tenant(..))));
    assert!(matches!(writer.push(&salt(2), b"{}"), Err(Unwritable::Line(_))));
    assert_eq!(writer.finish().unwrap().1.lines, 1);
}

#[test]
fn an_object_is_full_at_its_limit() {
    let mut writer = ObjectWriter::new(io::sink(), Codec::Lz4, &tenant()).with_block_bytes(1);
    for number in 0..BLOCKS_MAX as u64 {
        writer.push(&salt(number), line(number, "").as_bytes()).unwrap();
    }
    let more = line(BLOCKS_MAX as u64, "");
    assert!(matches!(writer.push(&salt(0), more.as_bytes()), Err(Unwritable::Full)));
    assert!(writer.finish().unwrap().1.adds_up());
}

#[test]
fn many_small_lines_stay_within_a_blocks_salts() {
    let lines = lines(BLOCK_LINES_MAX as u64 + 1);
    let (bytes, contents) = written(Codec::Gzip, &lines, BLOCK_BYTES);
    let counts: Vec<_> = contents.blocks.iter().map(|block| block.lines).collect();
    assert_eq!(counts.iter().sum::<u64>(), lines.len() as u64);
    assert!(counts.iter().all(|count| *count <= BLOCK_LINES_MAX as u64));
    assert_eq!(survey(&bytes[..], Codec::Gzip, |_| ()).unwrap().contents.unwrap(), contents);
}

#[test]
fn a_source_that_fails_is_no_damage() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::TimedOut.into())
        }
    }
    let (bytes, _) = written(Codec::Zstd, &lines(9), 300);
    for codec in Codec::ALL {
        let half = &bytes[..bytes.len() / 2];
        let error = survey(half.chain(Failing), codec, |_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{codec:?}");
    }
}

proptest! {
    /// Whatever byte is changed or cut, what is found is not what the manifest says.
    #[test]
    fn no_change_goes_unseen(
        codec in prop::sample::select(Codec::ALL.to_vec()),
        at: prop::sample::Index,
        bit in 0_u8..8,
        cut: bool,
    ) {
        let (mut bytes, contents) = written(codec, &lines(30), 500);
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        let observed = survey(&bytes[..], codec, |_| ()).unwrap();
        prop_assert_ne!(observed.packed, contents.packed);
        prop_assert_ne!(observed.contents.ok(), Some(contents));
    }

    #[test]
    fn any_lines_come_back(
        texts in prop::collection::vec("[ -~&&[^\"\\\\]]{0,200}", 0..60),
        codec in prop::sample::select(Codec::ALL.to_vec()),
        block_bytes in 1_usize..3_000,
    ) {
        let lines: Vec<_> = (0..).zip(&texts).map(|(number, text)| line(number, text)).collect();
        let (bytes, contents) = written(codec, &lines, block_bytes);
        prop_assert!(contents.adds_up());
        prop_assert_eq!(survey(&bytes[..], codec, |_| ()).unwrap().contents.unwrap(), contents);
    }
}
