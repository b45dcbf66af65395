//! The fields of a span as JSON, written once and as they come: there is a span per message, and hardly
//! one of them is ever logged in. `JsonFields` of `tracing-subscriber`, which this stands in for, keeps
//! each field as a value of its own first, sorts them, and reads all of them again to add one.
//!
//! It decides nothing about which fields there are. One that is recorded twice stands here twice; who
//! reads it takes the last.

use std::fmt::{self, Debug};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::Writer;

/// More than a message's span has, so that it is one allocation.
const EXPECTED: usize = 256;

/// Writes `{"name":value,…}`.
#[derive(Debug, Default)]
pub(super) struct SpanFields;

impl<'w> FormatFields<'w> for SpanFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let object = Members::after(Vec::with_capacity(EXPECTED), b'{').of(&fields)?;
        writer.write_str(&object)
    }

    fn add_fields(
        &self,
        current: &'w mut FormattedFields<Self>,
        fields: &Record<'_>,
    ) -> fmt::Result {
        let before = std::mem::take(&mut current.fields);
        let open = before.strip_suffix('}').unwrap_or_default();
        let object = match open {
            "" | "{" => Members::after(Vec::new(), b'{'),
            open => Members::after(open.as_bytes().to_vec(), b','),
        };
        current.fields = object.of(fields)?;
        Ok(())
    }
}

/// An object in the making.
struct Members {
    json: Vec<u8>,
    /// What stands before the next member.
    before: u8,
    written: Result<(), serde_json::Error>,
}

impl Members {
    fn after(json: Vec<u8>, before: u8) -> Self {
        Self { json, before, written: Ok(()) }
    }

    /// The object with these fields and its end.
    fn of(mut self, fields: &impl RecordFields) -> Result<String, fmt::Error> {
        fields.record(&mut self);
        match self.before {
            // Nothing was added.
            b'{' => self.json.extend_from_slice(b"{}"),
            _ => self.json.push(b'}'),
        }
        self.written.map_err(|_| fmt::Error)?;
        String::from_utf8(self.json).map_err(|_| fmt::Error)
    }

    fn member(&mut self, field: &Field, value: impl Serialize) {
        if self.written.is_err() {
            return;
        }
        self.json.push(self.before);
        self.before = b',';
        let name = field.name();
        self.written =
            serde_json::to_writer(&mut self.json, name.strip_prefix("r#").unwrap_or(name))
                .and_then(|()| {
                    self.json.push(b':');
                    serde_json::to_writer(&mut self.json, &value)
                });
    }
}

/// What has no JSON type of its own is its text.
struct Text<'a>(&'a dyn Debug);

impl Serialize for Text<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:?}", self.0))
    }
}

impl Visit for Members {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.member(field, Text(value));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing::field::Empty;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, Registry};

    use crate::telemetry::json_lines;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn spans(layer: impl FnOnce(Lines) -> Box<dyn Layer<Registry> + Send + Sync>) -> Value {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(layer(lines.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let bare = tracing::info_span!("bare", nothing = Empty);
            let full = tracing::info_span!(
                parent: &bare,
                "full",
                text = "with \"quotes\", a \\, a \n and a \u{7}, é",
                shown = %"1\t2",
                debugged = ?Some("x"),
                signed = -1,
                unsigned = u64::MAX,
                float = 0.5,
                no_number = f64::NAN,
                flag = true,
                r#type = "raw",
                later = Empty,
                again = 1,
            );
            full.record("later", "has come");
            full.record("again", 2);
            let late = tracing::info_span!(parent: &full, "late", first = Empty);
            late.record("first", 1);
            tracing::info!("outside");
            late.in_scope(|| tracing::info!(own = 1, "inside"));
        });
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let inside: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(inside["own"], 1, "the event is flat: {inside}");
        inside["spans"].clone()
    }

    #[test]
    fn spans_are_in_log_lines_as_the_subscriber_s_own_formatter_writes_them() {
        let theirs = spans(|lines| {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true);
            layer.with_current_span(false).with_span_list(true).with_writer(lines).boxed()
        });
        let ours = spans(json_lines);
        assert_eq!(ours, theirs);
        let names = ours.as_array().unwrap().iter().map(|span| span["name"].clone());
        assert_eq!(names.collect::<Vec<_>>(), ["bare", "full", "late"]);
        let full = &ours[1];
        assert_eq!((&full["later"], &full["again"]), (&json!("has come"), &json!(2)));
    }
}
