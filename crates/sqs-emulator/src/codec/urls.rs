//! Queue URLs. Ours name the host that the caller used, so that they work from inside a container and
//! from outside at once; every shape that other emulators and AWS hand out is understood.

use crate::codec::credentials::{is_account, is_region};
use crate::model::{Caller, DEFAULT_REGION, QueueArn};

/// `http://<host>/<account>/<name>`; in another region than the host's own, `/queue/<region>/…`, so
/// that a URL names one queue whoever uses it.
pub fn format(host: &str, queue: &QueueArn) -> String {
    let (account, name) = (queue.account(), queue.name());
    if queue.region() == region_of_host(host).unwrap_or(DEFAULT_REGION) {
        format!("http://{host}/{account}/{name}")
    } else {
        format!("http://{host}/queue/{}/{account}/{name}", queue.region())
    }
}

/// The queue of a URL, of a path, or of a bare name; `None` when it is none of them.
pub fn parse(text: &str, caller: &Caller) -> Option<QueueArn> {
    let (host, path) = match text.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?,
        None => ("", text.trim_start_matches('/')),
    };
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let region = region_of_host(host).unwrap_or(&caller.region);
    match parts.as_slice() {
        ["queue", region, account, name] if is_account(account) && is_region(region) => {
            Some(QueueArn::new(region, account, name))
        }
        [account, name] if is_account(account) => Some(QueueArn::new(region, account, name)),
        [name] if !name.is_empty() => Some(QueueArn::new(region, &caller.account, name)),
        _ => None,
    }
}

/// `sqs.<region>.…` and `<region>.queue.…`; `None` when the host names no region.
pub fn region_of_host(host: &str) -> Option<&str> {
    let mut labels = host.split(':').next().unwrap_or_default().split('.');
    let (first, second, third) = (labels.next()?, labels.next()?, labels.next());
    let region = match (first, second) {
        ("sqs", region) if third.is_some() => region,
        (region, "queue") => region,
        _ => return None,
    };
    is_region(region).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_shape_is_understood() {
        let caller = Caller::default();
        for (url, arn) in [
            ("http://localhost:4566/000000000000/q", "arn:aws:sqs:us-east-1:000000000000:q"),
            (
                "http://sqs.eu-west-1.localhost.localstack.cloud:4566/111122223333/q.fifo",
                "arn:aws:sqs:eu-west-1:111122223333:q.fifo",
            ),
            (
                "https://sqs.eu-west-1.amazonaws.com/111122223333/q",
                "arn:aws:sqs:eu-west-1:111122223333:q",
            ),
            (
                "http://eu-west-1.queue.localhost:4566/111122223333/q",
                "arn:aws:sqs:eu-west-1:111122223333:q",
            ),
            (
                "http://localhost:4566/queue/eu-west-1/111122223333/q",
                "arn:aws:sqs:eu-west-1:111122223333:q",
            ),
            ("http://sqs:9324/000000000000/q", "arn:aws:sqs:us-east-1:000000000000:q"),
            ("q", "arn:aws:sqs:us-east-1:000000000000:q"),
        ] {
            assert_eq!(
                parse(url, &caller).map(|arn| arn.to_string()).as_deref(),
                Some(arn),
                "{url}"
            );
        }
        for url in ["", "http://localhost:4566", "http://localhost:4566/a/b/c/d/e", "http://h/x/q"]
        {
            assert_eq!(parse(url, &caller), None, "{url}");
        }
    }

    #[test]
    fn a_formatted_url_reads_back_whoever_reads_it() {
        let there = Caller { region: "eu-west-1".into(), ..Caller::default() };
        for (arn, host, url) in [
            ("us-east-1:000000000000:q", "queues:4566", "http://queues:4566/000000000000/q"),
            (
                "eu-west-1:111122223333:q",
                "queues:4566",
                "http://queues:4566/queue/eu-west-1/111122223333/q",
            ),
            (
                "eu-west-1:111122223333:q",
                "sqs.eu-west-1.localhost.localstack.cloud:4566",
                "http://sqs.eu-west-1.localhost.localstack.cloud:4566/111122223333/q",
            ),
        ] {
            let arn = QueueArn::parse(&format!("arn:aws:sqs:{arn}")).unwrap();
            let formatted = format(host, &arn);
            assert_eq!(formatted, url);
            for reader in [&Caller::default(), &there] {
                let read = parse(&formatted, reader);
                // A URL without a region is the reader's own, as `sqs-local` has always read it.
                let own =
                    reader.region.as_ref() == arn.region() || formatted.contains(arn.region());
                assert_eq!(read == Some(arn.clone()), own, "{formatted} {reader:?}");
            }
        }
    }
}
