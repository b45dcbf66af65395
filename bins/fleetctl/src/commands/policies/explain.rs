//! `fleetctl policies explain`: why a log stays or goes, as the API says it.

use uuid::Uuid;

use super::{get, rows, text};
use crate::api::Api;
use crate::failure::Failure;
use crate::output::{Output, table};

pub(super) async fn explain(api: &Api, output: &Output, log_id: Uuid) -> Result<(), Failure> {
    let explained = get(api, &format!("/logs/{log_id}/retention")).await?;
    output.value(&explained, || {
        let mut lines = vec![format!("{}: {}", text(&explained, "fate"), text(&explained, "why"))];
        if explained["goes_at"].is_string() {
            let then = text(&explained, "then");
            lines.push(format!("{then} at {}", text(&explained, "goes_at")));
        }
        let matched: Vec<Vec<String>> = rows(&explained, "matched")
            .iter()
            .map(|policy| {
                vec![
                    text(policy, "name").to_owned(),
                    policy["priority"].to_string(),
                    text(policy, "keep_until").to_owned(),
                    text(policy, "then").to_owned(),
                    text(policy, "not_before").to_owned(),
                    text(policy, "gone_by").to_owned(),
                    text(policy, "policy_id").to_owned(),
                ]
            })
            .collect();
        if !matched.is_empty() {
            let heads =
                ["POLICY", "PRIORITY", "KEEPS UNTIL", "THEN", "NOT BEFORE", "GONE BY", "ID"];
            lines.push(table(&heads, &matched));
        }
        lines.join("\n")
    });
    Ok(())
}
