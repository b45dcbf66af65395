//! `POST /logs/live/ticket`: a one-minute, one-use ticket for browsers, which cannot send headers
//! with a WebSocket. The ticket names its tenant, so that taking it needs no search over tenants.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{SecondsFormat, TimeDelta};
use contracts::Tenant;
use contracts::errors::{OVERLOADED, TICKET_INVALID};
use edge::{Principal, Problem, Scope};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Api, problems};
use crate::store;

/// How long a ticket can be used.
const TICKET_SECS: i64 = 60;

/// A ticket for one connection to the live tail.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Ticket {
    /// Connect to `/logs/live?ticket=…` with it.
    ticket: String,
    /// When it stops working; a minute from now.
    expires_at: String,
}

/// Makes a ticket for one connection to the live tail, usable for a minute.
#[utoipa::path(post, path = "/logs/live/ticket", tag = "live", security(("key" = ["logs:tail"])),
    responses(
        (status = 201, description = "The ticket", body = Ticket),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn issue(
    State(api): State<Arc<Api>>,
    principal: Principal,
) -> Result<Response, Problem> {
    principal.require(Scope::LogsTail)?;
    let random: [u8; 32] = rand::random();
    let secret = URL_SAFE_NO_PAD.encode(random);
    let now = api.clock.now();
    let expires_at = now + TimeDelta::seconds(TICKET_SECS);
    let hash = Sha256::digest(&secret).into();
    let tenant = &principal.tenant;
    let mut transaction = api.database.tenant(tenant).await.map_err(problems::database)?;
    let times = (now, expires_at);
    let stored = store::put_ticket(&mut transaction, tenant, &hash, &principal.key_id, times).await;
    if !stored.map_err(problems::database)? {
        let detail = format!("{} tickets of this tenant wait to be used", store::TICKETS_MAX);
        return Err(Problem::new(OVERLOADED, detail).retry_after(60));
    }
    transaction.commit().await.map_err(problems::database)?;
    let answer = Ticket {
        ticket: format!("{tenant}_{secret}"),
        expires_at: expires_at.to_rfc3339_opts(SecondsFormat::Secs, true),
    };
    let mut response = (StatusCode::CREATED, Json(answer)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Takes a ticket; what its key may do is looked up again.
pub(crate) async fn take(api: &Api, ticket: &str) -> Result<Principal, Problem> {
    let invalid = || Problem::new(TICKET_INVALID, "the ticket is unknown, used or expired");
    let (tenant, secret) = ticket.split_once('_').ok_or_else(invalid)?;
    let tenant: Tenant = tenant.parse().map_err(|_| invalid())?;
    let hash = Sha256::digest(secret).into();
    let mut transaction = api.database.tenant(&tenant).await.map_err(problems::database)?;
    let key_id = store::take_ticket(&mut transaction, &tenant, &hash, api.clock.now())
        .await
        .map_err(problems::database)?;
    transaction.commit().await.map_err(problems::database)?;
    let principal = api.gate.authenticator().recheck(&key_id.ok_or_else(invalid)?).await?;
    if principal.tenant == tenant { Ok(principal) } else { Err(invalid()) }
}
