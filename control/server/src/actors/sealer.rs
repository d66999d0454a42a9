//! Seals tree heads: at most one each second, while the log grows, by the replica that leads.
//!
//! A sealed head follows from the log alone, so it makes no difference if two replicas seal at
//! once. What was sealed before must be the beginning of what is sealed next: if it is not, the
//! database was changed behind the log's back, and nothing more is built upon it.

use std::{sync::Arc, time::Duration};

use actix::{Actor, AsyncContext as _, Context};
use rap_events::{log::ReadError, tree};
use rap_proto::{Signer as _, observation::LogRefusal};
use rap_tlog::{Frontier, TreeHead, VerifierKey, proof};

use crate::{app::App, clock, http::tree::sign};

/// The least time between two sealed heads.
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
                let sealed =
                    if app.leadership.term().is_some() { seal(&app).await } else { Ok(()) };
                tokio::time::sleep(INTERVAL).await;
                if let Err(error) = sealed {
                    tracing::warn!(%error, "a tree head was not sealed");
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

async fn seal(app: &App) -> Result<(), ReadError> {
    let last = app.heads.heads(None, 1).await?.pop();
    let frontier = app.log.frontier().await?;
    if let Some(last) = last.and_then(|last| opened(app, &last.note)) {
        if let Some(code) = refutation(app, &last, &frontier).await? {
            app.refute(code, last.size, frontier.size());
        }
        if last.size >= frontier.size() || app.refuted().is_some() {
            return Ok(());
        }
    }
    app.heads.seal(frontier.size(), sign(app, &frontier), clock::now()).await
}

/// A head that this control plane signed; others prove nothing against its log.
fn opened(app: &App, note: &[u8]) -> Option<TreeHead> {
    let (cluster, key) = (app.custody.cluster, app.custody.control.public_key());
    TreeHead::open(note, cluster, &[VerifierKey::p256(cluster, key)]).ok()
}

/// Why the log is not the one that the earlier head is of, if it is not.
async fn refutation(
    app: &App,
    earlier: &TreeHead,
    now: &Frontier,
) -> Result<Option<LogRefusal>, ReadError> {
    if earlier.size > now.size() {
        return Ok(Some(LogRefusal::Shorter));
    }
    let proven = tree::prove_consistency(app.log.as_ref(), earlier.size, now.size()).await;
    let Ok(consistency) = proven else { return Ok(None) };
    let (known, grown) = ((earlier.size, &earlier.root), (now.size(), &now.root()));
    let holds = proof::check_consistency(&consistency, known, grown).is_ok();
    Ok((!holds).then_some(LogRefusal::Forked))
}
