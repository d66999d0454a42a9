//! The connection of a client's pictures is lost alone: their channel goes on over another, and the session's
//! own connection stays.

use std::{rc::Rc, time::Duration};

use rap_mesh::client::OpenChannel;
use rap_mesh_core::resume::RESUME_WITHIN;
use rap_proto::Lane;
use tokio::time::sleep;

use super::{
    BEGINS, Run, SETTLES,
    hosts::{CLIENT_WAITS, Orders, Parts, asked_for, connected, count},
    record::Record,
};

/// Less than a connection that is not heard takes to be given up, and more than anything else does.
const LOST: Duration = Duration::from_secs(20);

async fn client(parts: Parts, orders: Rc<Orders>) -> turmoil::Result {
    sleep(CLIENT_WAITS).await;
    let network = parts.network();
    let session = connected(&parts, &network, parts.cluster.token()).await?;
    network.keep_connections();
    let pictures = OpenChannel { lane: Lane::Media, ..asked_for() };
    let channel = session.open_lasting(pictures).await?;
    assert_eq!(session.lanes().await, [Lane::Media]);
    tokio::select! {
        biased;
        ended = count(channel, &parts, &network, &orders) => ended,
        end = session.ended() => {
            parts.record.note(format_args!("the session's own connection is over: {end}"));
            orders.is_lost.set(true);
            std::future::pending().await
        }
    }
}

#[test]
fn pictures_go_on_over_another_connection_when_theirs_alone_is_lost() {
    let mut run = Run::with(1, &Record::default(), client);
    run.pass(BEGINS);
    run.orders.loses_lanes.set(true);
    run.pass(RESUME_WITHIN);
    run.orders.ends.set(true);
    run.pass(SETTLES);
    let (story, seen) = (run.record.story(), run.record.lock());
    let said: Vec<u64> = (0..run.orders.said.get()).collect();
    assert_eq!((&seen.there, &seen.back), (&said, &said), "{story}");
    assert!(seen.gap > LOST, "{:?}: it was not lost\n{story}", seen.gap);
    assert_eq!((seen.dials, seen.is_ended, run.orders.is_lost.get()), (1, false, false), "{story}");
}
