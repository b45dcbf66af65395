//! A started run's units become messages, page by page, each unit once: archive it, delete it, or delete
//! what an object of the archive holds of it.

use queue_core::Failure;

use super::{RetentionWorker, put};
use crate::archive::outgoing::{Cause, PutError};
use crate::attendance;
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::{Run, RunState};
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
            attendance::tell(&mut transaction, cause, (run, unit), self.now()).await?;
        }
        planning::tell_up_to(&mut transaction, tenant, id, last.number).await?;
        transaction.commit().await?;
        Ok(true)
    }
}
