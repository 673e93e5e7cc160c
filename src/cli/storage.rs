//! Opens the store that the configuration names. There is never another one to fall back on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use certbind_https::Authorities;
use certbind_proto::time::{Clock, Timestamp};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Unusable;
use crate::audit::{Audit, Event, Kind, Level};
use crate::config::{self, Config, DatabaseFiles, Storage};
use crate::store::Store;
use crate::store::postgres::{self, Loss, PostgresStore, Target};
use crate::store::sqlite::{self, Doubt, SqliteStore};

/// How long a request waits for the database: short of the two seconds within which it is told to come back.
const DEADLINE: Duration = Duration::from_millis(1500);

/// Opens it, with these authorities to vouch for a database; says also what may be missing in it, where assertions are refused for that.
///
/// # Errors
/// Why it cannot be used; then the server must not start.
pub(super) async fn open(
    config: &Config,
    files: Option<DatabaseFiles>,
    roots: &Authorities,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<(Arc<dyn Store>, Option<Doubt>)> {
    let (Storage::Postgres(database), Some(files)) = (&config.storage, files) else {
        let store = SqliteStore::open(&sqlite::Settings::new(&config.data_dir), clock.now())
            .with_context(|| format!("cannot open the store in {}", config.data_dir.display()))?;
        let doubt = store.doubt();
        return Ok((Arc::new(store), doubt));
    };
    let settings = postgres::Settings {
        target: target(&files)?,
        tls: MakeRustlsConnect::new(roots.client_config(None)?),
        connections: database.connections,
        deadline: DEADLINE,
        loss: match database.replicas {
            config::Replicas::Asynchronous => Loss::Possible,
            config::Replicas::Synchronous => Loss::None,
        },
        max_entries: postgres::MAX_ENTRIES,
    };
    let store = PostgresStore::open(settings, clock).await.context("cannot open the store in PostgreSQL")?;
    Ok((Arc::new(store), None))
}

/// Tells the audit log that commits may be missing, and that assertions are refused for that.
pub(super) fn tell(doubt: Doubt, audit: &dyn Audit, now: Timestamp) {
    let (ts, level, event) = (now.to_string(), Level::Error, Some(Kind::StoreFenced));
    audit.record(&Event { ts, level, event, detail: Some(doubt.to_string()), ..Event::default() });
}

/// The address of the database.
///
/// # Errors
/// When it is none; the text is not repeated, as a password may stand in it.
pub(super) fn target(files: &DatabaseFiles) -> anyhow::Result<Target> {
    Target::parse(&files.url).map_err(|fault| Unusable(format!("storage.url: {fault}")).into())
}
