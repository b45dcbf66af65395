//! A signing key in AWS KMS (`ECC_NIST_EDWARDS25519`, `ED25519_SHA_512` over the raw message, which is
//! pure Ed25519): the private half never leaves the service. It speaks the two calls that are needed
//! in KMS's JSON protocol, signed by the SDK's own signer. One attempt each; whoever asks asks again.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use evidence::key::SignError;
use evidence::{Signer, VerifyKey};
use queue_core::{Clock as _, SystemClock};
use reqwest::redirect::Policy;
use serde_json::{Value, json};

/// From the first byte asked to the last one answered.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Credentials may come from another service.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(5);
/// Characters of a service's own words that are repeated.
const WORDS_MAX: usize = 300;
/// Bytes of an answer; a signature has 88, a public key 60.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A key in KMS.
#[derive(Clone, Debug)]
pub struct KmsSigner {
    kms: Kms,
    key_id: String,
    key: VerifyKey,
}

#[derive(Clone, Debug)]
struct Kms {
    shared: SdkConfig,
    http: reqwest::Client,
    endpoint: String,
    region: String,
}

impl KmsSigner {
    /// The key of that id, ARN or alias, under the SDK's configuration; `name` is what signed notes
    /// call it. Asks KMS for the public half.
    pub async fn open(shared: &SdkConfig, name: &str, key_id: &str) -> Result<Self, SignError> {
        let refused = |reason: String| SignError::Refused { key: key_id.to_owned(), reason };
        let kms = Kms::new(shared).map_err(refused)?;
        let answer =
            kms.call("GetPublicKey", &json!({ "KeyId": key_id })).await.map_err(refused)?;
        let spec = answer["KeySpec"].as_str().unwrap_or_default();
        if spec != "ECC_NIST_EDWARDS25519" {
            let text = format!("is of {spec:?}; ECC_NIST_EDWARDS25519 is needed");
            return Err(refused(text));
        }
        let der = BASE64.decode(answer["PublicKey"].as_str().unwrap_or_default());
        let der = der.map_err(|_| refused("the answer holds no public key".into()))?;
        let key = VerifyKey::from_der(name, &der).map_err(|error| refused(error.to_string()))?;
        Ok(Self { kms, key_id: key_id.to_owned(), key })
    }

    /// The same under the usual chain of credentials, `AWS_REGION` and `AWS_ENDPOINT_URL`.
    pub async fn from_environment(name: &str, key_id: &str) -> Result<Self, SignError> {
        let behavior = aws_config::BehaviorVersion::v2026_01_12();
        Self::open(&aws_config::defaults(behavior).load().await, name, key_id).await
    }
}

#[async_trait]
impl Signer for KmsSigner {
    fn key(&self) -> &VerifyKey {
        &self.key
    }

    async fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        if message.len() > evidence::key::SIGNED_BYTES_MAX {
            return Err(SignError::TooLong(message.len()));
        }
        let refused = |reason: String| SignError::Refused { key: self.key.id(), reason };
        let request = json!({
            "KeyId": self.key_id,
            "Message": BASE64.encode(message),
            "MessageType": "RAW",
            "SigningAlgorithm": "ED25519_SHA_512",
        });
        let answer = self.kms.call("Sign", &request).await.map_err(refused)?;
        let signature = BASE64.decode(answer["Signature"].as_str().unwrap_or_default());
        let signature = signature.ok().and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
        let signature =
            signature.ok_or_else(|| refused("the answer holds no signature of 64 bytes".into()))?;
        // An alias that was pointed at another key signs with that one.
        if !self.key.verifies(message, &signature) {
            return Err(SignError::WrongKey(self.key.id()));
        }
        Ok(signature)
    }
}

impl Kms {
    fn new(shared: &SdkConfig) -> Result<Self, String> {
        let region = shared.region().ok_or("no region: set AWS_REGION")?.to_string();
        let endpoint = shared.endpoint_url().map_or_else(|| endpoint(&region), str::to_owned);
        // What is signed is for this host alone; an answer that leads elsewhere is none of KMS.
        let http = reqwest::Client::builder().timeout(CALL_TIMEOUT).redirect(Policy::none());
        let http = http.build();
        let http = http.map_err(|error| error.to_string())?;
        let endpoint = format!("{}/", endpoint.trim_end_matches('/'));
        Ok(Self { shared: shared.clone(), http, endpoint, region })
    }

    /// One call. The error says what KMS said: its own error type and words.
    async fn call(&self, action: &str, request: &Value) -> Result<Value, String> {
        let body = request.to_string();
        let headers = self.headers(action, &body).await?;
        let mut call = self.http.post(&self.endpoint).body(body);
        for (name, value) in headers {
            call = call.header(name, value);
        }
        let mut answer = call.send().await.map_err(|error| told(&error))?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(format!("KMS {action}: {status}, a redirect, which is not followed"));
        }
        // It may not say its length, so that what arrives is counted.
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| told(&error))? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(format!(
                    "KMS {action}: {status} with more than {ANSWER_BYTES_MAX} bytes, which is no \
                     answer of KMS"
                ));
            }
            bytes.extend_from_slice(&chunk);
        }
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() && value.is_object() {
            return Ok(value);
        }
        let kind = value["__type"].as_str().unwrap_or("no error type");
        // Some services put a name space before it.
        let kind = kind.rsplit('#').next().unwrap_or(kind);
        let words = value["message"].as_str().or(value["Message"].as_str()).unwrap_or_default();
        let text: String = format!("{kind}: {words}").chars().take(WORDS_MAX).collect();
        Err(format!("KMS {action}: {status} {text}"))
    }

    async fn headers(&self, action: &str, body: &str) -> Result<Vec<(String, String)>, String> {
        let provider = self.shared.credentials_provider().ok_or("no AWS credentials")?;
        let asked = tokio::time::timeout(CREDENTIALS_TIMEOUT, provider.provide_credentials());
        let credentials = match asked.await {
            Ok(credentials) => credentials.map_err(|error| format!("AWS credentials: {error}"))?,
            Err(_) => return Err(format!("no AWS credentials within {CREDENTIALS_TIMEOUT:?}")),
        };
        let identity = credentials.into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("kms")
            .time(SystemTime::from(SystemClock.now()))
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let target = format!("TrentService.{action}");
        let own =
            [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let body = SignableBody::Bytes(body.as_bytes());
        let signable = SignableRequest::new("POST", &*self.endpoint, own.into_iter(), body);
        let signed = sign(signable.map_err(|error| error.to_string())?, &params);
        let (instructions, _) = signed.map_err(|error| error.to_string())?.into_parts();
        let all = own.into_iter().chain(instructions.headers());
        Ok(all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// Where KMS is in a region, by the partition that the region is of.
fn endpoint(region: &str) -> String {
    let suffix = match region.split('-').next() {
        Some("cn") => "amazonaws.com.cn",
        Some("eusc") => "amazonaws.eu",
        _ => "amazonaws.com",
    };
    format!("https://kms.{region}.{suffix}")
}

/// An error with its causes; reqwest's own text leaves them out.
fn told(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("KMS: no answer within {CALL_TIMEOUT:?}");
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text.chars().take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_region_has_the_endpoint_of_its_partition() {
        for (region, expected) in [
            ("eu-central-1", "https://kms.eu-central-1.amazonaws.com"),
            ("us-gov-west-1", "https://kms.us-gov-west-1.amazonaws.com"),
            ("cn-north-1", "https://kms.cn-north-1.amazonaws.com.cn"),
            ("cn-northwest-1", "https://kms.cn-northwest-1.amazonaws.com.cn"),
            ("eusc-de-east-1", "https://kms.eusc-de-east-1.amazonaws.eu"),
        ] {
            assert_eq!(endpoint(region), expected);
            let shared = SdkConfig::builder().region(aws_config::Region::new(region)).build();
            assert_eq!(Kms::new(&shared).unwrap().endpoint, format!("{expected}/"));
            let own = SdkConfig::builder().region(aws_config::Region::new(region));
            let own = own.endpoint_url("https://vpce-1.example/").build();
            assert_eq!(Kms::new(&own).unwrap().endpoint, "https://vpce-1.example/");
        }
    }
}
