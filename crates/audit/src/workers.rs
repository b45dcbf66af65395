//! The subsystem's workers, one file each: `workers/<role>.rs`.

pub mod index;
pub mod legacy;

pub use index::IndexWorker;
pub use legacy::LegacyIndexWorker;
