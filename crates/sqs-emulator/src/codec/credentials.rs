//! Who calls: the access key and region of a `SigV4` signature's credential scope. The signature is not
//! verified. An access key of twelve digits is an account, as tests use it; any other is the default.

use crate::model::{Caller, DEFAULT_ACCOUNT, DEFAULT_REGION};

/// Reads `Authorization: AWS4-HMAC-SHA256 Credential=<key>/<date>/<region>/sqs/aws4_request, …`.
pub fn caller(authorization: Option<&str>) -> Caller {
    let scope = authorization
        .and_then(|header| header.split_once("Credential="))
        .map(|(_, rest)| rest.split([',', ' ']).next().unwrap_or_default());
    let mut parts = scope.unwrap_or_default().split('/');
    let key = parts.next().unwrap_or_default();
    let region = parts.nth(1).filter(|region| is_region(region)).unwrap_or(DEFAULT_REGION);
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
        let caller_of = |text: Option<&str>| {
            let caller = caller(text);
            format!("{} {}", caller.account, caller.region)
        };
        assert_eq!(caller_of(Some(header)), "111122223333 eu-west-1");
        assert_eq!(
            caller_of(Some(&header.replace("111122223333", "AKIAEXAMPLE"))),
            "000000000000 eu-west-1"
        );
        assert_eq!(caller_of(Some("Credential=x/y/bad_region")), "000000000000 us-east-1");
        assert_eq!(caller_of(None), "000000000000 us-east-1");
    }
}
