//! As whom a server runs: the caller, or for root another account, since servers refuse root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::error::{PartError, io};

/// Accounts root may run a server as, best first.
const CANDIDATES: [&str; 3] = ["flotilla", "postgres", "nobody"];
/// Where root keeps the data of servers when the directory asked for is closed to their account.
const ROOT_DATA: &str = "/var/lib/flotilla";

/// A user and its group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whom to become for a server; `None` when the caller may run it itself.
pub(crate) fn for_server(part: &'static str) -> Result<Option<Account>, PartError> {
    if !is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").map_err(io("read /etc/passwd"))?;
    let account = CANDIDATES.iter().find_map(|name| find(&passwd, name));
    account.map(Some).ok_or(PartError::NoAccount { part, tried: CANDIDATES.to_vec() })
}

/// The entry of that name, unless it is root in disguise.
fn find(passwd: &str, name: &str) -> Option<Account> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    let account = Account { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? };
    (account.uid != 0).then_some(account)
}

/// A private directory (0700) of the account: the one asked for, or where that lies below a
/// directory which the account may not enter, one under `/var/lib/flotilla` named after it, where
/// the file `relocated` in the directory asked for points to.
pub(crate) fn private_directory(
    wanted: &Path,
    account: Option<Account>,
) -> Result<PathBuf, PartError> {
    fs::create_dir_all(wanted).map_err(io(format!("create {}", wanted.display())))?;
    let wanted = wanted.canonicalize().map_err(io(format!("find {}", wanted.display())))?;
    let place = match account {
        Some(account) if !enterable(&wanted, account) => relocated(&wanted)?,
        _ => wanted,
    };
    give(&place, account, 0o700)?;
    Ok(place)
}

/// A place of its own for that directory, which remembers it in the file `relocated`: a state
/// directory that was removed and made anew must not find the data of the one before.
fn relocated(wanted: &Path) -> Result<PathBuf, PartError> {
    let marker = wanted.join("relocated");
    let known = fs::read_to_string(&marker).ok().map(|text| PathBuf::from(text.trim()));
    if let Some(place) = known.filter(|place| place.starts_with(ROOT_DATA) && place.is_dir()) {
        return Ok(place);
    }
    let name = wanted.to_string_lossy().trim_matches('/').replace('/', "-");
    let place = Path::new(ROOT_DATA).join(format!("{name}-{:08x}", rand::random::<u32>()));
    fs::create_dir_all(&place).map_err(io(format!("create {}", place.display())))?;
    fs::set_permissions(ROOT_DATA, fs::Permissions::from_mode(0o711))
        .map_err(io(format!("open {ROOT_DATA} for passing through")))?;
    fs::write(&marker, place.to_string_lossy().as_bytes())
        .map_err(io(format!("write {}", marker.display())))?;
    Ok(place)
}

/// Hands a path to the account with that mode.
pub(crate) fn give(path: &Path, account: Option<Account>, mode: u32) -> Result<(), PartError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(io(format!("set the mode of {}", path.display())))?;
    if let Some(Account { uid, gid }) = account {
        chown(path, Some(uid), Some(gid)).map_err(io(format!("chown {}", path.display())))?;
    }
    Ok(())
}

/// Whether every directory above `path` lets the account pass.
fn enterable(path: &Path, account: Account) -> bool {
    path.ancestors().skip(1).all(|above| {
        fs::metadata(above).is_ok_and(|meta| {
            let bit = if meta.uid() == account.uid {
                0o100
            } else if meta.gid() == account.gid {
                0o010
            } else {
                0o001
            };
            meta.mode() & bit != 0
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_in_disguise_is_no_account() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody:x:0:0::/:/bin/false\npostgres:x:101:104::/:/bin/sh\n";
        assert_eq!(find(passwd, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(find(passwd, "nobody"), None);
        assert_eq!(find(passwd, "flotilla"), None);
        assert_eq!(find("postgres:x:", "postgres"), None);
    }

    #[test]
    fn a_closed_directory_above_is_noticed() {
        let base = tempfile::tempdir().expect("a directory");
        let inner = base.path().join("inner");
        fs::create_dir(&inner).expect("a directory");
        let stranger = Account { uid: 54_321, gid: 54_321 };
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o700)).expect("mode");
        assert!(!enterable(&inner, stranger));
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o711)).expect("mode");
        assert!(enterable(&inner, stranger));
    }
}
