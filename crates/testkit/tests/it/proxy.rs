//! Every mood of the proxy.

use std::time::Duration;

use testkit::{Answer, HttpDouble, Mood, Proxy};

fn client() -> reqwest::Client {
    // No pool: each request is a connection of its own.
    reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_millis(300))
        .build()
        .expect("a client")
}

#[tokio::test]
async fn passes_is_down_is_silent_is_slow() {
    let double = HttpDouble::start().await;
    double.always(Answer::status(204));
    let proxy = Proxy::before(&double.url()).await;
    let url = proxy.instead_in(&format!("{}/path", double.url()));
    assert!(url.ends_with("/path") && !url.contains(&double.addr().to_string()));

    assert_eq!(client().get(&url).send().await.expect("passes").status(), 204);
    proxy.mood(Mood::Down);
    assert!(client().get(&url).send().await.is_err());
    proxy.mood(Mood::Silent);
    assert!(client().get(&url).send().await.expect_err("silence").is_timeout());
    proxy.mood(Mood::Slow(Duration::from_millis(40)));
    let before = std::time::Instant::now();
    assert_eq!(client().get(&url).send().await.expect("is slow").status(), 204);
    assert!(before.elapsed() >= Duration::from_millis(80), "both directions wait");
}

#[tokio::test]
async fn a_cut_ends_open_connections_only() {
    let double = HttpDouble::start().await;
    double.always(Answer::status(204));
    let gate = testkit::Gate::closed();
    double.next([Answer::status(204).behind(&gate)]);
    let proxy = Proxy::before(&double.url()).await;
    let url = proxy.instead_in(&double.url());
    let waiting = tokio::spawn(reqwest::Client::new().get(&url).send());
    double.asked(1).await;
    proxy.cut();
    assert!(waiting.await.expect("joins").is_err());
    assert_eq!(client().get(&url).send().await.expect("a new one").status(), 204);
}

#[test]
fn finds_the_address_in_a_url_with_a_password() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let proxy = runtime.block_on(Proxy::before("postgres://me:p%40ss@127.0.0.1:5432/db"));
    let port = proxy.addr().port();
    let url = proxy.instead_in("postgres://me:p%40ss@127.0.0.1:5432/db");
    assert_eq!(url, format!("postgres://me:p%40ss@127.0.0.1:{port}/db"));
}
