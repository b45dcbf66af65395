//! Who calls: the access key and region of a `SigV4` signature's credential scope, in the header or in
//! a signed URL. The signature is not verified. An access key of twelve digits is an account, as tests
//! use it; any other is the default.

use crate::model::{Caller, DEFAULT_ACCOUNT, DEFAULT_REGION};

/// The scope in `Authorization: AWS4-HMAC-SHA256 Credential=<scope>, SignedHeaders=…`.
pub fn scope(authorization: &str) -> Option<&str> {
    let (_, rest) = authorization.split_once("Credential=")?;
    rest.split([',', ' ']).next()
}

/// The caller of a scope, `<key>/<date>/<region>/sqs/aws4_request`. One that names no region (as
/// signatures for several regions do not) has `region`, and so has a request without a scope.
pub fn caller(scope: Option<&str>, region: Option<&str>) -> Caller {
    let parts: Vec<&str> = scope.unwrap_or_default().split('/').collect();
    let key = parts.first().copied().unwrap_or_default();
    let named = match parts.as_slice() {
        [_, _, region, _, ..] if parts.len() != 4 => Some(*region),
        [_, _, region] => Some(*region),
        _ => None,
    };
    let region = named.filter(|region| is_region(region)).or(region).unwrap_or(DEFAULT_REGION);
    let account = if is_account(key) { key } else { DEFAULT_ACCOUNT };
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
        assert_eq!(scope(header), Some(signed));
        assert_eq!(scope("Bearer x"), None);
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
            (Some("x/y/bad_region"), None, "000000000000 us-east-1"),
            (None, Some("eu-north-1"), "000000000000 eu-north-1"),
            (None, None, "000000000000 us-east-1"),
        ] {
            let caller = caller(scope, region);
            assert_eq!(format!("{} {}", caller.account, caller.region), expected, "{scope:?}");
        }
    }
}
