//! Ids read out of answers, messages and pages: the sets that the books are made of.

use anyhow::Context;
use serde_json::Value;
use uuid::Uuid;

use crate::pile::Pile;

/// Of `POST /logs` and `POST /logs/bulk` answers.
pub fn of_answers(bodies: &[Pile]) -> anyhow::Result<Vec<u128>> {
    let mut ids = Vec::with_capacity(bodies.iter().map(Pile::len).sum());
    for body in bodies.iter().flat_map(Pile::iter) {
        let body: Value = serde_json::from_slice(body)?;
        match body["results"].as_array() {
            Some(results) => {
                // What was not taken has no id.
                let taken = results.iter().filter(|result| !result["id"].is_null());
                ids.extend(taken.map(of_value).collect::<anyhow::Result<Vec<_>>>()?);
            }
            None => ids.push(of_value(&body)?),
        }
    }
    Ok(ids)
}

/// Of the logs in messages of the index queue.
pub fn of_messages(bodies: &Pile) -> anyhow::Result<Vec<u128>> {
    let mut ids = Vec::new();
    for body in bodies.iter() {
        let envelope: Value = serde_json::from_slice(body)?;
        match envelope["body"]["items"].as_array() {
            Some(items) => {
                for item in items {
                    ids.push(of_value(&item["record"])?);
                }
            }
            None => ids.push(of_value(&envelope["body"]["record"])?),
        }
    }
    Ok(ids)
}

fn of_value(value: &Value) -> anyhow::Result<u128> {
    parse(value["id"].as_str().context("an id")?)
}

/// An id as a number.
pub fn parse(text: &str) -> anyhow::Result<u128> {
    Ok(text.parse::<Uuid>().with_context(|| format!("{text:?} is no id"))?.as_u128())
}
