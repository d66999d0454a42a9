//! Seals tree heads: at most one each second, while the log grows, by the replica that leads.
//!
//! A sealed head follows from the log alone, so it makes no difference if two replicas seal at
//! once. What was sealed before must be the beginning of what is sealed next: if it is not, the
//! database was changed behind the log's back, and nothing more is built upon it. While nobody can
//! tell whether it is, nothing is sealed either, and [`crate::sealing`] says why.

use std::{sync::Arc, time::Duration};

use actix::{Actor, AsyncContext as _, Context};
use rap_control_core::tree_head::{self, Obstacle, Succession};
use rap_events::{
    heads::SealedHead,
    log::ReadError,
    tree::{self, TreeError},
};
use rap_proto::Signer as _;
use rap_tlog::Frontier;

use crate::{app::App, clock, http::tree::sign};

/// The least time between two sealed heads, and between two tries.
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct Sealer {
    app: Arc<App>,
}

impl Sealer {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

impl Actor for Sealer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let app = Arc::clone(&self.app);
        ctx.spawn(actix::fut::wrap_future(async move {
            let mut states = app.states();
            let mut standing = app.leadership.changes();
            loop {
                let obstacle = match app.leadership.term() {
                    Some(_) => seal(&app).await.err(),
                    None => None,
                };
                tell(&app, obstacle);
                tokio::time::sleep(INTERVAL).await;
                if obstacle.is_some() {
                    continue;
                }
                let changed = tokio::select! {
                    biased;
                    changed = states.changed() => changed,
                    changed = standing.changed() => changed,
                };
                if changed.is_err() {
                    return;
                }
            }
        }));
    }
}

async fn seal(app: &App) -> Result<(), Obstacle> {
    let kept = app.heads.heads(None, 1).await.map_err(unread)?.pop();
    let frontier = app.log.frontier().await.map_err(unread)?;
    let succession = match &kept {
        None => Succession::Grown,
        Some(kept) => succession(app, kept, &frontier).await?,
    };
    match succession {
        Succession::Grown if app.refuted().is_none() => {
            let sealed = app.heads.seal(frontier.size(), sign(app, &frontier), clock::now());
            sealed.await.map_err(unread)?;
            app.metrics.count("tree_heads", "sealed");
            Ok(())
        }
        Succession::Grown | Succession::Same => Ok(()),
        Succession::Refuted(code) => {
            app.refute(code, kept.map_or(0, |kept| kept.size), frontier.size());
            Ok(())
        }
        Succession::Unproven => Err(Obstacle::Unproven),
    }
}

/// How the log stands to the newest sealed head, with the proof where it takes one.
async fn succession(app: &App, kept: &SealedHead, now: &Frontier) -> Result<Succession, Obstacle> {
    let (cluster, control) = (app.custody.cluster, app.custody.control.public_key());
    let epoch = app.state().authority().epoch();
    let earlier = tree_head::open(kept, cluster, control, epoch).map_err(|error| {
        tracing::debug!(%error, size = kept.size, "the newest sealed head does not open");
        Obstacle::Unopened
    })?;
    let (size, root) = (now.size(), now.root());
    let at_once = tree_head::succession(&earlier, (size, &root), None);
    if at_once != Succession::Unproven {
        return Ok(at_once);
    }
    let proven = tree::prove_consistency(app.log.as_ref(), earlier.size, size).await;
    let consistency = proven.map_err(|error| match error {
        TreeError::Read(error) => unread(error),
        TreeError::Prove(_) | TreeError::NoSuchTile => Obstacle::Unproven,
    })?;
    Ok(tree_head::succession(&earlier, (size, &root), Some(&consistency)))
}

fn unread(error: ReadError) -> Obstacle {
    tracing::debug!(%error, "no tree head is sealed");
    Obstacle::Unread
}

/// Counts each try, and logs when something changes.
fn tell(app: &App, obstacle: Option<Obstacle>) {
    if let Some(obstacle) = obstacle {
        app.metrics.count("tree_heads", obstacle.as_str());
    }
    let before = app.sealing.tell(obstacle);
    match obstacle {
        _ if before == obstacle => {}
        None => tracing::info!("nothing keeps tree heads from being sealed any more"),
        Some(Obstacle::Unread) => {
            tracing::warn!(reason = Obstacle::Unread.explanation(), "no tree head is sealed");
        }
        Some(obstacle) => {
            tracing::error!(reason = obstacle.explanation(), "no tree head is sealed");
        }
    }
}
