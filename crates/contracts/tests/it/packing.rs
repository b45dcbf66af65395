//! Packed bodies on the wire: what they look like, that any body survives, and that no message makes
//! a reader unpack more than it declares.

use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contracts::packing::{self, BODY_BYTES_MAX, UnpackError};
use contracts::{Body, Claim, Claimed, Encoding, Envelope, Gzipped, Header};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::value::RawValue;

const BODY: &str = r#"{"items":[{"n":1e400,"text":"Zo\u00eb"},{"n":12.50}]}"#;

fn header() -> Header {
    serde_json::from_str(
        r#"{"v":1,"type":"BULK_INDEX","id":"01941f29-7c01-7000-8000-000000000001","tenant":"acme",
            "recorded_at":"2025-01-01T00:00:00.123456Z","correlation_id":"req-1"}"#,
    )
    .unwrap()
}

fn gzipped(body: &str) -> Gzipped {
    Gzipped::new(body.len(), &packing::compress(body))
}

fn written(body: Body) -> String {
    Envelope { header: header(), body }.to_json().unwrap()
}

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/packed").join(name);
    std::fs::read_to_string(&path).unwrap().trim_end().to_owned()
}

#[test]
fn the_golden_gzip_body_reads_as_what_was_packed_and_writes_back_to_the_byte() {
    let text = golden("gzip.json");
    let envelope = Envelope::from_json(&text).unwrap();
    assert_eq!(envelope.header, header());
    let Body::Gzip(packed) = &envelope.body else { panic!("{:?}", envelope.body) };
    assert_eq!(packed.unpack().unwrap().get(), BODY);
    assert_eq!(envelope.to_json().unwrap(), text);
}

#[test]
fn the_golden_claims_read_and_write_back_to_the_byte() {
    let claim = Claim {
        bucket: "flotilla-claims".into(),
        key: "claims/acme/20250101/00112233445566778899aabbccddeeff".into(),
        sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".into(),
        size: 81,
    };
    for (name, encoding, bytes) in
        [("claim_gzip.json", Encoding::Gzip, 2_000_000), ("claim_json.json", Encoding::Json, 81)]
    {
        let text = golden(name);
        let envelope = Envelope::from_json(&text).unwrap();
        let Body::Claim(claimed) = &envelope.body else { panic!("{:?}", envelope.body) };
        assert_eq!(*claimed, Claimed { claim: claim.clone(), encoding, bytes });
        assert_eq!(envelope.to_json().unwrap(), text);
    }
    // Written before packed bodies declared their size: the object's own size says it.
    let older = golden("claim_json.json").replace(r#","body_bytes":81"#, "");
    let Body::Claim(claimed) = Envelope::from_json(&older).unwrap().body else { panic!("a claim") };
    assert_eq!(claimed.bytes, 81);
}

#[test]
fn a_bomb_is_stopped_where_it_exceeds_what_it_declares() {
    let zeros = vec![b'0'; 1 << 20];
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..64 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1 << 20, "it would fit a message");
    let base64 = STANDARD.encode(&bomb);
    let unpacked = |bytes| Gzipped { bytes, base64: base64.clone() }.unpack().unwrap_err();
    assert_eq!(unpacked(1_000), UnpackError::Undeclared(1_000));
    assert_eq!(unpacked(BODY_BYTES_MAX), UnpackError::Undeclared(BODY_BYTES_MAX));
    assert_eq!(unpacked(BODY_BYTES_MAX + 1), UnpackError::TooLarge(BODY_BYTES_MAX + 1));
    assert_eq!(unpacked(u64::MAX), UnpackError::TooLarge(u64::MAX));
}

#[test]
fn a_body_just_at_the_limit_is_taken() {
    let most = usize::try_from(BODY_BYTES_MAX).unwrap();
    let body = format!("\"{}\"", "x".repeat(most - 2));
    assert_eq!(gzipped(&body).unpack().unwrap().get().len(), most);
    let over = format!("\"{}\"", "x".repeat(most - 1));
    assert_eq!(gzipped(&over).unpack().unwrap_err(), UnpackError::TooLarge(BODY_BYTES_MAX + 1));
}

#[test]
fn what_is_damaged_is_told_and_never_panics() {
    let whole = gzipped(BODY);
    let bytes = STANDARD.decode(&whole.base64).unwrap();
    let with = |bytes: &[u8]| Gzipped { base64: STANDARD.encode(bytes), ..whole.clone() };
    for cut in 0..bytes.len() {
        let error = with(&bytes[..cut]).unpack().unwrap_err();
        assert!(matches!(error, UnpackError::Damaged(_) | UnpackError::Undeclared(_)), "{error}");
    }
    let trailed = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(with(&trailed).unpack(), Err(UnpackError::Damaged(_))));
    let not_base64 = Gzipped { base64: "*".into(), ..whole.clone() };
    assert!(matches!(not_base64.unpack(), Err(UnpackError::Damaged(_))));
    assert!(matches!(gzipped("no json").unpack(), Err(UnpackError::Damaged(_))));
    // A packed body that does not say how large it becomes is no envelope.
    let undeclared = written(Body::Gzip(whole)).replace("body_bytes", "other");
    assert!(Envelope::from_json(&undeclared).unwrap_err().to_string().contains("body_bytes"));
}

proptest! {
    #[test]
    fn any_body_survives_packing(text in any::<String>(), repeated in 0usize..400) {
        let body = RawValue::from_string(serde_json::to_string(&text.repeat(repeated)).unwrap()).unwrap();
        let compressed = packing::compress(body.get());
        let packed = Gzipped::new(body.get().len(), &compressed);
        prop_assert_eq!(packed.base64.len(), Gzipped::wire_len(compressed.len()));
        let read = Envelope::from_json(&written(Body::Gzip(packed))).unwrap();
        let Body::Gzip(packed) = read.body else { panic!("gzip") };
        let unpacked = packed.unpack().unwrap();
        prop_assert_eq!(unpacked.get(), body.get());

        for (encoding, object) in
            [(Encoding::Gzip, compressed.as_slice()), (Encoding::Json, body.get().as_bytes())]
        {
            let claim = Claim {
                bucket: "b".into(), key: "k".into(), sha256: String::new(), size: object.len() as u64,
            };
            let claimed = Claimed { claim, encoding, bytes: body.get().len() as u64 };
            let read = Envelope::from_json(&written(Body::Claim(claimed))).unwrap();
            let Body::Claim(claimed) = read.body else { panic!("a claim") };
            let unpacked = claimed.unpack(object).unwrap();
            prop_assert_eq!(unpacked.get(), body.get());
        }
    }

    #[test]
    fn no_bytes_make_unpacking_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), declared in any::<u64>()) {
        let _ = Gzipped { bytes: declared, base64: STANDARD.encode(&bytes) }.unpack();
        let _ = Gzipped { bytes: declared, base64: String::from_utf8_lossy(&bytes).into() }.unpack();
    }
}
