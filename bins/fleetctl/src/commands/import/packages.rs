//! The machine's package log (`dpkg.log`) as audit events: what was installed, upgraded and removed.
//! Lines that tell only of dpkg's own steps are left out.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use chrono::NaiveDateTime;
use serde_json::{Value, json};

use super::{Item, Source};
use crate::failure::Failure;

/// Opens a package log.
pub(super) fn open(path: &Path) -> Result<Source, Failure> {
    let shown = path.display().to_string();
    let file = File::open(path).map_err(|error| {
        Failure::new(format!("{shown}: {error}")).hint("on Debian it is /var/log/dpkg.log")
    })?;
    let total = file.metadata()?.len();
    let items = BufReader::new(file).split(b'\n').filter_map(|line| match line {
        Err(error) => Some(Err(error.into())),
        Ok(line) => {
            let steps = line.len() as u64 + 1;
            let event = event(&String::from_utf8_lossy(&line))?;
            Some(Ok(Item { event, steps }))
        }
    });
    Ok(Source { name: format!("packages {shown}"), total: Some(total), items: Box::new(items) })
}

/// `2026-11-21 11:30:05 install redis:amd64 <none> 5:7.0` and its like; the log has local time
/// without a zone, which is read as UTC.
fn event(line: &str) -> Option<Value> {
    let mut words = line.split(' ');
    let (date, time) = (words.next()?, words.next()?);
    let at = NaiveDateTime::parse_from_str(&format!("{date} {time}"), "%Y-%m-%d %H:%M:%S").ok()?;
    let action = words.next().filter(|w| ["install", "upgrade", "remove", "purge"].contains(w))?;
    let package = words.next()?;
    let (from, to) = (words.next()?, words.next()?);
    Some(json!({
        "actor": { "type": "system", "id": "dpkg" },
        "action": format!("package.{action}"),
        "targets": [{ "type": "package", "id": package }],
        "outcome": "success",
        "occurred_at": at.and_utc().to_rfc3339(),
        "metadata": { "from": from, "to": to },
    }))
}

#[cfg(test)]
mod tests {
    use super::event;

    #[test]
    fn only_what_changed_a_package_is_an_event() {
        let line = "2026-11-21 11:30:05 install redis-server:amd64 <none> 5:7.0.15-1";
        let read = event(line).unwrap();
        assert_eq!(read["action"], "package.install");
        assert_eq!(read["occurred_at"], "2026-11-21T11:30:05+00:00");
        assert!(event("2026-11-21 11:30:05 status unpacked redis:amd64 5:7").is_none());
        assert!(event("2026-11-21 11:30:05 startup archives unpack").is_none());
        assert!(event("").is_none());
    }
}
