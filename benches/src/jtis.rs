//! Fills a store with used assertions before a server starts on it, by certbind's own store code: the file's format stays its secret.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use certbind::store::sqlite::{Settings, SqliteStore};
use certbind::store::{FirstUse, ReplayKey, ReplayStore as _, Use};
use certbind_proto::time::{Clock as _, SystemClock};
use tokio::task::JoinSet;

/// They stay live for longer than any measurement.
const LIFE: Duration = Duration::from_secs(6 * 3600);

/// So many are handed over at once, to be committed together.
const AT_ONCE: usize = 4000;

/// Uses so many assertions, as if clients had sent them.
pub(crate) async fn fill(data_dir: &Path, count: usize) -> anyhow::Result<()> {
    let store = Arc::new(SqliteStore::open(&Settings::new(data_dir), SystemClock.now())?);
    let now = SystemClock.now();
    let numbers: Vec<usize> = (0..count).collect();
    for numbers in numbers.chunks(AT_ONCE) {
        let mut uses = JoinSet::new();
        for number in numbers {
            let (store, key) = (Arc::clone(&store), ReplayKey::of("filled", &number.to_string()));
            let used = Use { key, issued: Some(now), keep_until: now.plus(LIFE) };
            uses.spawn(async move { store.first_use(used, now).await });
        }
        for outcome in uses.join_all().await {
            ensure!(outcome? == FirstUse::Yes, "the store was not empty");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_filled_in_is_live_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        fill(&dir.path().join("data"), 5000).await.unwrap();
        assert_eq!(
            SqliteStore::open(&Settings::new(dir.path().join("data")), SystemClock.now()).unwrap().live_entries(),
            5000
        );
    }
}
