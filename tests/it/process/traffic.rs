//! Clients that ask all the time, none of whom may ever be refused or lose an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::{StatusCode, Version};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::client::{Asserter, by_assertion, client};
use super::rig::{PKI, Process};

/// Connections, and from one request of each to the next.
pub(super) type Load = (usize, Duration);

const LIGHT: Load = (6, Duration::from_millis(10));

/// Clients of each method over HTTP/1.1 and HTTP/2 that ask until they are stopped.
pub(super) struct Traffic {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    issued: Arc<AtomicUsize>,
}

impl Traffic {
    pub(super) async fn start(server: &Process) -> Self {
        Self::over(server, LIGHT).await
    }

    pub(super) async fn over(server: &Process, (connections, every): Load) -> Self {
        let (stop, issued) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        let versions = [Version::HTTP_11, Version::HTTP_2];
        let clients = [&PKI.billing, &PKI.ledger, &PKI.batch];
        let kinds = versions.into_iter().flat_map(|version| clients.map(|who| (version, who)));
        for (version, who) in kinds.cycle().take(connections) {
            let mut connection = server.connect(Some(&who.identity), version).await.unwrap();
            let (stop, issued) = (Arc::clone(&stop), Arc::clone(&issued));
            tasks.spawn(async move {
                let asserter = Asserter::batch();
                let mut next = tokio::time::interval(every);
                next.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !stop.load(Ordering::Relaxed) {
                    next.tick().await;
                    let form = match who.name {
                        "batch" => by_assertion(&asserter.fresh()),
                        name => client(name),
                    };
                    let answer = connection.token(&form).await.unwrap();
                    assert_eq!(answer.status, StatusCode::OK, "{}: {}", who.name, answer.text);
                    issued.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { tasks, stop, issued }
    }

    /// How many tokens there were.
    pub(super) async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        self.issued.load(Ordering::Relaxed)
    }
}
