//! The admin port over HTTP: readiness with reasons, the token, slow clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chassis::{Admin, AdminConfig, Context, Secret, Telemetry};
use queue_core::Probe;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Sink(AtomicBool);

#[async_trait]
impl Probe for Sink {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn probe(&self) -> Result<(), String> {
        if self.0.load(Ordering::SeqCst) { Ok(()) } else { Err("connection refused".into()) }
    }
}

struct Hung;

#[async_trait]
impl Probe for Hung {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn probe(&self) -> Result<(), String> {
        std::future::pending().await
    }
}

async fn admin(token: Option<&str>) -> (Context, std::net::SocketAddr) {
    let context = Context::new("sample", "1.2.3", Duration::from_secs(1));
    let token = token.map(|token| Secret::from(token.to_owned()));
    let config = AdminConfig { addr: "127.0.0.1:0".parse().unwrap(), token };
    let admin = Admin::bind(config, context.clone(), Telemetry::detached()).await.unwrap();
    let addr = admin.addr();
    context.spawn(admin.serve(context.ended()));
    (context, addr)
}

/// Status code and body.
async fn get(addr: std::net::SocketAddr, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (code, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn readiness_goes_from_starting_over_running_to_draining() {
    let (context, addr) = admin(None).await;
    let ready = async || {
        let (code, body) = get(addr, "/readyz", "").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        (code, body["phase"].as_str().unwrap().to_owned())
    };
    assert_eq!(ready().await, (503, "starting".to_owned()));
    assert_eq!(get(addr, "/healthz", "").await.0, 200);
    context.readiness().running();
    assert_eq!(ready().await, (200, "running".to_owned()));
    context.readiness().draining();
    assert_eq!(ready().await, (503, "draining".to_owned()));
    assert_eq!(get(addr, "/healthz", "").await.0, 200);
}

#[tokio::test]
async fn a_dependency_that_is_down_is_named_with_its_reason() {
    let (context, addr) = admin(None).await;
    context.readiness().running();
    context.readiness().register(Arc::new(Sink(AtomicBool::new(false))));
    let (code, body) = get(addr, "/readyz", "").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(code, 503);
    assert_eq!(body["checks"][0]["name"], "postgres");
    assert_eq!(body["checks"][0]["reason"], "connection refused");
    // Registered again under its name, it replaces the first.
    context.readiness().register(Arc::new(Sink(AtomicBool::new(true))));
    assert_eq!(context.readiness().report().await.checks.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_hangs_does_not_hang_readiness() {
    let context = Context::new("sample", "1.2.3", Duration::from_secs(1));
    context.readiness().running();
    context.readiness().register(Arc::new(Hung));
    let report = context.readiness().report().await;
    assert_eq!(report.checks[0].reason.as_deref(), Some("no answer within 2 s"));
}

#[tokio::test]
async fn metrics_and_status_ask_for_the_token_where_there_is_one() {
    let (_context, addr) = admin(Some("s3cret")).await;
    for path in ["/metrics", "/status"] {
        assert_eq!(get(addr, path, "").await.0, 401, "{path}");
        assert_eq!(get(addr, path, "Authorization: Bearer s3creT\r\n").await.0, 401, "{path}");
        assert_eq!(get(addr, path, "Authorization: Bearer s3cret\r\n").await.0, 200, "{path}");
    }
    assert_eq!(get(addr, "/healthz", "").await.0, 200);
    assert_eq!(get(addr, "/readyz", "").await.0, 503);
}

#[tokio::test]
async fn status_shows_the_build_and_the_sections() {
    let (context, addr) = admin(None).await;
    context.status().register("engine", || serde_json::json!({ "in_flight": 7 }));
    let (code, body) = get(addr, "/status", "").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(code, 200);
    assert_eq!(body["service"], "sample");
    assert_eq!(body["build"]["version"], "1.2.3");
    assert_eq!(body["sections"]["engine"]["in_flight"], 7);
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let (_context, addr) = admin(None).await;
    let below = format!("X-Pad: {}\r\n", "x".repeat(15 * 1024));
    assert_eq!(get(addr, "/healthz", &below).await.0, 200);
    let above = format!("X-Pad: {}\r\n", "x".repeat(17 * 1024));
    assert_eq!(get(addr, "/healthz", &above).await.0, 431);
}

#[tokio::test]
async fn a_taken_port_is_told_with_what_to_do() {
    let (_context, addr) = admin(None).await;
    let context = Context::new("second", "1.2.3", Duration::from_secs(1));
    let config = AdminConfig { addr, token: None };
    let error = Admin::bind(config, context, Telemetry::detached()).await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains(&addr.to_string()) && told.contains("ADMIN_ADDR"), "{told}");
}
