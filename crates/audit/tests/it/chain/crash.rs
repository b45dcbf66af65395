//! SIGKILL at every step of the sealer: the next one goes on, and the archive verifies. The process
//! that dies is this test binary, run again for the one test.
#![expect(clippy::disallowed_methods, reason = "the test's own child is told by variables")]

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use audit::archive::{Keys, Sealer, SealerConfig};
use audit::crash::{CrashPoint, arm};
use chrono::TimeDelta;
use database::{Database, DatabaseConfig, Role};
use evidence::verify::Verdict;
use queue_core::SystemClock;
use sinks::objects::Files;
use tokio::process::Command;

use super::scene::{Scene, signer, tenant};

const CHILD: &str = "chain::crash::the_sealer_that_dies";

/// Not a test by itself: what the other one runs, told by a variable.
#[tokio::test]
async fn the_sealer_that_dies() {
    let Ok(point) = std::env::var("CHAIN_CRASH_POINT") else { return };
    let given = |name: &str| std::env::var(name).expect("set by the other test");
    arm(point.parse().unwrap());
    let config = DatabaseConfig::for_url(given("CHAIN_DATABASE"));
    let database = Database::connect(&config, Role::Worker).unwrap();
    let dir = PathBuf::from(given("CHAIN_DIR"));
    let keys: Keys = [signer(1)].into_iter().collect();
    let eager = SealerConfig { head_after_quiet: TimeDelta::zero(), ..SealerConfig::default() };
    let store = Arc::new(Files::new(&dir));
    let sealer = Sealer::new(&database, keys, store, Arc::new(SystemClock), eager)
        .with_second_store(Arc::new(Files::new(dir.join("second"))));
    sealer.pass().await.unwrap();
    sealer.head_now(&tenant("acme")).await.unwrap();
}

#[tokio::test]
async fn a_sealer_killed_at_any_step_leaves_an_archive_that_verifies() {
    for point in CrashPoint::SEALER {
        let scene = Scene::new().await;
        for _ in 0..3 {
            scene.archive("acme").await.unwrap();
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD, "--nocapture"])
            .env("CHAIN_CRASH_POINT", point.as_str())
            .env("CHAIN_DATABASE", scene.database.url())
            .env("CHAIN_DIR", scene.dir.path())
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.signal(), Some(9), "{point:?}: {}\n{text}", output.status);

        let second = Arc::new(Files::new(scene.dir.path().join("second")));
        let sealer = scene.sealer(&[1]).with_second_store(second);
        while sealer.pass().await.unwrap().unstored > 0 {}
        sealer.head_now(&tenant("acme")).await.unwrap();
        let report = scene.verify(1);
        assert_eq!(report.verdict, Verdict::Verified, "{point:?}: {report:?}");
        assert_eq!(report.tenants[0].complete_to, 4, "{point:?}");
    }
}
