//! Who calls: the access key and region of a `SigV4` signature's credential scope, in the header or in
//! a signed URL. The signature is not verified. An access key of twelve digits is an account, as tests
//! use it; any other is the default.

use crate::errors::{ErrorKind, SqsError};
use crate::model::{Caller, DEFAULT_ACCOUNT, DEFAULT_REGION};

/// The scope in `Authorization: AWS4-HMAC-SHA256 Credential=<scope>, SignedHeaders=…`; `None` when it
/// is another kind of authorization, an error when it does not say whose the signature is.
pub fn scope(authorization: &str) -> Result<Option<&str>, SqsError> {
    let Some(signature) = authorization.strip_prefix("AWS4-") else { return Ok(None) };
    let scope = signature.split_once("Credential=").map(|(_, rest)| rest);
    let scope = scope.and_then(|rest| rest.split([',', ' ']).next()).unwrap_or_default();
    // A signature for several regions names none.
    let parts = if signature.starts_with("ECDSA") { 4 } else { 5 };
    if scope.split('/').count() == parts {
        return Ok(Some(scope));
    }
    Err(SqsError::new(
        ErrorKind::IncompleteSignature,
        format!(
            "Credential must have exactly {parts} slash-delimited elements, e.g. \
             keyid/date/region/service/term, got '{scope}'"
        ),
    ))
}

/// The caller of a scope, `<key>/<date>/<region>/sqs/aws4_request`. One that names no region has
/// `region`, and so has a request without a scope.
pub fn caller(scope: Option<&str>, region: Option<&str>) -> Caller {
    let parts: Vec<&str> = scope.unwrap_or_default().split('/').collect();
    let named = parts.get(2).filter(|region| parts.len() == 5 && is_region(region));
    let region = named.copied().or(region).unwrap_or(DEFAULT_REGION);
    let account = parts.first().filter(|key| is_account(key)).copied().unwrap_or(DEFAULT_ACCOUNT);
    Caller { account: account.into(), region: region.into() }
}

/// Twelve digits.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Letters, digits and hyphens: what may stand in a host name and an ARN.
pub(super) fn is_region(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_and_region_come_from_the_scope() {
        let header = "AWS4-HMAC-SHA256 Credential=111122223333/20260101/eu-west-1/sqs/aws4_request, \
                      SignedHeaders=host, Signature=00";
        let signed = "111122223333/20260101/eu-west-1/sqs/aws4_request";
        assert_eq!(scope(header), Ok(Some(signed)));
        let several = "AWS4-ECDSA-P256-SHA256 Credential=111122223333/20260101/sqs/aws4_request, x";
        assert_eq!(scope(several), Ok(Some("111122223333/20260101/sqs/aws4_request")));
        assert_eq!(scope("Bearer x"), Ok(None));
        for header in ["AWS4-HMAC-SHA256 Credential=x/y/z", "AWS4-HMAC-SHA256", "AWS4-"] {
            let refused = scope(header).map_err(|error| error.kind);
            assert_eq!(refused, Err(ErrorKind::IncompleteSignature), "{header}");
        }
        for (scope, region, expected) in [
            (Some(signed), None, "111122223333 eu-west-1"),
            (Some(signed), Some("eu-north-1"), "111122223333 eu-west-1"),
            (
                Some("AKIAEXAMPLE/20260101/eu-west-1/sqs/aws4_request"),
                None,
                "000000000000 eu-west-1",
            ),
            (Some("111122223333/20260101/sqs/aws4_request"), None, "111122223333 us-east-1"),
            (Some("111122223333"), Some("eu-north-1"), "111122223333 eu-north-1"),
            (Some("x/y/bad_region/sqs/z"), None, "000000000000 us-east-1"),
            (None, Some("eu-north-1"), "000000000000 eu-north-1"),
            (None, None, "000000000000 us-east-1"),
        ] {
            let caller = caller(scope, region);
            assert_eq!(format!("{} {}", caller.account, caller.region), expected, "{scope:?}");
        }
    }
}
