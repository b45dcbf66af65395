//! The KMS signer against a double that answers in KMS's own dialect: what is asked is what KMS expects,
//! what is signed verifies, and each refusal is told in KMS's words.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use evidence::key::SignError;
use evidence::{MemorySigner, Signer};
use futures_util::FutureExt as _;
use serde_json::json;
use sinks::kms::KmsSigner;
use testkit::http_double::{Answer, Gate, HttpDouble, Seen};

const NAME: &str = "audit.example.com";
const KEY_ID: &str = "alias/flotilla-archive";

fn private(seed: u8) -> MemorySigner {
    MemorySigner::from_seed(NAME, &[seed; 32]).unwrap()
}

fn shared(double: &HttpDouble) -> SdkConfig {
    let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("token".into()), None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .endpoint_url(double.url())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

fn public_key(seed: u8, spec: &str) -> Answer {
    let text = private(seed).key().to_string();
    let raw = BASE64.decode(text.rsplit('+').next().unwrap()).unwrap();
    let spki = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let der = BASE64.encode([&spki[..], &raw[1..]].concat());
    Answer::json(json!({"KeyId": KEY_ID, "KeySpec": spec, "KeyUsage": "SIGN_VERIFY",
        "PublicKey": der, "SigningAlgorithms": ["ED25519_SHA_512", "ED25519_PH_SHA_512"]}))
}

/// Signs what is asked, as KMS does.
fn signed(asked: &Seen, seed: u8) -> Answer {
    let message = BASE64.decode(asked.json()["Message"].as_str().unwrap()).unwrap();
    let signature = private(seed).sign(&message).now_or_never().unwrap().unwrap();
    let signature = BASE64.encode(signature);
    Answer::json(json!({"KeyId": KEY_ID, "Signature": signature,
        "SigningAlgorithm": "ED25519_SHA_512"}))
}

async fn opened(double: &HttpDouble) -> KmsSigner {
    double.next([public_key(1, "ECC_NIST_EDWARDS25519")]);
    KmsSigner::open(&shared(double), NAME, KEY_ID).await.unwrap()
}

#[tokio::test]
async fn what_is_asked_is_what_kms_expects_and_what_is_signed_verifies() {
    let double = HttpDouble::start().await;
    let signer = opened(&double).await;
    assert_eq!(signer.key(), private(1).key());
    double.programme(|seen| signed(seen, 1));
    let signature = signer.sign(b"a text\n").await.unwrap();
    assert!(signer.key().verifies(b"a text\n", &signature));
    let seen = double.seen();
    let (public, sign) = (&seen[0], &seen[1]);
    assert_eq!(public.header("x-amz-target"), "TrentService.GetPublicKey");
    assert_eq!(public.json(), json!({ "KeyId": KEY_ID }));
    assert_eq!(sign.header("x-amz-target"), "TrentService.Sign");
    assert_eq!(sign.header("content-type"), "application/x-amz-json-1.1");
    assert_eq!(
        sign.json(),
        json!({"KeyId": KEY_ID, "Message": BASE64.encode(b"a text\n"), "MessageType": "RAW",
            "SigningAlgorithm": "ED25519_SHA_512"})
    );
    let authorization = sign.header("authorization");
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
    assert!(authorization.contains("/eu-central-1/kms/aws4_request"), "{authorization}");
    assert!(authorization.contains("x-amz-target"), "{authorization}");
    assert_eq!(sign.header("x-amz-security-token"), "token");
    let long = signer.sign(&[0; 4_097]).await;
    assert!(matches!(long, Err(SignError::TooLong(4_097))));
}

#[tokio::test]
async fn each_refusal_is_told_in_the_words_of_kms() {
    let double = HttpDouble::start().await;
    let signer = opened(&double).await;
    let error = |status: u16, kind: &str| {
        Answer::json(json!({"__type": kind, "message": "Rate exceeded"})).with_status(status)
    };
    for (answer, told) in [
        (error(400, "ThrottlingException"), "ThrottlingException: Rate exceeded"),
        (error(400, "com.amazonaws.kms#AccessDeniedException"), "AccessDeniedException: Rate"),
        (error(500, "KMSInternalException"), "500 Internal Server Error KMSInternalException"),
        (Answer::status(503), "503"),
        (Answer::json(json!({ "Signature": "AAAA" })), "no signature of 64 bytes"),
        (Answer::dropped(), "error sending request"),
    ] {
        double.next([answer]);
        let refused = signer.sign(b"a text\n").await.unwrap_err();
        assert!(matches!(refused, SignError::Refused { .. }), "{refused:?}");
        assert!(refused.to_string().contains(told), "{refused} lacks {told}");
    }
    // The alias was pointed at another key.
    double.programme(|seen| signed(seen, 2));
    let wrong = signer.sign(b"a text\n").await.unwrap_err();
    assert!(matches!(wrong, SignError::WrongKey(_)), "{wrong:?}");
    // A key of another kind.
    double.next([public_key(1, "ECC_NIST_P256")]);
    let other = KmsSigner::open(&shared(&double), NAME, KEY_ID).await.unwrap_err();
    assert!(other.to_string().contains("ECC_NIST_EDWARDS25519 is needed"), "{other}");
}

#[tokio::test]
async fn a_service_that_hangs_is_given_up_on() {
    let double = HttpDouble::start().await;
    let signer = opened(&double).await;
    let never = Gate::closed();
    double.next([Answer::status(200).behind(&never)]);
    let late = signer.sign(b"a text\n").await.unwrap_err();
    assert!(late.to_string().contains("no answer within 5s"), "{late}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_names_itself() {
    let (double, elsewhere) = (HttpDouble::start().await, HttpDouble::start().await);
    let signer = opened(&double).await;
    elsewhere.programme(|seen| signed(seen, 1));
    for status in [301, 302, 303, 307, 308] {
        double.next([Answer::status(status).header("location", &elsewhere.url())]);
        let refused = signer.sign(b"a text\n").await.unwrap_err();
        assert!(refused.to_string().contains("a redirect, which is not followed"), "{refused}");
    }
    assert_eq!(elsewhere.seen().len(), 0, "what is signed goes nowhere else");
}

#[tokio::test]
async fn an_answer_without_a_length_is_read_no_further_than_an_answer_may_be() {
    let double = HttpDouble::start().await;
    let signer = opened(&double).await;
    let long = format!("{{\"Signature\": \"{}\"}}", "A".repeat(65 * 1024));
    // With its length told, and in chunks without.
    let told = Answer::status(200).body(long);
    for (answer, how) in [(told.clone(), "told"), (told.chunked(), "chunked")] {
        double.next([answer]);
        let refused = signer.sign(b"a text\n").await.unwrap_err();
        assert!(refused.to_string().contains("more than 65536 bytes"), "{how}: {refused}");
    }
    // And one that is as it should be, in chunks.
    let asked = Answer::json(json!({ "Signature": "AAAA" })).chunked();
    double.next([asked]);
    let refused = signer.sign(b"a text\n").await.unwrap_err();
    assert!(refused.to_string().contains("no signature of 64 bytes"), "{refused}");
}
