//! Measures the fabric's programs on a small internet of their own, for `cargo xtask bench`.
//!
//! Prints lines of `figure<TAB>value<TAB>unit`, and of `figure<TAB>skipped<TAB>reason` for what this
//! machine does not let us measure; whatever else there is to say goes to standard error.
//!
//! The arguments are the families to measure, [`FAMILIES`]; without one, all of them.

mod forward;
mod gap;
mod idle;
mod link;
mod lossy;

use std::{
    env,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use rap_e2e::{Fabric, Lab, Person, Process};

const PATIENCE: Duration = Duration::from_secs(30);
const FAMILIES: [(&str, &[&str]); 5] = [
    ("idle", idle::FIGURES),
    ("forward", forward::FIGURES),
    ("link", link::FIGURES),
    ("lossy", lossy::FIGURES),
    ("gap", gap::FIGURES),
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let named: Vec<String> = env::args().skip(1).collect();
    let wanted = |family: &str| named.is_empty() || named.iter().any(|name| name == family);
    for direct in [true, false] {
        let families: &[_] =
            if direct { &["forward"] } else { &["idle", "forward", "link", "lossy"] };
        if !families.iter().any(|family| wanted(family)) {
            continue;
        }
        let change = |lab: &Lab| {
            lab.let_client_pass()?;
            if direct { lab.open_relay() } else { Ok(()) }
        };
        let fabric = match Fabric::start_on(change).await {
            Ok(fabric) => fabric,
            Err(reason) => {
                let families = FAMILIES.iter().filter(|(family, _)| wanted(family));
                return families.for_each(|(_, figures)| skipped(figures, &reason));
            }
        };
        // Nothing has used the nodes yet.
        if !direct && wanted("idle") {
            idle::measure(&fabric).await;
        }
        if wanted("forward") {
            forward::measure(&fabric, direct).await;
        }
        if !direct && wanted("link") {
            link::measure(&fabric).await;
        }
        if !direct && wanted("lossy") {
            lossy::measure(&fabric).await;
        }
    }
    // What was measured before is of one relay.
    if wanted("gap") {
        match Fabric::start().await {
            Ok(fabric) => gap::measure(fabric).await,
            Err(reason) => skipped(gap::FIGURES, &reason),
        }
    }
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("{name}\t{value:.2}\t{unit}");
}

fn skipped(figures: &[&str], reason: &str) {
    let reason: Vec<&str> = reason.split_whitespace().collect();
    for name in figures {
        println!("{name}\tskipped\t{}", reason.join(" "));
    }
}

/// Makes what listens at `target` a resource of this name that alice may reach.
async fn share(fabric: &Fabric, name: &str, target: &str) {
    let resource =
        ["resource", "create", name, "--kind", "tcp", "--target", target, "--pool", "office"];
    let policy = format!("bench-{name}");
    let policy = ["policy", "create", &policy, "--user", "alice", "--resource", name];
    for words in [resource.as_slice(), &policy] {
        fabric.ada.rap(words).await.ok();
    }
    fabric.settle().await;
}

/// Starts `rap connect` with these words, which begin with the resource; returns where it listens.
/// `name` is the log's.
async fn connect(
    fabric: &Fabric,
    person: &Person,
    name: &str,
    words: &[&str],
) -> (Process, SocketAddr) {
    let words = [&["connect", "--listen", "127.0.0.1:0"], words].concat();
    let mut through = person.start(name, "rap", &words, &fabric.logs());
    let address = through
        .says("where it listens", PATIENCE, |line| {
            let (_, rest) = line.split_once("listening on ")?;
            rest.split([';', ' ']).next()?.parse().ok()
        })
        .await;
    (through, address)
}

fn bound(port: u16) -> TcpListener {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a fresh namespace has free ports")
}
