//! A sink that is down, at start or for a while, or swallows everything: the process lives, says
//! so, and goes on where it was when the sink is back. Nothing is dead-lettered for it.

use testkit::{Mood, Proxy, TestRedis};

use crate::scene::Scene;

/// Which sink stands behind the proxy.
#[derive(Clone, Copy)]
enum Sink {
    Postgres,
    Redis,
}

impl Sink {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }

    async fn behind_proxy(self, scene: &mut Scene) -> Proxy {
        let url = match self {
            Self::Postgres => &mut scene.database_url,
            Self::Redis => &mut scene.redis_url,
        };
        let proxy = Proxy::before(url).await;
        *url = proxy.instead_in(url);
        proxy
    }
}

async fn outlives(sink: Sink, mood: Mood, name: &str) {
    let redis = TestRedis::new().await;
    let mut scene = Scene::new(name, &redis).await;
    let proxy = sink.behind_proxy(&mut scene).await;
    proxy.mood(mood);
    scene.accept().await;
    let mut worker = scene.start(None);
    worker.says(&["breaker", sink.name(), "open"]).await;
    proxy.mood(Mood::Pass);
    scene.converged().await;
    let status = worker.drain().await;
    assert_eq!(status.code(), Some(0), "{status}\n{}", worker.output());
    assert_eq!(scene.differs().await, Ok(()));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_down_at_start() {
    outlives(Sink::Postgres, Mood::Down, "postgres-down").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_silent() {
    outlives(Sink::Postgres, Mood::Silent, "postgres-silent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_down_at_start() {
    outlives(Sink::Redis, Mood::Down, "redis-down").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_silent() {
    outlives(Sink::Redis, Mood::Silent, "redis-silent").await;
}
