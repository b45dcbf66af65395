//! The steps of the API, the index worker and the archive's sealer at which a test can make the real process die by
//! SIGKILL, as one enumerated list. In a release build [`reach`] is empty; in a debug build it does
//! nothing either until [`arm`] names a step (the hidden option `CRASH_POINT`).

/// A step of the API, the index worker or the sealer, named for what has just happened or is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// API: the idempotency key is reserved; nothing is published.
    AfterReserve,
    /// API: the queue has accepted; the key is not marked and the client has no answer.
    AfterPublish,
    /// API: the key is marked as published; the client has no answer.
    AfterMark,
    /// API: the queue has accepted a change or an erasure; the client has no answer.
    AfterChangePublish,
    /// The message is read and checked; nothing is stored.
    AfterDecode,
    /// Rows are inserted, the transaction is open.
    BeforeInsertCommit,
    /// Rows are stored; nothing is searchable.
    AfterInsertCommit,
    /// The search engine has answered; nothing is published.
    AfterSearch,
    /// The feed has the logs; their tombstones are not looked for once more.
    AfterAnnounce,
    /// Everything is done; the message is not settled.
    BeforeSettle,
    /// A revision is numbered, the transaction is open.
    BeforeReviseCommit,
    /// The revision is stored; search has the old state.
    AfterReviseCommit,
    /// Tombstone, deletion and self-audit are written, the transaction is open.
    BeforeEraseCommit,
    /// The log is erased from PostgreSQL; search still has it.
    AfterEraseCommit,
    /// Search has forgotten the log; the self-audit logs are not searchable.
    AfterSearchErase,
    /// Sealer: a document is signed; the seal is not kept.
    AfterSign,
    /// The seal is kept; the document is not in the store.
    AfterSealKept,
    /// The document is in the store; nobody knows.
    AfterDocumentPut,
    /// The document is marked as stored.
    AfterDocumentMark,
    /// A head is signed; it is not kept.
    AfterHeadSign,
    /// The head is kept; it is in no store.
    AfterHeadKept,
    /// The head is in the store; nobody knows.
    AfterHeadPut,
    /// The head is in the second store; nobody knows.
    AfterHeadCopied,
    /// Archive: the unit is claimed; nothing is read.
    AfterClaim,
    /// The unit's lines are packed; it has no name.
    AfterPack,
    /// An upload is begun; the unit does not know of it.
    AfterUploadBegun,
    /// A part is stored and noted; others are missing.
    AfterPart,
    /// The object is not complete; the next call makes it so.
    BeforeObject,
    /// The object is complete; the unit does not know.
    AfterObject,
    /// The unit knows its object; nothing is proved.
    AfterWritten,
    /// The object was read back whole; nothing follows from it yet.
    AfterVerify,
    /// Manifest, marks, counters and messages are written, the transaction is open.
    BeforeSealCommit,
    /// The manifest is in the chain; the message is not settled.
    AfterSealCommit,
    /// A run's plan is kept; its units are not added.
    AfterPlan,
    /// A run's units are added; it is not started.
    AfterUnits,
    /// Cleanup: the object was read whole; nothing is deleted.
    AfterDecoded,
    /// A batch is deleted with its tombstones, the transaction is open.
    BeforeDeleteCommit,
    /// A batch is deleted; search still has it.
    AfterDeleteCommit,
    /// No further row goes; search still has them.
    AfterRowsDeleted,
    /// Search was told to forget them; nothing is counted.
    AfterSearchForgot,
    /// Search was counted to none of them, and that is noted.
    AfterSearchEmpty,
    /// The list of deleted ids is stored; there is no receipt.
    AfterIdsPut,
    /// Receipt, unit and run are written, the transaction is open.
    BeforeReceiptCommit,
    /// The receipt is in the chain; the message is not settled.
    AfterReceiptCommit,
    /// It is noted that an object is to be removed; it is there.
    AfterRemovalNoted,
    /// The object is removed; nobody knows.
    AfterObjectRemoved,
    /// Retention: a slot's run is begun and its evaluation is in the outbox.
    AfterRunBegun,
    /// The run is started; nobody is told of its units.
    AfterStart,
    /// A page of units has its messages in the outbox; the message is not settled.
    AfterUnitsTold,
    /// A target has a notification; the ledger does not know.
    AfterNotified,
}

impl CrashPoint {
    /// Every point, in the order of the path: [`Self::API`], [`Self::WORKER`],
    /// [`Self::SEALER`], [`Self::ARCHIVE`], [`Self::CLEANUP`], then [`Self::RETENTION`].
    pub const ALL: [Self; 50] = [
        Self::AfterReserve,
        Self::AfterPublish,
        Self::AfterMark,
        Self::AfterChangePublish,
        Self::AfterDecode,
        Self::BeforeInsertCommit,
        Self::AfterInsertCommit,
        Self::AfterSearch,
        Self::AfterAnnounce,
        Self::BeforeSettle,
        Self::BeforeReviseCommit,
        Self::AfterReviseCommit,
        Self::BeforeEraseCommit,
        Self::AfterEraseCommit,
        Self::AfterSearchErase,
        Self::AfterSign,
        Self::AfterSealKept,
        Self::AfterDocumentPut,
        Self::AfterDocumentMark,
        Self::AfterHeadSign,
        Self::AfterHeadKept,
        Self::AfterHeadPut,
        Self::AfterHeadCopied,
        Self::AfterClaim,
        Self::AfterPack,
        Self::AfterUploadBegun,
        Self::AfterPart,
        Self::BeforeObject,
        Self::AfterObject,
        Self::AfterWritten,
        Self::AfterVerify,
        Self::BeforeSealCommit,
        Self::AfterSealCommit,
        Self::AfterPlan,
        Self::AfterUnits,
        Self::AfterDecoded,
        Self::BeforeDeleteCommit,
        Self::AfterDeleteCommit,
        Self::AfterRowsDeleted,
        Self::AfterSearchForgot,
        Self::AfterSearchEmpty,
        Self::AfterIdsPut,
        Self::BeforeReceiptCommit,
        Self::AfterReceiptCommit,
        Self::AfterRemovalNoted,
        Self::AfterObjectRemoved,
        Self::AfterRunBegun,
        Self::AfterStart,
        Self::AfterUnitsTold,
        Self::AfterNotified,
    ];

    /// The points of the API.
    pub const API: [Self; 4] =
        [Self::AfterReserve, Self::AfterPublish, Self::AfterMark, Self::AfterChangePublish];

    /// The points of the index worker.
    pub const WORKER: [Self; 11] = [
        Self::AfterDecode,
        Self::BeforeInsertCommit,
        Self::AfterInsertCommit,
        Self::AfterSearch,
        Self::AfterAnnounce,
        Self::BeforeSettle,
        Self::BeforeReviseCommit,
        Self::AfterReviseCommit,
        Self::BeforeEraseCommit,
        Self::AfterEraseCommit,
        Self::AfterSearchErase,
    ];

    /// The points of the archive's sealer.
    pub const SEALER: [Self; 8] = [
        Self::AfterSign,
        Self::AfterSealKept,
        Self::AfterDocumentPut,
        Self::AfterDocumentMark,
        Self::AfterHeadSign,
        Self::AfterHeadKept,
        Self::AfterHeadPut,
        Self::AfterHeadCopied,
    ];

    /// The points of the archive worker.
    pub const ARCHIVE: [Self; 12] = [
        Self::AfterClaim,
        Self::AfterPack,
        Self::AfterUploadBegun,
        Self::AfterPart,
        Self::BeforeObject,
        Self::AfterObject,
        Self::AfterWritten,
        Self::AfterVerify,
        Self::BeforeSealCommit,
        Self::AfterSealCommit,
        Self::AfterPlan,
        Self::AfterUnits,
    ];

    /// The points of the cleanup worker: of rows, then of an object.
    pub const CLEANUP: [Self; 11] = [
        Self::AfterDecoded,
        Self::BeforeDeleteCommit,
        Self::AfterDeleteCommit,
        Self::AfterRowsDeleted,
        Self::AfterSearchForgot,
        Self::AfterSearchEmpty,
        Self::AfterIdsPut,
        Self::BeforeReceiptCommit,
        Self::AfterReceiptCommit,
        Self::AfterRemovalNoted,
        Self::AfterObjectRemoved,
    ];

    /// The points of the retention worker that are its own; it passes those of a plan as well.
    pub const RETENTION: [Self; 4] =
        [Self::AfterRunBegun, Self::AfterStart, Self::AfterUnitsTold, Self::AfterNotified];

    /// The name in `CRASH_POINT`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AfterReserve => "after-reserve",
            Self::AfterPublish => "after-publish",
            Self::AfterMark => "after-mark",
            Self::AfterChangePublish => "after-change-publish",
            Self::AfterDecode => "after-decode",
            Self::BeforeInsertCommit => "before-insert-commit",
            Self::AfterInsertCommit => "after-insert-commit",
            Self::AfterSearch => "after-search",
            Self::AfterAnnounce => "after-announce",
            Self::BeforeSettle => "before-settle",
            Self::BeforeReviseCommit => "before-revise-commit",
            Self::AfterReviseCommit => "after-revise-commit",
            Self::BeforeEraseCommit => "before-erase-commit",
            Self::AfterEraseCommit => "after-erase-commit",
            Self::AfterSearchErase => "after-search-erase",
            Self::AfterSign => "after-sign",
            Self::AfterSealKept => "after-seal-kept",
            Self::AfterDocumentPut => "after-document-put",
            Self::AfterDocumentMark => "after-document-mark",
            Self::AfterHeadSign => "after-head-sign",
            Self::AfterHeadKept => "after-head-kept",
            Self::AfterHeadPut => "after-head-put",
            Self::AfterHeadCopied => "after-head-copied",
            Self::AfterClaim => "after-claim",
            Self::AfterPack => "after-pack",
            Self::AfterUploadBegun => "after-upload-begun",
            Self::AfterPart => "after-part",
            Self::BeforeObject => "before-object",
            Self::AfterObject => "after-object",
            Self::AfterWritten => "after-written",
            Self::AfterVerify => "after-verify",
            Self::BeforeSealCommit => "before-seal-commit",
            Self::AfterSealCommit => "after-seal-commit",
            Self::AfterPlan => "after-plan",
            Self::AfterUnits => "after-units",
            Self::AfterDecoded => "after-decoded",
            Self::BeforeDeleteCommit => "before-delete-commit",
            Self::AfterDeleteCommit => "after-delete-commit",
            Self::AfterRowsDeleted => "after-rows-deleted",
            Self::AfterSearchForgot => "after-search-forgot",
            Self::AfterSearchEmpty => "after-search-empty",
            Self::AfterIdsPut => "after-ids-put",
            Self::BeforeReceiptCommit => "before-receipt-commit",
            Self::AfterReceiptCommit => "after-receipt-commit",
            Self::AfterRemovalNoted => "after-removal-noted",
            Self::AfterObjectRemoved => "after-object-removed",
            Self::AfterRunBegun => "after-run-begun",
            Self::AfterStart => "after-start",
            Self::AfterUnitsTold => "after-units-told",
            Self::AfterNotified => "after-notified",
        }
    }
}

impl std::str::FromStr for CrashPoint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|point| point.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no crash point"))
    }
}

/// Says that the process is at this step; dies here when a test asked for it.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_point: CrashPoint) {}

#[cfg(debug_assertions)]
pub use armed::{arm, reach};

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;

    use super::CrashPoint;

    static ARMED: OnceLock<CrashPoint> = OnceLock::new();

    /// Makes the process die when it reaches `point`; the first call wins.
    pub fn arm(point: CrashPoint) {
        if ARMED.set(point).is_err() {
            tracing::warn!("a crash point is armed already");
        }
    }

    /// Dies by SIGKILL when `point` is the armed one: no destructor runs, nothing is flushed.
    pub fn reach(point: CrashPoint) {
        if ARMED.get() != Some(&point) {
            return;
        }
        tracing::warn!(point = point.as_str(), "crash point reached");
        let own = rustix::process::getpid();
        if let Err(error) = rustix::process::kill_process(own, rustix::process::Signal::KILL) {
            tracing::error!(%error, "cannot die at the crash point");
        }
        // The signal may reach another thread first; this one goes no further.
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::CrashPoint;

    #[test]
    fn every_point_is_read_by_its_name() {
        for point in CrashPoint::ALL {
            assert_eq!(point.as_str().parse(), Ok(point));
        }
        let parts = [
            &CrashPoint::API[..],
            &CrashPoint::WORKER[..],
            &CrashPoint::SEALER[..],
            &CrashPoint::ARCHIVE[..],
            &CrashPoint::CLEANUP[..],
            &CrashPoint::RETENTION[..],
        ]
        .concat();
        assert_eq!(parts, CrashPoint::ALL);
        assert!("after-lunch".parse::<CrashPoint>().is_err());
    }
}
