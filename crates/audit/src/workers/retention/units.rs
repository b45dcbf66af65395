//! A started run's units become messages, page by page, each unit once: archive it, delete it, or delete
//! what an object of the archive holds of it.

use contracts::audit::lifecycle::{
    ArchiveByPolicy, ArchiveMessage, CleanupByPolicy, CleanupMessage,
};
use queue_core::Failure;
use sqlx::PgConnection;

use super::{RetentionWorker, put};
use crate::archive::outgoing::{self, Cause, PutError};
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::{Basis, Run, RunState, Unit, Work};
use crate::store::{self, planning};

/// Units of one page, a transaction each.
const PAGE: i64 = 200;

impl RetentionWorker {
    /// Goes on where the last page ended, until there are no more units or the run is stopped.
    pub(super) async fn tell_units(
        &self,
        run: &Run,
        cause: &Cause,
        progress: &(dyn Fn() + Sync),
    ) -> Result<(), Failure> {
        while self.tell_page(run, cause).await.map_err(put)? {
            reach(CrashPoint::AfterUnitsTold);
            progress();
        }
        Ok(())
    }

    async fn tell_page(&self, run: &Run, cause: &Cause) -> Result<bool, PutError> {
        let (tenant, id) = (&run.new.tenant, run.new.id);
        let mut transaction = self.database.pool().begin().await?;
        let telling = planning::telling(&mut transaction, tenant, id).await?;
        if telling.state != RunState::Running {
            return Ok(false);
        }
        let units = store::units_of(&mut transaction, tenant, id, telling.told, PAGE).await?;
        let Some(last) = units.last() else { return Ok(false) };
        for unit in units.iter().filter(|unit| !unit.state.ended()) {
            self.tell_unit(&mut transaction, run, cause, unit).await?;
        }
        planning::tell_up_to(&mut transaction, tenant, id, last.number).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn tell_unit(
        &self,
        transaction: &mut PgConnection,
        run: &Run,
        cause: &Cause,
        unit: &Unit,
    ) -> Result<(), PutError> {
        let Basis::Policy { id: policy_id, version: policy_version, .. } = run.new.basis else {
            return Ok(());
        };
        let (run_id, unit_id, now) = (run.new.id, unit.id, self.now());
        match (unit.work, unit.manifest) {
            (Work::Archive, _) => {
                let by = ArchiveByPolicy { run_id, unit_id, policy_id, policy_version };
                outgoing::put(transaction, cause, &ArchiveMessage::ByPolicy(by), now).await
            }
            (Work::Delete, _) => {
                let by = CleanupByPolicy { run_id, unit_id, policy_id, policy_version };
                outgoing::put(transaction, cause, &CleanupMessage::ByPolicy(by), now).await
            }
            (Work::Again, Some(manifest)) => {
                outgoing::clean_up(transaction, cause, unit, manifest, now).await
            }
            (Work::Again, None) => {
                let text = format!("unit {unit_id} goes by an object and names no manifest");
                Err(PutError::Database(sqlx::Error::Protocol(text)))
            }
        }
    }
}
