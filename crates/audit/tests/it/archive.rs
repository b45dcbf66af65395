//! The archive worker against a real database and a directory in the bucket's place: what it writes is
//! verified as an auditor would, from the files alone.

mod double;
mod faults;
mod reading;
mod requests;
pub(crate) mod scene;
mod units;
