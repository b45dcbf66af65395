//! Who asks a browser to call: a page of another origin is refused, since it could send forms to a
//! port on its reader's machine without asking first. By what browsers say of themselves alone; SDKs and
//! command lines say nothing of the kind and are not looked at.

use axum::http::{HeaderMap, header};

use crate::errors::{ErrorKind, SqsError};

/// What every current browser sends along: how the calling page and this server are related.
const SITE: &str = "sec-fetch-site";

/// Refuses what a page of another origin sends.
pub(super) fn own(headers: &HeaderMap) -> Result<(), SqsError> {
    let Some(who) = foreign(headers) else { return Ok(()) };
    Err(SqsError::new(
        ErrorKind::AccessDenied,
        format!(
            "A page of another origin in a browser sent this ({who}), and nothing took effect. Call \
             from a program, or from a page that this server itself serves."
        ),
    ))
}

/// What says that another origin calls.
fn foreign(headers: &HeaderMap) -> Option<String> {
    if let Some(site) = headers.get(SITE) {
        // `none`: typed by a person.
        let own = site == "same-origin" || site == "none";
        return (!own).then(|| format!("Sec-Fetch-Site: {}", shown(site.as_bytes())));
    }
    let origin = headers.get(header::ORIGIN)?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let named = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let own = named.is_some_and(|(_, of)| host.is_some_and(|host| host.eq_ignore_ascii_case(of)));
    (!own).then(|| format!("Origin: {}", shown(origin.as_bytes())))
}

/// A header as an error can repeat it.
fn shown(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    text.chars().filter(char::is_ascii_graphic).take(100).collect()
}
