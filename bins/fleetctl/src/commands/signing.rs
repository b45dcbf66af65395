//! `fleetctl signing`: which key signs the archive, and a signed head of a chain at once. It reads the
//! private key to sign and to learn its public half, and prints the public one alone.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit::archive::keys::{self, Purpose};
use audit::archive::{HeadsConfig, Sealer, SealerConfig, SigningConfig};
use audit::store::signing_keys;
use clap::Subcommand;
use contracts::Tenant;
use database::Role;
use evidence::{MemorySigner, VerifyKey};
use queue_core::{Clock as _, SystemClock};
use serde_json::json;
use sinks::objects::ArchiveConfig;

use crate::author::{author, words};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Settings;

/// Shown under the group's help.
pub(crate) const EXAMPLES: &str = "Examples:
  fleetctl signing new key.pem
  ARCHIVE_SIGNING_KEY_FILE=key.pem fleetctl signing init
  fleetctl signing show
  fleetctl signing rotate --reason 'yearly'
  ARCHIVE_SIGNING_KEY_FILE=key.pem fleetctl signing head --tenant acme";

/// What can be done with the signing key.
#[derive(Subcommand)]
pub(crate) enum Signing {
    /// Make a private key, in a file that only you can read
    #[command(after_help = "Example:\n  fleetctl signing new key.pem")]
    New {
        /// The file to write, PKCS#8 in PEM; it must not exist yet
        file: PathBuf,
    },
    /// Set up the first key: the one in `ARCHIVE_SIGNING_KEY`
    #[command(after_help = "Example:\n  ARCHIVE_SIGNING_KEY_FILE=key.pem fleetctl signing init")]
    Init(Author),
    /// Show the public keys, as `fleetctl verify --key` takes them, and what still waits for each
    #[command(after_help = "Example:\n  fleetctl signing show")]
    Show,
    /// Let the key in `ARCHIVE_SIGNING_KEY` take over; give the sealer the old one as
    /// `ARCHIVE_SIGNING_KEY_PREVIOUS` first
    #[command(after_help = "Example:\n  fleetctl signing rotate --reason yearly")]
    Rotate {
        /// Why, in words; it stands in every chain
        #[arg(long, value_parser = words)]
        reason: String,
        #[command(flatten)]
        author: Author,
    },
    /// Sign a head over what a tenant's chain has in the archive, now instead of within the hour
    #[command(
        after_help = "Example:\n  ARCHIVE_SIGNING_KEY_FILE=key.pem fleetctl signing head --tenant acme"
    )]
    Head {
        /// Whose chain
        #[arg(long)]
        tenant: Tenant,
    },
}

/// Who does it.
#[derive(clap::Args)]
pub(crate) struct Author {
    /// Who does it; by default the user of this terminal
    #[arg(long, value_parser = words)]
    by: Option<String>,
}

impl Signing {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        match self {
            Self::New { file } => make(&file, output),
            Self::Init(by) => set_up(Purpose::First, "first", &by, settings, output).await,
            Self::Show => show(settings, output).await,
            Self::Rotate { reason, author } => {
                set_up(Purpose::Rotation, &reason, &author, settings, output).await
            }
            Self::Head { tenant } => head(&tenant, settings, output).await,
        }
    }
}

/// Writes a new private key. One that is there is never overwritten: what it signed would be lost.
fn make(file: &Path, output: &Output) -> Result<(), Failure> {
    let shown = file.display();
    let pem = MemorySigner::pem_of_seed(&rand::random()).map_err(Failure::new)?;
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(file);
    let written = opened.and_then(|mut opened| {
        opened.write_all(pem.as_bytes())?;
        opened.sync_all()
    });
    written.map_err(|error| {
        Failure::new(format!("{shown}: {error}")).hint("name a file that does not exist yet")
    })?;
    output.value(&json!({ "file": file }), || {
        format!("a private key is in {shown}; keep a copy where the fleet's secrets are")
    });
    output.note(&format!("next: ARCHIVE_SIGNING_KEY_FILE={shown} fleetctl signing init"));
    Ok(())
}

/// The public half of the key that is set.
async fn given(settings: &Settings) -> Result<VerifyKey, Failure> {
    let config: SigningConfig = settings.read()?;
    let signer = config.signer().await.map_err(|error| Failure::new(error.to_string()))?;
    let signer = signer.ok_or_else(no_key)?;
    Ok(signer.key().clone())
}

fn no_key() -> Failure {
    Failure::new("no signing key is set").hint(
        "`fleetctl signing new key.pem` makes one; then ARCHIVE_SIGNING_KEY_FILE=key.pem, or \
         ARCHIVE_SIGNING_KMS_KEY",
    )
}

/// Signs a head over the documents that are in the store, and puts it there.
async fn head(tenant: &Tenant, settings: &Settings, output: &Output) -> Result<(), Failure> {
    let signing: SigningConfig = settings.read()?;
    let keys = signing.keys().await.map_err(Failure::new)?;
    if keys.is_empty() {
        return Err(no_key());
    }
    let (archive, heads): (ArchiveConfig, HeadsConfig) = (settings.read()?, settings.read()?);
    let objects = archive.objects().await.ok_or_else(|| {
        Failure::new("no archive is set").hint("ARCHIVE_BUCKET=audit-log-archive, or ARCHIVE_DIR")
    })?;
    let database = settings.database(Role::Worker)?;
    let clock = Arc::new(SystemClock);
    let mut sealer = Sealer::new(&database, keys, objects, clock, SealerConfig::default());
    if let Some(second) = heads.objects().await {
        sealer = sealer.with_second_store(second);
    }
    let documents = sealer.head_now(tenant).await.map_err(Failure::new)?;
    if documents == 0 {
        let text = format!("no document of tenant {tenant} is in the archive yet");
        return Err(Failure::new(text).hint("the sealer puts them there within seconds"));
    }
    let shown = json!({ "tenant": tenant, "documents": documents });
    output.value(&shown, || format!("{tenant}: a signed head over {documents} documents"));
    Ok(())
}

async fn set_up(
    purpose: Purpose,
    reason: &str,
    by: &Author,
    settings: &Settings,
    output: &Output,
) -> Result<(), Failure> {
    let key = given(settings).await?;
    let database = settings.database(Role::Owner)?;
    let (by, now) = (author(by.by.as_ref(), settings), SystemClock.now());
    let refused = |error: keys::KeyError| Failure::new(error.to_string());
    match keys::set_up(&database, &key, purpose, reason, &by, now).await {
        // Run again after it was interrupted: the chains that are left follow.
        Err(keys::KeyError::Used(id))
            if purpose == Purpose::Rotation && newest(&database).await?.as_ref() == Some(&id) => {}
        done => done.map_err(refused)?,
    }
    let chains = keys::rotate_chains(&database, now).await.map_err(refused)?;
    let shown = json!({ "key": key.to_string(), "key_id": key.id(), "chains_rotated": chains });
    output.value(&shown, || key.to_string());
    output.note(&format!(
        "{} signs from now on; {chains} chains were told. Give the line above to whoever verifies.",
        key.id()
    ));
    Ok(())
}

async fn newest(database: &database::Database) -> Result<Option<String>, Failure> {
    let mut connection = database.pool().acquire().await?;
    let newest = signing_keys::newest_key(&mut connection).await?;
    Ok(newest.map(|key| key.key_id))
}

async fn show(settings: &Settings, output: &Output) -> Result<(), Failure> {
    let database = settings.database(Role::Worker)?;
    let rows = signing_keys::overview(database.pool()).await?;
    if rows.is_empty() {
        output.note("no signing key is set up: `fleetctl signing init`");
    }
    output.rows(&rows, &["KEY", "SINCE", "BY", "WHY", "WAITING"], |row| {
        vec![
            row.public_key.clone(),
            row.created_at.format("%Y-%m-%d").to_string(),
            row.created_by.clone(),
            row.reason.clone(),
            row.waiting.to_string(),
        ]
    });
    Ok(())
}
