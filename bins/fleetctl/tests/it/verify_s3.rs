//! `fleetctl verify` and `fleetctl evidence` on an archive in S3: the same words and exit codes as on a
//! folder, also when the store is in trouble.

use std::fs;
use std::path::Path;

use testkit::{Answer, HttpDouble, TestLocalStack};

use crate::command::fleetctl;
use crate::verify::{Archive, EVENT_ID};

type Variables = [(&'static str, String); 4];

fn variables(endpoint: &str, account: &str) -> Variables {
    [
        ("AWS_ENDPOINT_URL", endpoint.to_owned()),
        ("AWS_ACCESS_KEY_ID", account.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ]
}

/// LocalStack reads the account from the credential and checks no signature.
async fn put(stack: &TestLocalStack, path: &str, bytes: Vec<u8>) {
    let account = stack.access_key_id();
    let scope = format!("{account}/20260101/us-east-1/s3/aws4_request");
    let signed = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none");
    let call = reqwest::Client::new().put(format!("{}/{path}", stack.url()));
    let answer = call.header("authorization", signed).body(bytes).send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {answer:?}");
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// The archive under a prefix of a bucket of its own.
async fn upload(archive: &Archive, stack: &TestLocalStack, bucket: &str) {
    put(stack, bucket, Vec::new()).await;
    let mut found = Vec::new();
    files(Path::new(archive.path()), &mut found);
    for path in found {
        let name = path.strip_prefix(archive.path()).unwrap().to_str().unwrap();
        put(stack, &format!("{bucket}/old/copy/{name}"), fs::read(&path).unwrap()).await;
    }
}

#[tokio::test]
async fn an_archive_in_s3_is_verified_and_gives_evidence_as_a_folder_does() {
    let Some(stack) = TestLocalStack::new().await else { return };
    let (archive, out) = (Archive::write().await, tempfile::tempdir().unwrap());
    let bucket = format!("verify-{}", stack.access_key_id());
    upload(&archive, &stack, &bucket).await;
    let (place, key) = (format!("s3://{bucket}/old/copy/"), archive.key.as_str());
    let variables = variables(stack.url(), stack.access_key_id());
    let verify = ["verify", &place, "--key", key];
    let said = fleetctl(&variables, &verify).await.ok();
    let folder = fleetctl(&[], &["verify", archive.path(), "--key", key]).await.ok();
    assert_eq!(said.out, folder.out);

    let case = out.path().join("case");
    let case = case.to_str().unwrap();
    let evidence = ["evidence", EVENT_ID, "--tenant", "acme", "--from", &place, "--to", case];
    fleetctl(&variables, &evidence).await.ok();
    let said = fleetctl(&[], &["verify", case, "--key", key]).await.ok();
    assert!(said.out.contains("archived unchanged"), "{said:?}");

    let unproven = [&verify[..], &["--head-since", "2030-01-01T00:00:00Z"]].concat();
    assert_eq!(fleetctl(&variables, &unproven).await.code, 3);
    let mut bytes = fs::read(archive.file(&archive.object)).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    put(&stack, &format!("{bucket}/old/copy/{}", archive.object), bytes).await;
    let said = fleetctl(&variables, &verify).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains(&format!("object-corrupt  {}", archive.object)), "{said:?}");

    let nothing = format!("s3://{bucket}/old");
    assert_eq!(fleetctl(&variables, &["verify", &nothing, "--key", key]).await.code, 64);
    let nowhere = format!("s3://{bucket}-not");
    let said = fleetctl(&variables, &["verify", &nowhere, "--key", key]).await;
    assert_eq!(said.code, 69, "{said:?}");
    assert!(said.err.contains("AWS_REGION"), "{said:?}");
}

#[tokio::test]
async fn what_breaks_off_is_read_on_from_there_and_what_stays_away_says_nothing_of_the_archive() {
    let archive = Archive::write().await;
    let double = HttpDouble::start().await;
    let root = Path::new(archive.path()).to_owned();
    let mut broken = false;
    double.programme(move |seen| serve(&root, &seen.path, seen.header("range"), &mut broken));
    let variables = variables(&double.url(), "test");
    let verify = ["verify", "s3://archive", "--key", &archive.key];
    let said = fleetctl(&variables, &verify).await.ok();
    assert!(said.out.starts_with("acme: verified"), "{said:?}");
    let again = double.seen().iter().filter(|seen| seen.header("range") == "bytes=40-").count();
    assert_eq!(again, 1, "it went on where it broke off");

    double.programme(|seen| match seen.method.as_str() {
        "HEAD" => Answer::status(200),
        _ => Answer::status(403).body("<Error><Code>AccessDenied</Code></Error>"),
    });
    let said = fleetctl(&variables, &verify).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(!said.out.contains("verified") && !said.out.contains("object-"), "{said:?}");
}

/// A bucket as S3 answers it, whose first object breaks off once after 40 bytes.
fn serve(root: &Path, path: &str, range: &str, broken: &mut bool) -> Answer {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    // The bucket's name, once: the objects' own names begin alike.
    let name = path.strip_prefix("/archive").unwrap_or(path).trim_start_matches('/');
    let name = &name.replace("%3D", "=");
    if name.is_empty() {
        return listing(root, query);
    }
    let Ok(bytes) = fs::read(root.join(name)) else {
        return Answer::status(404).body("<Error><Code>NoSuchKey</Code></Error>");
    };
    let from: usize = range
        .strip_prefix("bytes=")
        .map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
    if from > 0 {
        let told = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        let rest = bytes[from..].to_vec();
        return Answer::status(206).header("content-range", &told).body(rest);
    }
    if name.starts_with("archive/") && !std::mem::replace(broken, true) {
        return Answer::status(200).body(bytes).truncated_at(40);
    }
    Answer::status(200).body(bytes)
}

fn listing(root: &Path, query: &str) -> Answer {
    let value = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.filter(|(n, _)| *n == name).map(|(_, value)| value).next();
        found.unwrap_or_default().replace("%2F", "/").replace("%3D", "=")
    };
    let prefix = value("prefix");
    let mut found = Vec::new();
    files(root, &mut found);
    let mut names: Vec<String> = found
        .iter()
        .map(|path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned())
        .filter(|name| name.starts_with(&prefix))
        .collect();
    names.sort();
    let entries: String = if value("delimiter").is_empty() {
        let entry = |name: &String| {
            let size = fs::metadata(root.join(name)).unwrap().len();
            format!("<Contents><Key>{name}</Key><Size>{size}</Size></Contents>")
        };
        names.iter().map(entry).collect()
    } else {
        let mut folders: Vec<&str> =
            names.iter().filter_map(|name| Some(name[prefix.len()..].split_once('/')?.0)).collect();
        folders.dedup();
        let entry = |folder: &&str| {
            format!("<CommonPrefixes><Prefix>{prefix}{folder}/</Prefix></CommonPrefixes>")
        };
        folders.iter().map(entry).collect()
    };
    let body =
        format!("<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>");
    Answer::status(200).header("content-type", "application/xml").body(body)
}
