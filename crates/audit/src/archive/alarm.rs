//! A chain that is not what was written is told to people, and that it goes on again. What a key, the store
//! or PostgreSQL keeps waiting is no such thing: it is counted, and catches up.

use contracts::Tenant;
use database::alerts::{self, AlertKey};
use database::timed;

use super::seal::{CALL_TIMEOUT, SealError, Sealer};
use crate::store::alarms;

impl Sealer {
    /// What became of a tenant's chain in this pass.
    pub(super) async fn alarm(
        &self,
        tenant: &Tenant,
        done: &Result<(), SealError>,
    ) -> Result<(), sqlx::Error> {
        let (key, now) = (AlertKey::chain_broken(tenant.clone()), self.clock.now());
        let telling = async {
            let mut connection = self.database.pool().acquire().await?;
            match done {
                Ok(()) => alerts::resolve(&mut connection, &key, now).await.map(drop),
                Err(error @ (SealError::Forked(_) | SealError::Changed(..))) => {
                    let title = format!("The archive's chain of {tenant} is broken");
                    let text = format!(
                        "{error}. Nothing is overwritten, and of this tenant nothing is signed or deleted \
                         until it is mended. `fleetctl verify` says what the archive proves without it; \
                         PostgreSQL was restored to an earlier point, or somebody wrote where only the \
                         sealer writes."
                    );
                    alarms::raise(&mut connection, &key, [&title, &text], now).await
                }
                Err(_) => Ok(()),
            }
        };
        timed(CALL_TIMEOUT, telling).await
    }
}
