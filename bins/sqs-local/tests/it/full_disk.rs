//! A disk that is full, as a limit on file sizes: a clear error, nothing acknowledged that is not
//! stored, and the server goes on with what fits.

use std::process::Command;

use serde_json::json;

use crate::process::{BINARY, Process, count};

const QUEUE: &str = "http://any/000000000000/q";
/// Of a file, in the 512-byte blocks of `ulimit -f`: 4 MiB.
const LIMIT_BLOCKS: u32 = 8_192;

#[test]
fn a_full_disk_is_an_error_and_acknowledges_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    let script = format!(
        "trap '' XFSZ; ulimit -f {LIMIT_BLOCKS}; exec \"$0\" --port 0 --log off --data-dir \"$1\""
    );
    command.args(["-c", &script, BINARY]).arg(directory.path());
    let process = Process::run(command);
    let mut client = process.client();
    client.ok("CreateQueue", &json!({ "QueueName": "q" }));
    let large = json!({ "QueueUrl": QUEUE, "MessageBody": "x".repeat(500_000) });
    let mut acknowledged = 0;
    let (status, error) = loop {
        let (status, reply) = client.call("SendMessage", &large).unwrap();
        if status != 200 {
            break (status, reply);
        }
        acknowledged += 1;
        assert!(acknowledged < 20, "the limit is never reached");
    };
    assert_eq!(status, 503);
    let text = error["message"].as_str().unwrap();
    assert!(
        text.starts_with("Nothing took effect: the data directory cannot be written"),
        "{text}"
    );
    assert_eq!(error["__type"], "com.amazon.coral.service#ServiceUnavailableException");

    // The state in memory goes back to what is stored, and what fits is taken again.
    let small = json!({ "QueueUrl": QUEUE, "MessageBody": "small" });
    let mut tries = 0;
    while client.call("SendMessage", &small).unwrap().0 != 200 {
        tries += 1;
        assert!(tries < 1_000_000, "it does not recover");
    }
    acknowledged += 1;
    assert_eq!(count(&mut client, QUEUE), acknowledged);
    process.kill();
    let process = Process::start(directory.path());
    assert_eq!(count(&mut process.client(), QUEUE), acknowledged);
}
