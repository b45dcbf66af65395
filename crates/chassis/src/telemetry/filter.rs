//! Which log lines are written: `info`, or directives like `info,sqlx=warn`.
//!
//! Those ask nothing of a span but its target and level. `EnvFilter`, which also understands directives
//! about a span's name and fields, looks every span up in its tables when it is made, entered, left and
//! closed, and there is a span per message; so it is asked only where such a directive stands.

use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::Filter;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

/// What `level` says.
pub(super) enum LogFilter {
    Targets(Targets),
    Spans(Box<EnvFilter>),
}

impl LogFilter {
    /// Reads directives; the error says which one cannot be understood.
    pub(super) fn new(level: &str) -> Result<Self, ParseError> {
        // It reads whatever `Targets` does, but not the other way round.
        let spans = Box::new(EnvFilter::try_new(level)?);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_:=-".contains(&byte);
        let mut directives = level.split(',');
        if !directives.all(|one| !one.is_empty() && one.bytes().all(plain)) {
            return Ok(Self::Spans(spans));
        }
        Ok(level.parse().map_or(Self::Spans(spans), Self::Targets))
    }

    /// For everything that is logged.
    pub(super) fn layer<S: tracing::Subscriber>(self) -> Box<dyn Layer<S> + Send + Sync> {
        match self {
            Self::Targets(targets) => Box::new(targets),
            Self::Spans(spans) => Box::new(*spans),
        }
    }

    /// For one layer beside others.
    pub(super) fn of_one_layer<S>(self) -> Box<dyn Filter<S> + Send + Sync>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    {
        match self {
            Self::Targets(targets) => Box::new(targets),
            Self::Spans(spans) => Box::new(*spans),
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Whether events of some targets and levels are written.
    fn written(layer: Box<dyn Layer<tracing_subscriber::Registry> + Send + Sync>) -> Vec<bool> {
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            vec![
                tracing::enabled!(target: "sqlx", tracing::Level::WARN),
                tracing::enabled!(target: "sqlx", tracing::Level::INFO),
                tracing::enabled!(target: "sqlx::query", tracing::Level::DEBUG),
                tracing::enabled!(target: "sqlxs", tracing::Level::INFO),
                tracing::enabled!(target: "queue_core", tracing::Level::ERROR),
                tracing::enabled!(target: "queue_core", tracing::Level::INFO),
                tracing::enabled!(target: "queue_core", tracing::Level::TRACE),
            ]
        })
    }

    #[test]
    fn what_is_logged_is_the_same_whoever_reads_the_directives() {
        for (level, targets) in [
            ("info", true),
            ("WARN", true),
            ("3", true),
            ("off", true),
            ("trace", true),
            ("sqlx", true),
            ("info,sqlx=warn", true),
            ("sqlx=warn,info", true),
            ("warn,sqlx::query=debug,sqlx=off", true),
            ("sqlx=debug", true),
            ("", false),
            ("info,", false),
            ("info,[message]=debug", false),
            ("info,queue_core[message{tenant=acme}]=trace", false),
        ] {
            let theirs = written(Box::new(EnvFilter::try_new(level).unwrap()));
            let filter = LogFilter::new(level).unwrap();
            assert_eq!(matches!(filter, LogFilter::Targets(_)), targets, "{level:?}");
            assert_eq!(written(filter.layer()), theirs, "{level:?}");
        }
        for level in ["info,=", "info=loud", "info, sqlx=warn"] {
            assert!(LogFilter::new(level).is_err(), "{level:?}");
        }
    }
}
