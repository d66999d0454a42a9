//! The real programs, stopped in order one after the other and started again while people work.

use std::sync::{Arc, Mutex};

use rap_log_postgres::private::Durability;
use rustix::process::Signal;
use tokio::time::timeout;

use crate::{
    crash::{PATIENCE, Place, Program, created, read_all, two},
    replicas::Writers,
};

/// How often each of the two is stopped.
const TURNS: usize = 2;
const NAMES: [&str; 2] = ["one", "two"];

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_are_stopped_in_turn_under_load_lose_no_acknowledged_command() {
    let place = Place::start(Durability::Fast).await;
    let [(first, root), (second, beside)] = two(&place).await;
    let apis = Arc::new(Mutex::new(vec![root.clone(), beside.clone()]));
    let mut writers = Writers::begin(&apis);
    let mut programs = [first, second];
    for (name, which) in (0..TURNS).flat_map(|_| NAMES.into_iter().zip(0..)) {
        writers.progress().await;
        let program = &mut programs[which];
        end(program).await;
        // The other one acknowledges alone.
        writers.progress().await;
        *program = place.program(name, program.port).await;
    }
    writers.progress().await;
    let names = writers.end().await;

    let times = created(&read_all(&place.database()).await);
    let lost: Vec<_> = names.iter().filter(|name| !times.contains_key(*name)).collect();
    assert!(lost.is_empty(), "{lost:?} were acknowledged and are gone");
    assert!(times.values().all(|count| *count == 1), "something was created twice");
    assert_eq!(times.len(), names.len(), "what nobody asked for is there");
    println!("{} commands were acknowledged meanwhile", names.len());
    for api in [root, beside] {
        let replay = api.get("/audit/replay").await;
        assert_eq!(replay.json["equal"], true, "{}", replay.text);
    }
    for program in &mut programs {
        program.kill().await;
    }
}

/// SIGTERM: it answers what was asked of it, and ends without complaint.
async fn end(program: &mut Program) {
    program.signal(Signal::TERM);
    let ended = timeout(PATIENCE, program.child.wait()).await.expect("it ends").unwrap();
    assert!(ended.success(), "{ended}");
}
