//! Replaces sealed segments by one snapshot. It replays the files rather than ask the live broker:
//! no call ever waits for it, at the price of the state's memory once more while it runs.

use std::fs::{self, File};
use std::io::{BufWriter, Write};

use super::StoreError;
use super::directory::Directory;
use super::frames::{self, MAGIC};
use crate::broker::{Broker, BrokerConfig};

/// Writes the state after segment `sealed`, then removes what it replaces. Gives the snapshot's size.
pub(super) fn compact(directory: &Directory, sealed: u64) -> Result<u64, StoreError> {
    let mut broker = Broker::new(BrokerConfig::default());
    directory.load_sealed(sealed, &mut broker)?;
    let path = directory.snapshot(sealed + 1);
    let temporary = path.with_extension("tmp");
    let written = File::create(&temporary).and_then(|file| {
        let mut file = BufWriter::new(file);
        file.write_all(MAGIC)?;
        broker.snapshot(|piece| frames::write(&mut file, piece))?;
        // An empty record says that the snapshot is whole.
        frames::write(&mut file, &[])?;
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        file.metadata().map(|metadata| metadata.len())
    });
    let bytes = written.map_err(|error| {
        // Leaving half a file would only take more of what may be a full disk.
        if let Err(error) = fs::remove_file(&temporary) {
            tracing::debug!(%error, "no unfinished snapshot to remove");
        }
        StoreError::io("write", &temporary, error)
    })?;
    fs::rename(&temporary, &path).map_err(|error| StoreError::io("rename", &temporary, error))?;
    directory.sync()?;
    for number in directory.numbers("segment-", ".log")? {
        if number <= sealed {
            remove(&directory.segment(number))?;
        }
    }
    for number in directory.numbers("snapshot-", ".bin")? {
        if number <= sealed {
            remove(&directory.snapshot(number))?;
        }
    }
    Ok(bytes)
}

fn remove(path: &std::path::Path) -> Result<(), StoreError> {
    fs::remove_file(path).map_err(|error| StoreError::io("remove", path, error))
}
