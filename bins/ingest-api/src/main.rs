//! Takes in audit logs, searches them, streams them live.

fn main() -> std::process::ExitCode {
    chassis::serve_main::<ingest_api::IngestApi>()
}
