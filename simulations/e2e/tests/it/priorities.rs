//! What a relay's interface sees of lanes.

use std::{fs, time::Duration};

use rap_e2e::{Space, until};

use super::{everyday::forward, ssh, step};

const PATIENCE: Duration = Duration::from_secs(60);
const FILE_BYTES: u64 = 20_000_000;

#[tokio::test]
async fn datagrams_leave_a_relay_with_the_priority_of_their_lane() {
    let test = "priorities::datagrams_leave_a_relay_with_the_priority_of_their_lane";
    let Some(fabric) = super::fabric(test).await else { return };
    fs::write(fabric.office().dir().join("pages/large"), vec![b'l'; FILE_BYTES as usize]).unwrap();
    let lab = fabric.lab();
    for neighbour in [Space::Entry, Space::Egress] {
        lab.block(Space::Relay, neighbour, "tcp").unwrap();
    }
    // What peers ask each other through the relay is over before anything is counted.
    let (_forward, url) = forward(&fabric, "demo-web").await;
    fabric.alice.run("curl", &["-sSf", "-o", "/dev/null", &url]).await.ok();
    lab.count_priorities(Space::Relay).unwrap();

    step("a download, and then a shell");
    let words = ["-sSf", "--max-time", "60", "-o", "/dev/null", &format!("{url}/large")];
    fabric.alice.run("curl", &words).await.ok();
    let of_bulk = lab.sent_by_priority(Space::Relay);
    assert_eq!(ssh(&fabric, &fabric.alice, "echo there").await.ok(), "there\n");
    let both = until("the shell's datagrams left", PATIENCE, async || {
        let sent = lab.sent_by_priority(Space::Relay);
        (sent.interactive > of_bulk.interactive).then_some(sent)
    })
    .await;
    println!("  {both:?}");
    assert!(both.bulk >= FILE_BYTES, "the download has the priority of bulk: {both:?}");
    assert!(both.without < FILE_BYTES / 100, "and nothing much has none: {both:?}");
    assert!(both.interactive < FILE_BYTES / 100, "{both:?}");
}
