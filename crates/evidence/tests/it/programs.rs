//! What docs/ARCHIVE.md tells a reader to type, typed: the programs of every machine read the objects
//! and check the documents without us.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use evidence::{Codec, Hash};

use crate::scene::{Scene, archive, packed};

/// What a program says; `None` with a loud line where the machine lacks it.
#[expect(clippy::print_stderr, reason = "a test's only voice")]
fn run(dir: &Path, program: &str, shell: &str) -> Option<Vec<u8>> {
    match Command::new(program).arg("--version").output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("UNTESTED: {shell}: there is no {program} here");
            return None;
        }
        _ => {}
    }
    let output = Command::new("sh").args(["-ec", shell]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

#[tokio::test]
async fn every_codec_is_read_whole_by_its_own_program() {
    let (dir, scene) = (tempfile::tempdir().unwrap(), Scene::new("acme", 1).await);
    let lines = scene.events(0, 500);
    let plain: Vec<&str> = lines.iter().flat_map(|(_, line)| [line.as_str(), "\n"]).collect();
    for (codec, program, shell) in [
        (Codec::Gzip, "gzip", "gzip -dc < object"),
        (Codec::Lz4, "lz4", "lz4 -dc < object"),
        (Codec::Zstd, "zstd", "zstd -dc < object"),
    ] {
        let (bytes, contents) = packed(&scene.tenant, codec, &lines, 10_000);
        assert!(contents.blocks.len() > 5);
        std::fs::write(dir.path().join("object"), bytes).unwrap();
        if let Some(read) = run(dir.path(), program, shell) {
            assert_eq!(Hash::of(&read), contents.plain.sha256, "{codec:?}");
            assert!(read == plain.concat().as_bytes(), "{codec:?}");
        }
    }
}

#[tokio::test]
async fn a_document_is_checked_by_hand() {
    let (dir, scene) = (tempfile::tempdir().unwrap(), archive().await);
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("document.note", &scene.files[&scene.document(10)]);
    write("before.note", &scene.files[&scene.document(9)]);
    let hash = run(dir.path(), "sha256sum", "head -n 1 document.note | sha256sum").unwrap();
    let said = run(dir.path(), "sed", "sed -n 6p document.note").unwrap();
    assert_eq!(hash[..64], said[..64]);
    let before = run(dir.path(), "sha256sum", "head -n 1 before.note | sha256sum").unwrap();
    let before = String::from_utf8(before).unwrap();
    let header = scene.sealed(10).document.header;
    assert_eq!(header.previous.unwrap().to_string(), before[..64]);
    let key = format!("key='{}'\n", scene.key());
    run(
        dir.path(),
        "openssl",
        &(key
            + r#"{ printf '\060\052\060\005\006\003\053\145\160\003\041\000'; echo "${key##*+}" | base64 -d | tail -c 32; } |
           openssl pkey -pubin -inform DER -out key.pem
         sed -n 3,6p document.note > statement
         tail -n 1 document.note | cut -d ' ' -f 3 | base64 -d | tail -c 64 > signature
         openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in statement -sigfile signature"#),
    );
}
