//! Units as rows: how columns are read.

use evidence::document::ManifestRef;
use evidence::{Codec, Hash};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::lifecycle::{KeyRange, Tally, Unit};
use crate::store::runs::counters;

pub(super) const COLUMNS: &str = "\
tenant, id, run_id, number, work, retention_class, hour, first_at, first_id, last_at, last_id,
state, part, codec, object, upload, contents, manifest_sequence, manifest_sha256, receipt_sequence,
planned_events, planned_bytes, archived_events, archived_bytes, verified_events, verified_bytes,
deleted_events, deleted_bytes, held_events, held_bytes, gone_events, gone_bytes, failed_events,
failed_bytes, error";

pub(in crate::store) const fn codec_word(codec: Codec) -> &'static str {
    match codec {
        Codec::Gzip => "gzip",
        Codec::Lz4 => "lz4",
        Codec::Zstd => "zstd",
    }
}

fn codec_of(row: &PgRow) -> Result<Option<Codec>, sqlx::Error> {
    let word: Option<&str> = row.try_get("codec")?;
    let find = |word: &str| {
        let codec = Codec::ALL.into_iter().find(|codec| codec_word(*codec) == word);
        codec.ok_or_else(|| sqlx::Error::Decode(format!("codec {word:?}").into()))
    };
    word.map(find).transpose()
}

/// A column that holds a word or a name.
pub(in crate::store) fn decoded<T>(row: &PgRow, column: &str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.try_get::<&str, _>(column)?.parse().map_err(|error: T::Err| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(error),
    })
}

pub(in crate::store) fn tally(row: &PgRow, name: &str) -> Result<Tally, sqlx::Error> {
    let figure = |what: &str| row.try_get::<i64, _>(format!("{name}_{what}").as_str());
    Ok(Tally { events: figure("events")?.cast_unsigned(), bytes: figure("bytes")?.cast_unsigned() })
}

pub(super) fn range(row: &PgRow) -> Result<KeyRange, sqlx::Error> {
    Ok(KeyRange {
        class: decoded(row, "retention_class")?,
        first: (row.try_get("first_at")?, row.try_get("first_id")?),
        last: (row.try_get("last_at")?, row.try_get("last_id")?),
    })
}

/// A manifest's number and hash, where both are there.
pub(in crate::store) fn manifest(row: &PgRow) -> Result<Option<ManifestRef>, sqlx::Error> {
    let sequence: Option<i64> = row.try_get("manifest_sequence")?;
    let sha256: Option<Vec<u8>> = row.try_get("manifest_sha256")?;
    let sha256 = sha256.and_then(|bytes| bytes.try_into().ok()).map(Hash);
    let both = sequence.zip(sha256);
    Ok(both.map(|(at, sha256)| ManifestRef { sequence: at.cast_unsigned(), sha256 }))
}

/// A JSON column as what it was written from.
pub(in crate::store) fn json<T: serde::de::DeserializeOwned>(
    row: &PgRow,
    column: &str,
) -> Result<Option<T>, sqlx::Error> {
    let value: Option<serde_json::Value> = row.try_get(column)?;
    value.map(serde_json::from_value).transpose().map_err(|error| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(error),
    })
}

pub(super) fn read(row: &PgRow) -> Result<Unit, sqlx::Error> {
    let number = |value: i32| u32::try_from(value).unwrap_or(0);
    let part: Option<i32> = row.try_get("part")?;
    let receipt: Option<i64> = row.try_get("receipt_sequence")?;
    Ok(Unit {
        id: row.try_get("id")?,
        run_id: row.try_get("run_id")?,
        tenant: decoded(row, "tenant")?,
        number: number(row.try_get("number")?),
        work: decoded(row, "work")?,
        range: range(row)?,
        hour: row.try_get("hour")?,
        state: decoded(row, "state")?,
        part: part.map(number),
        codec: codec_of(row)?,
        object: row.try_get("object")?,
        upload: row.try_get("upload")?,
        contents: json(row, "contents")?,
        manifest: manifest(row)?,
        receipt: receipt.map(i64::cast_unsigned),
        counters: counters(row)?,
        error: row.try_get("error")?,
    })
}
