//! The lease table as a whole: whether the database lost some of it, and that somebody gives that up.

use rap_control_core::{Action, Target};
use rap_events::{
    Aggregate as _,
    authority::{Authority, AuthorityCommand},
    vpn_connection::VpnConnection,
};
use rap_proto::api::{AcceptLoss, Changed, Leases, Problem, ProblemCode};

use super::{answer::Done, call::Call, failure::Failure};

pub(super) async fn get(call: Call) -> Result<Leases, Failure> {
    call.allow(Action::ReadLeases, Target::Platform)?;
    let authority = call.state.authority();
    Ok(Leases {
        timeline: timeline(&call).await?,
        loss_accepted: authority.loss_accepted,
        held_up: call.app.lease_desk.went_back() as u64,
        revision: authority.revision,
    })
}

/// Whoever gives up a loss names the timeline that they looked at: another failover meanwhile may
/// have lost more.
pub(super) async fn accept_loss(call: Call, body: AcceptLoss) -> Result<Done<Changed>, Failure> {
    call.allow(Action::AcceptLoss, Target::Platform)?;
    let present = timeline(&call).await?;
    if body.timeline != present {
        let detail = format!("the database is on timeline {present}, not {}", body.timeline);
        return Err(rejected("lease.timeline", detail).into());
    }
    if call.app.lease_desk.went_back() == 0 {
        let detail = "the database shows all that this replica knows to be granted".to_owned();
        return Err(rejected("lease.nothing_lost", detail).into());
    }
    let mut work = call.work();
    let mut loaded = work.load::<Authority>(call.app.custody.cluster.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, AuthorityCommand::AcceptLoss { timeline: present })?;
    call.commit(work, Changed { revision: loaded.revision }).await
}

/// Of the database, now.
async fn timeline(call: &Call) -> Result<u64, Failure> {
    let page = call.app.leases.read_leases(VpnConnection::CATEGORY, None, 1).await;
    let page = page.map_err(|error| {
        tracing::warn!(%error, "the lease table is not read");
        Problem::new(ProblemCode::Unavailable, "the lease table cannot be read; repeat later")
    })?;
    Ok(page.at.timeline)
}

fn rejected(rule: &str, detail: String) -> Problem {
    Problem::new(ProblemCode::Rejected, detail).field("timeline").rule(rule)
}
