//! AWS CloudTrail files as audit events: `{"Records": […]}`, plain or gzip. What has no field of its
//! own in an event goes to metadata.

use std::fs::File;
use std::io::{BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value, json};

use super::{Item, Source};
use crate::failure::Failure;

/// Bytes of one file at most, unpacked: a small gzip can hold anything.
const FILE_MAX: u64 = 256 * 1024 * 1024;
/// Targets of an event at most.
const TARGETS_MAX: usize = 32;
/// Record fields that go to metadata as they are.
const METADATA: [&str; 10] = [
    "eventID",
    "awsRegion",
    "readOnly",
    "recipientAccountId",
    "requestParameters",
    "responseElements",
    "additionalEventData",
    "errorCode",
    "errorMessage",
    "eventType",
];

/// Reads the files one after the other, in the order given.
pub(super) fn open(paths: &[PathBuf]) -> Source {
    let paths = paths.to_vec();
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let total = paths.len() as u64;
    let items = paths.into_iter().flat_map(|path| match records(&path) {
        Err(failure) => vec![Err(failure)],
        Ok(records) => {
            let last = records.len().saturating_sub(1);
            let items = records.iter().enumerate();
            items
                .map(|(at, record)| Ok(Item { event: event(record), steps: u64::from(at == last) }))
                .collect()
        }
    });
    Source {
        name: format!("cloudtrail {}", shown.join(" ")),
        total: Some(total),
        items: Box::new(items),
    }
}

fn records(path: &Path) -> Result<Vec<Value>, Failure> {
    let named = |why: String| Failure::new(format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(|error| named(error.to_string()))?;
    let gzip = path.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> = if gzip {
        Box::new(MultiGzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(BufReader::new(file))
    };
    let mut bytes = Vec::new();
    reader.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(|error| named(error.to_string()))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(named(format!("over {FILE_MAX} bytes when unpacked")));
    }
    let mut value: Value =
        serde_json::from_slice(&bytes).map_err(|error| named(format!("not JSON: {error}")))?;
    match value["Records"].take() {
        Value::Array(records) => Ok(records),
        _ => Err(named("no CloudTrail file: it has no list `Records`".to_owned())),
    }
}

/// One record in the API's shape.
fn event(record: &Value) -> Value {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(cut);
    let identity = &record["userIdentity"];
    let id =
        ["arn", "principalId", "invokedBy", "accountId"].iter().find_map(|k| text(&identity[k]));
    let mut actor = json!({
        "type": text(&identity["type"]).unwrap_or_else(|| "aws".to_owned()),
        "id": id.unwrap_or_else(|| "unknown".to_owned()),
    });
    if let Some(name) = text(&identity["userName"]) {
        actor["name"] = name.into();
    }
    let service = text(&record["eventSource"]).unwrap_or_default();
    let service = service.split('.').next().unwrap_or_default();
    let name = text(&record["eventName"]).unwrap_or_else(|| "unknown".to_owned());
    json!({
        "actor": actor,
        "action": format!("{service}.{name}"),
        "targets": targets(record),
        "context": context(record),
        "outcome": outcome(record),
        "occurred_at": record["eventTime"],
        "metadata": metadata(record),
    })
}

fn targets(record: &Value) -> Vec<Value> {
    let resources = record["resources"].as_array().map(Vec::as_slice).unwrap_or_default();
    resources
        .iter()
        .filter_map(|resource| {
            let id = resource["ARN"].as_str().or_else(|| resource["arn"].as_str())?;
            let kind = resource["type"].as_str().unwrap_or("aws");
            Some(json!({ "type": cut(kind), "id": cut(id) }))
        })
        .take(TARGETS_MAX)
        .collect()
}

fn context(record: &Value) -> Value {
    let mut context = Map::new();
    // A call that AWS made itself has a service's name here.
    if let Some(ip) = record["sourceIPAddress"].as_str().filter(|ip| ip.parse::<IpAddr>().is_ok()) {
        context.insert("ip".into(), ip.into());
    }
    for (field, name) in [("userAgent", "user_agent"), ("requestID", "request_id")] {
        if let Some(text) = record[field].as_str().filter(|text| !text.is_empty()) {
            context.insert(name.into(), cut(text).into());
        }
    }
    Value::Object(context)
}

fn outcome(record: &Value) -> &'static str {
    match record["errorCode"].as_str() {
        None | Some("") => "success",
        Some(code) if code.contains("Denied") || code.contains("Unauthorized") => "denied",
        Some(_) => "failure",
    }
}

fn metadata(record: &Value) -> Map<String, Value> {
    METADATA
        .iter()
        .filter(|field| !record[**field].is_null())
        .map(|field| ((*field).to_owned(), record[*field].clone()))
        .collect()
}

/// The API takes ids and names of 256 characters.
fn cut(text: &str) -> String {
    text.chars().take(256).collect()
}

#[cfg(test)]
mod tests {
    use super::open;
    use std::io::Write;

    const FILE: &str = r#"{"Records":[
      {"eventVersion":"1.08","eventTime":"2026-11-01T10:00:00Z","eventSource":"s3.amazonaws.com",
       "eventName":"PutObject","sourceIPAddress":"203.0.113.9","requestID":"R1","eventID":"E1",
       "userIdentity":{"type":"IAMUser","arn":"arn:aws:iam::1:user/ana","userName":"ana"},
       "resources":[{"ARN":"arn:aws:s3:::b","type":"AWS::S3::Bucket"}]},
      {"eventTime":"2026-11-01T10:00:01Z","eventSource":"kms.amazonaws.com","eventName":"Decrypt",
       "sourceIPAddress":"s3.amazonaws.com","errorCode":"AccessDenied",
       "userIdentity":{"type":"AWSService","invokedBy":"s3.amazonaws.com"}}]}"#;

    #[test]
    fn plain_and_packed_files_give_the_same_events() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("a.json");
        std::fs::write(&plain, FILE).unwrap();
        let packed = folder.path().join("a.json.gz");
        let file = std::fs::File::create(&packed).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        gzip.write_all(FILE.as_bytes()).unwrap();
        gzip.finish().unwrap();
        let read =
            |path| -> Vec<_> { open(&[path]).items.map(|item| item.unwrap().event).collect() };
        let events: Vec<serde_json::Value> = read(plain);
        assert_eq!(events, read(packed));
        assert_eq!(events[0]["action"], "s3.PutObject");
        assert_eq!(events[0]["actor"]["id"], "arn:aws:iam::1:user/ana");
        assert_eq!(events[0]["context"]["ip"], "203.0.113.9");
        assert_eq!(events[1]["outcome"], "denied");
        assert!(events[1]["context"].get("ip").is_none(), "a service's name is no address");
    }

    #[test]
    fn another_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, "{}").unwrap();
        let mut items = open(&[path]).items;
        assert!(items.next().unwrap().err().unwrap().message.contains("a.json"));
    }
}
