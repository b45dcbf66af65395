//! The subsystem's workers, one file each: `workers/<role>.rs`.

pub mod archive;
pub mod cleanup;
pub mod index;
pub mod legacy;
pub mod retention;

pub use archive::ArchiveWorker;
pub use cleanup::CleanupWorker;
pub use index::IndexWorker;
pub use legacy::LegacyIndexWorker;
pub use retention::RetentionWorker;
