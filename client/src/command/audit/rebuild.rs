//! `rap audit rebuild`: the projections of a replica folded anew while it answers.

use std::{io::IsTerminal as _, time::Duration};

use rap_proto::api::{Rebuild, RebuildState};
use reqwest::Method;

use crate::{
    api::Api,
    command::Context,
    failure::{Exit, Failure},
};

const PATH: &str = "/projections/rebuild";
/// How often it is asked how far it is.
const PACE: Duration = Duration::from_millis(500);

/// Asks for a rebuild, unless one is only looked at, and waits until it is over.
pub(super) async fn run(context: &Context, api: &Api, only_look: bool) -> Result<(), Failure> {
    if only_look {
        return context.one(&api.get::<Rebuild>(PATH).await?);
    }
    let mut rebuild: Rebuild = api.change(Method::POST, PATH, None, None::<&()>).await?;
    let replica = rebuild.replica;
    let progress = std::io::stderr().is_terminal();
    while rebuild.state.is_under_way() {
        if progress {
            eprint!("\r{} % of {} events", rebuild.percent, rebuild.through);
        }
        tokio::time::sleep(PACE).await;
        rebuild = api.get(PATH).await?;
        if rebuild.replica != replica {
            return Err(Failure::new(Exit::Failed, "another replica answers by now")
                .hint("the rebuild goes on; name one replica with --control to follow it"));
        }
    }
    if progress {
        eprintln!();
    }
    context.one(&rebuild)?;
    ended(&rebuild)
}

/// Only a rebuild that found nothing wrong is a success.
fn ended(rebuild: &Rebuild) -> Result<(), Failure> {
    let failed = |what: &str| Failure::new(Exit::Failed, what);
    Err(match rebuild.state {
        RebuildState::Same => return Ok(()),
        RebuildState::Differed => failed(
            "the projections were not what the log says; they are now",
        )
        .hint("keep the server's log: it has the position and the projections that differed"),
        RebuildState::Altered => failed("the log is not what its tree commits to")
            .hint("keep the database as it is, and compare it with exports: rap audit replay"),
        RebuildState::Corrupt => failed("the log cannot be folded")
            .hint("keep the database as it is; the projections that were there are still served"),
        RebuildState::Unread => failed("the log could not be read").hint("repeat it later"),
        RebuildState::Refuted => failed("the log is not the one that nodes saw")
            .hint("find out what happened before anything is built upon it"),
        RebuildState::None
        | RebuildState::Interrupted
        | RebuildState::Folding
        | RebuildState::Comparing => failed("the rebuild did not come to its end")
            .hint("repeat it; the server's log says more"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rap_proto::ReplicaId;

    use super::*;

    #[test]
    fn only_a_rebuild_that_found_nothing_wrong_succeeds() {
        for state in RebuildState::ALL {
            let rebuild = Rebuild {
                replica: ReplicaId::from_u128(1),
                state: *state,
                position: 1,
                through: 1,
                percent: 100,
                began_at: None,
                ended_at: None,
                exchanged_at: None,
                differing: Vec::new(),
                altered: None,
                reason: None,
            };
            assert_eq!(ended(&rebuild).is_ok(), *state == RebuildState::Same, "{state}");
        }
    }
}
