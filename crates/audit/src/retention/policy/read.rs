//! Reads a policy as a person wrote it: each member by its type and bounds, then what they mean together.

use chrono::{DateTime, TimeDelta, Utc};
use contracts::audit::lifecycle::Then;
use evidence::Codec;
use serde_json::{Map, Value};

use super::super::filter::Filter;
use super::super::hold::read_time;
use super::super::reader::{Reader, below, optional};
use super::super::term::Term;
use super::{
    ArchiveSpec, Brake, EFFECTIVE_DAYS_AHEAD, NAME_CHARS_MAX, NOTIFY_MAX, Notify, PRIORITY_RANGE,
    PolicyDraft, PolicySpec, PolicyState, Schedule,
};
use crate::event::FieldError;

/// How far back `effective_at` may lie and still means now: what clocks are allowed to differ by.
const EFFECTIVE_MINUTES_BACK: i64 = 5;
/// Storage classes that give an object back at once. From the others it could not be read back and
/// verified before anything is deleted; a life cycle rule of the bucket moves it there later.
const STORAGE_CLASSES: [&str; 5] =
    ["STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"];

const MEMBERS: [&str; 14] = [
    "name",
    "filter",
    "keep",
    "then",
    "archive",
    "schedule",
    "priority",
    "legal_minimum",
    "legal_maximum",
    "brake",
    "notify",
    "state",
    "effective_at",
    "version",
];

impl PolicyDraft {
    /// Reads a policy as a person wrote it, for a tenant that may or may not keep for no time at all.
    pub fn read(value: &Value, sandbox: bool, now: DateTime<Utc>) -> Result<Self, Vec<FieldError>> {
        let mut reader = Reader::default();
        let draft = match reader.object("", value, &MEMBERS) {
            Some(members) => read_members(&mut reader, members, now),
            None => None,
        };
        if let Some(draft) = &draft {
            check(&mut reader, &draft.spec, sandbox, now);
        }
        reader.finish(draft)
    }
}

fn read_members(
    reader: &mut Reader,
    members: &Map<String, Value>,
    now: DateTime<Utc>,
) -> Option<PolicyDraft> {
    let name = reader.required("", members, "name");
    let name = name.and_then(|name| reader.text("/name", name, 1..=NAME_CHARS_MAX));
    let keep = reader.required("", members, "keep");
    let keep = keep.and_then(|keep| reader.parsed("/keep", keep));
    let then = reader.required("", members, "then");
    let then = then.and_then(|then| reader.word("/then", then, &THENS));
    let filter = optional(members, "filter").map(|filter| Filter::read(reader, "/filter", filter));
    let archive = optional(members, "archive").map(|archive| read_archive(reader, archive));
    let schedule = optional(members, "schedule").map(|schedule| read_schedule(reader, schedule));
    let priority = optional(members, "priority");
    let priority = priority.and_then(|number| reader.integer("/priority", number, PRIORITY_RANGE));
    let mut term = |key: &str| {
        optional(members, key).and_then(|value| reader.parsed::<Term>(&format!("/{key}"), value))
    };
    let (legal_minimum, legal_maximum) = (term("legal_minimum"), term("legal_maximum"));
    let brake = optional(members, "brake").map(|brake| read_brake(reader, brake));
    let notify = optional(members, "notify").map(|notify| read_notify(reader, notify));
    let state = optional(members, "state").and_then(|state| reader.word("/state", state, &STATES));
    let effective_at = optional(members, "effective_at");
    let effective_at = effective_at.and_then(|at| read_effective(reader, at, now));
    let version = optional(members, "version");
    let version = version.and_then(|number| reader.integer("/version", number, 1..=i64::MAX));
    let then = then?;
    let spec = PolicySpec {
        name: name?.to_owned(),
        filter: filter.unwrap_or_default(),
        keep: keep?,
        then,
        archive: archive.or_else(|| (then != Then::Delete).then(ArchiveSpec::default)),
        schedule: schedule.unwrap_or_default(),
        priority: priority.and_then(|number| i32::try_from(number).ok()).unwrap_or(0),
        legal_minimum,
        legal_maximum,
        brake: brake.unwrap_or_default(),
        notify: notify.unwrap_or_default(),
        state: state.unwrap_or_default(),
    };
    let version = version.map(i64::cast_unsigned);
    Some(PolicyDraft { spec, effective_at, version })
}

const THENS: [(&str, Then); 3] = [
    ("archive", Then::Archive),
    ("archive_and_delete", Then::ArchiveAndDelete),
    ("delete", Then::Delete),
];
const STATES: [(&str, PolicyState); 2] =
    [("active", PolicyState::Active), ("disabled", PolicyState::Disabled)];

fn read_archive(reader: &mut Reader, value: &Value) -> ArchiveSpec {
    let mut archive = ArchiveSpec::default();
    let Some(members) = reader.object("/archive", value, &["codec", "storage_class", "keep"])
    else {
        return archive;
    };
    let codecs = [("zstd", Codec::Zstd), ("gzip", Codec::Gzip), ("lz4", Codec::Lz4)];
    if let Some(codec) = optional(members, "codec") {
        archive.codec = reader.word("/archive/codec", codec, &codecs).unwrap_or(archive.codec);
    }
    if let Some(class) = optional(members, "storage_class") {
        let classes = STORAGE_CLASSES.map(|class| (class, class));
        if let Some(class) = reader.word("/archive/storage_class", class, &classes) {
            class.clone_into(&mut archive.storage_class);
        }
    }
    archive.keep = optional(members, "keep").and_then(|keep| reader.parsed("/archive/keep", keep));
    if archive.keep.is_some_and(Term::is_zero) {
        reader.wrong(
            "/archive/keep",
            "expected a day at least: an archive that is kept for no time proves nothing",
        );
    }
    archive
}

fn read_schedule(reader: &mut Reader, value: &Value) -> Schedule {
    let mut schedule = Schedule::default();
    let Some(members) = reader.object("/schedule", value, &["cron", "time_zone"]) else {
        return schedule;
    };
    let cron = reader.required("/schedule", members, "cron");
    if let Some(cron) = cron.and_then(|cron| reader.text("/schedule/cron", cron, 1..=200)) {
        cron.clone_into(&mut schedule.cron);
    }
    if let Some(zone) = optional(members, "time_zone")
        && let Some(zone) = reader.text("/schedule/time_zone", zone, 1..=64)
    {
        zone.clone_into(&mut schedule.time_zone);
    }
    schedule
}

fn read_brake(reader: &mut Reader, value: &Value) -> Brake {
    let mut brake = Brake::default();
    let Some(members) = reader.object("/brake", value, &["share_max", "growth_max"]) else {
        return brake;
    };
    if let Some(share) = optional(members, "share_max") {
        let share =
            reader.number("/brake/share_max", share, f64::MIN_POSITIVE..=Brake::WIDEST.share_max);
        brake.share_max = share.unwrap_or(brake.share_max);
    }
    if let Some(growth) = optional(members, "growth_max") {
        let growth = reader.number("/brake/growth_max", growth, 1.0..=Brake::WIDEST.growth_max);
        brake.growth_max = growth.unwrap_or(brake.growth_max);
    }
    brake
}

fn read_notify(reader: &mut Reader, value: &Value) -> Vec<Notify> {
    let items = reader.list("/notify", value, NOTIFY_MAX);
    items.into_iter().filter_map(|(at, item)| read_target(reader, &at, item)).collect()
}

fn read_target(reader: &mut Reader, pointer: &str, value: &Value) -> Option<Notify> {
    let members = reader.object(pointer, value, &["type", "to", "name"])?;
    let kinds = [("email", "to"), ("slack", "name"), ("webhook", "name")];
    let kind = reader.required(pointer, members, "type")?;
    let field = reader.word(&below(pointer, "type"), kind, &kinds)?;
    let (at, text) = (below(pointer, field), reader.required(pointer, members, field)?);
    let text = reader.text(&at, text, 1..=254)?.to_owned();
    if members.keys().any(|key| key != "type" && key != field) {
        reader.wrong(pointer, format!("expected type and {field} only"));
        return None;
    }
    if field == "to" {
        let parts = text.split_once('@');
        let mailbox = parts.is_some_and(|(user, host)| !user.is_empty() && host.contains('.'));
        if !mailbox || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            reader.wrong(at, "expected a mailbox, e.g. ops@example.com");
            return None;
        }
        return Some(Notify::Email { to: text });
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.len() > 64 || !text.bytes().all(plain) {
        let detail = "expected a name of the worker's configuration: 1 to 64 of a-z, 0-9 and -; \
                      an address with a secret in it does not belong into a policy";
        reader.wrong(at, detail);
        return None;
    }
    let slack = kind.as_str() == Some("slack");
    Some(if slack { Notify::Slack { name: text } } else { Notify::Webhook { name: text } })
}

fn read_effective(reader: &mut Reader, value: &Value, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let at = read_time(reader, "/effective_at", value)?;
    if at < now - TimeDelta::minutes(EFFECTIVE_MINUTES_BACK) {
        reader.wrong(
            "/effective_at",
            "expected a time that is not past: no change holds for what was",
        );
        return None;
    }
    if at > now + TimeDelta::days(EFFECTIVE_DAYS_AHEAD) {
        let detail = format!("expected a time within {EFFECTIVE_DAYS_AHEAD} days");
        reader.wrong("/effective_at", detail);
        return None;
    }
    (at > now).then_some(at)
}

/// What the members mean together.
fn check(reader: &mut Reader, spec: &PolicySpec, sandbox: bool, now: DateTime<Utc>) {
    if spec.keep.is_zero() && !sandbox {
        reader
            .wrong("/keep", "expected a day at least: only a sandbox tenant may keep for no time");
    }
    if spec.then == Then::Delete && spec.archive.is_some() {
        reader.wrong("/archive", "expected none where then is delete: nothing is archived");
    }
    match spec.schedule.parse() {
        Err((member, detail)) => reader.wrong(below("/schedule", member), detail),
        Ok(_) if spec.schedule.next(now).is_none() => {
            reader.wrong("/schedule/cron", "expected a schedule that fires; this one never does");
        }
        Ok(_) => {}
    }
    if let Some(max) = spec.legal_maximum {
        if max.is_ever_shorter_than(spec.keep) {
            reader.wrong("/legal_maximum", format!("expected at least keep, {}", spec.keep));
        }
        if let Some(min) = spec.legal_minimum
            && max.is_ever_shorter_than(min)
        {
            reader.wrong("/legal_maximum", format!("expected at least legal_minimum, {min}"));
        }
    }
}
