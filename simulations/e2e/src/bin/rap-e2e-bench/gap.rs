//! How long somebody who types waits when the relay of the session is killed beside a warm one, while bulk
//! runs over the same way.

use std::{thread, time::Duration};

use rap_e2e::{Fabric, Space, until};
use tokio::time::sleep;

use crate::{
    PATIENCE, connect, figure,
    link::{Download, echo, flood, inputs, quantile, serve},
    share,
};

pub(crate) const FIGURES: &[&str] =
    &["relay_killed_gap", "relay_killed_left", "relay_killed_worst"];

const FLOOD_PORT: u16 = 7008;
const ECHO_PORT: u16 = 7009;
const KILLS: usize = 5;
/// How long somebody types around each kill, and when within it the relay dies.
const SPAN: Duration = Duration::from_secs(4);
const KILLED_AFTER: Duration = Duration::from_secs(1);

pub(crate) async fn measure(mut fabric: Fabric) {
    fabric.add_relay().await;
    let lab = fabric.lab().clone();
    lab.inside(Space::Office, || serve(FLOOD_PORT, flood));
    lab.inside(Space::Office, || serve(ECHO_PORT, echo));
    for (name, port) in [("gap-flood", FLOOD_PORT), ("gap-echo", ECHO_PORT)] {
        share(&fabric, name, &format!("{}:{port}", Space::Office.address())).await;
    }
    let words = ["gap-echo", "--lane", "interactive"];
    let (_typing, typing_at) = connect(&fabric, &fabric.alice, "connect-gap-echo", &words).await;
    let words = ["gap-flood", "--lane", "bulk"];
    let (_bulk, bulk_at) = connect(&fabric, &fabric.alice, "connect-gap-flood", &words).await;
    until("the echo answers", PATIENCE, async || inputs(&lab, typing_at, Duration::ZERO).ok())
        .await;

    let download = Download::start(&lab, bulk_at);
    let (mut gaps, mut left) = (Vec::new(), Vec::new());
    for _ in 0..KILLS {
        let (used, there) = (fabric.used_relay().await, lab.clone());
        let typing = thread::spawn(move || inputs(&there, typing_at, SPAN));
        sleep(KILLED_AFTER).await;
        let killed = fabric.kill_relay(used);
        let times = typing.join().expect("typing does not panic").expect("the echo answers");
        gaps.push(quantile(&times, 100));
        left.push(fabric.left_after(&killed).expect("its log says so").as_secs_f64() * 1e3);
        fabric.lanes_leave(&killed).await;
        fabric.start_agent(killed.relay);
        fabric.settle().await;
    }
    download.stop();
    eprintln!(
        "a relay is killed: silent for {gaps:.0?} ms, of which {left:.0?} until the lane left it"
    );
    for times in [&mut gaps, &mut left] {
        times.sort_by(f64::total_cmp);
    }
    let values = [quantile(&gaps, 50), quantile(&left, 50), quantile(&gaps, 100)];
    for (name, value) in FIGURES.iter().zip(values) {
        figure(name, value, "ms");
    }
}
