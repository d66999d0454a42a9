//! Ten thousand leases that are renewed every three seconds in the table by one process.

use std::{
    process,
    time::{Duration, Instant},
};

use rap_e2e::cpu_seconds;
use rap_events::{
    LeaseTable as _,
    lease::{LeaseChange, MAX_LEASE_CHANGES_PER_APPEND, MAX_RENEWALS, Renewal, RenewalOutcome},
    log::{Actor, Append, Log as _, StreamId},
};
use rap_log_postgres::{PostgresLog, private::PrivatePostgres};
use rap_proto::{CommandId, Digest, Timestamp};
use tokio::time::{Instant as Tick, sleep_until};
use uuid::Uuid;

use crate::{Outcome, append::open, figure};

const LEASES: u128 = 10_000;
const EVERY: Duration = Duration::from_secs(3);
const ROUNDS: u32 = 4;
/// Three renewals may fail before a lease is lost.
const TTL_MS: u32 = 9_000;
const HOLDER: Uuid = Uuid::from_u128(7);

pub(crate) async fn measure(server: &PrivatePostgres) -> Outcome<()> {
    let log = open(server, "leases").await?;
    let all: Vec<StreamId> =
        (1..=LEASES).map(|id| StreamId::new("lease", Uuid::from_u128(id))).collect();
    for (number, leases) in all.chunks(MAX_LEASE_CHANGES_PER_APPEND).enumerate() {
        log.append(grant(number as u64, leases)).await?;
    }
    let (begun, used) = (Instant::now(), cpu_seconds(process::id())?);
    let first = Tick::now();
    let batches = LEASES.div_ceil(MAX_RENEWALS as u128);
    let (mut missed, mut due) = (0, first);
    for _ in 0..ROUNDS {
        for batch in all.chunks(MAX_RENEWALS) {
            sleep_until(due).await;
            due += EVERY / u32::try_from(batches)?;
            missed += renew(&log, batch).await?;
        }
    }
    sleep_until(due).await;
    let share = (cpu_seconds(process::id())? - used) / begun.elapsed().as_secs_f64();
    figure("table_leases_cpu", share * 100.0, "% of a core");
    figure("table_leases_missed", f64::from(missed), "renewals");
    log.close().await;
    Ok(())
}

/// How many of the renewals did not succeed.
async fn renew(log: &PostgresLog, leases: &[StreamId]) -> Outcome<u32> {
    let renewals =
        leases.iter().map(|lease| Renewal { lease: lease.clone(), generation: 1, holder: HOLDER });
    let outcomes = log.renew(renewals.collect()).await?.outcomes;
    let renewed =
        outcomes.iter().filter(|outcome| matches!(outcome, RenewalOutcome::Renewed { .. }));
    Ok(u32::try_from(leases.len() - renewed.count())?)
}

fn grant(number: u64, leases: &[StreamId]) -> Append {
    let changes = leases.iter().map(|lease| LeaseChange::Grant {
        lease: lease.clone(),
        generation: 1,
        holder: HOLDER,
        ttl_ms: TTL_MS,
        timeline: None,
    });
    Append {
        request_hash: Digest::of(&number.to_be_bytes()),
        actor: Actor::System { process: "bench".to_owned() },
        leases: changes.collect(),
        ..Append::plain(
            CommandId::from_u128(u128::from(number) + 1),
            Timestamp::from_unix_millis(0),
            Vec::new(),
        )
    }
}
