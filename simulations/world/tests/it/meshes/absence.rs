//! A client without a network comes back to its session, and its channel goes on, for as long as both
//! ends of it wait.

use std::{rc::Rc, time::Duration};

use rap_mesh_core::resume::RESUME_WITHIN;
use tokio::time::sleep;

use super::{
    BEGINS, CLIENT, Run, SETTLES,
    cluster::ENTRY,
    hosts::{CLIENT_WAITS, Orders, Parts, asked_for, connected, count},
    name,
    record::Record,
};

/// How often the client tries to reach its entry, which is more than one try takes.
const TRY_EVERY: Duration = Duration::from_millis(500);
/// Each end counts from when it missed the other, and a try that began without a network comes to nothing
/// late.
const APART: Duration = Duration::from_secs(10);
/// After this, an end without a network has missed the other.
const MISSED: Duration = Duration::from_secs(60);

async fn client(parts: Parts, orders: Rc<Orders>) -> turmoil::Result {
    sleep(CLIENT_WAITS).await;
    let network = parts.network();
    let mut session = connected(&parts, &network, parts.cluster.token()).await?;
    let channel = session.open_lasting(asked_for()).await?;
    let returning = async {
        loop {
            let end = session.ended().await;
            parts.record.note(format_args!("the client's connection is over: {end}"));
            orders.is_lost.set(true);
            let next = loop {
                match connected(&parts, &network, parts.cluster.token()).await {
                    Ok(next) => break next,
                    Err(_) => sleep(TRY_EVERY).await,
                }
            };
            next.succeed(&session);
            session = next;
        }
    };
    tokio::select! {
        biased;
        ended = count(channel, &parts, &network, &orders) => ended,
        () = returning => Ok(()),
    }
}

/// A run in which the client has no network from when it missed its entry, for so long.
fn absent_for(absence: Duration) -> Run {
    let mut run = Run::with(1, &Record::default(), client);
    run.pass(BEGINS);
    run.sim.partition(CLIENT, name(ENTRY));
    let missed = run.sim.elapsed() + MISSED;
    while !run.orders.is_lost.get() {
        assert!(run.sim.elapsed() < missed, "nobody missed it\n{}", run.record.story());
        run.pass(TRY_EVERY);
    }
    run.pass(absence);
    run.note(format_args!("the client has a network again"));
    run.sim.repair(CLIENT, name(ENTRY));
    run.pass(SETTLES);
    run.orders.ends.set(true);
    run.pass(SETTLES);
    run
}

#[test]
fn a_channel_goes_on_when_its_client_is_back_shortly_before_it_is_given_up() {
    let run = absent_for(RESUME_WITHIN - APART);
    let (story, seen) = (run.record.story(), run.record.lock());
    let said: Vec<u64> = (0..run.orders.said.get()).collect();
    assert_eq!((&seen.there, &seen.back), (&said, &said), "{story}");
    assert!(!seen.is_ended && seen.dials == 1, "{story}");
    assert!(seen.gap >= RESUME_WITHIN - APART, "{:?}: the client was not away\n{story}", seen.gap);
}

#[test]
fn a_channel_whose_client_comes_back_too_late_is_over() {
    let run = absent_for(RESUME_WITHIN + APART);
    let (story, seen) = (run.record.story(), run.record.lock());
    assert!(seen.is_ended, "{story}");
    assert!((seen.back.len() as u64) < run.orders.said.get(), "{story}");
}
