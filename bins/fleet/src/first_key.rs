//! A tenant and an API key for somebody who has just started the fleet for the first time. The key
//! is printed once; stored is only a hash.

use chassis::BuildError;
use contracts::{RetentionClass, Tenant};
use database::api_keys::{self, NewKey};
use database::{Database, tenants};
use edge::Scope;

/// The tenant of the first start.
pub(crate) const TENANT: &str = "demo";

/// Makes the tenant and its key where there is no tenant but the fleet's own; returns the key's text.
pub(crate) async fn make(database: &Database) -> Result<Option<String>, BuildError> {
    let pool = database.pool();
    let known = tenants::list(pool).await.map_err(BuildError::failed)?;
    if known.iter().any(|tenant| tenant.id != Tenant::system()) {
        return Ok(None);
    }
    let tenant: Tenant = TENANT.parse().map_err(BuildError::failed)?;
    tenants::create(pool, &tenant, RetentionClass::Days90, true)
        .await
        .map_err(BuildError::failed)?;
    let scopes: Vec<String> = Scope::ALL.iter().map(|scope| scope.as_str().to_owned()).collect();
    let made = edge::generate("test");
    let key = NewKey {
        key_id: &made.key_id,
        tenant: &tenant,
        env: "test",
        secret_sha256: made.secret_sha256,
        scopes: &scopes,
        name: "first start of fleet",
        expires_at: None,
    };
    api_keys::create(pool, key).await.map_err(BuildError::failed)?;
    Ok(Some(made.text))
}
