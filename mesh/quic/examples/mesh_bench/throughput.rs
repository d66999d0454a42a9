//! How fast bulk is, on either carrier, beside what is below it; and what a relay pays for it.

use std::{collections::BTreeMap, time::Duration};

use rap_proto::{Lane, Timestamp};

use crate::{
    Outcome, Process, Sent,
    cluster::{Cluster, EGRESS, RELAY, SECOND, Target},
    figure, median,
    sender::{self, Way},
    tcp,
    usage::cpu_seconds,
};

/// The receivers and the relays.
struct Processes {
    stock: Process,
    bare: Process,
    egress: Process,
    relay: Process,
    /// On the way over two, the relay that leads to this one.
    first: Process,
    _second: Process,
}

type Values = BTreeMap<(&'static str, &'static str), Vec<f64>>;

pub(crate) async fn measure(made_at: Timestamp, time: Duration, runs: u32) -> Outcome<()> {
    let cluster = Cluster::new(made_at);
    let egress = Process::node(made_at, EGRESS, None, &[])?;
    let to_egress = [(EGRESS, egress.address)];
    let second = Process::node(made_at, SECOND, None, &to_egress)?;
    let processes = Processes {
        stock: Process::start("stock", made_at, &[])?,
        bare: Process::start("bare", made_at, &[])?,
        relay: Process::node(made_at, RELAY, None, &to_egress)?,
        first: Process::node(made_at, RELAY, None, &[(SECOND, second.address)])?,
        egress,
        _second: second,
    };
    let mut values = Values::new();
    for _ in 0..runs {
        quic(&cluster, &processes, time, &mut values).await?;
        on_tcp(&cluster, &processes, time, &mut values).await?;
    }
    for ((name, unit), values) in values {
        figure(name, median(values), unit);
    }
    Ok(())
}

async fn quic(
    cluster: &Cluster,
    processes: &Processes,
    time: Duration,
    values: &mut Values,
) -> Outcome<()> {
    let Processes { stock, egress, relay, first, .. } = processes;
    let lane = async |way| {
        let flow = sender::open(cluster, way, Lane::Bulk, Target::Counts).await?;
        flow.pump(time).await
    };
    let mut rate =
        |name, sent: &Sent| values.entry((name, "Mbit/s")).or_default().push(sent.rate());
    let sent = sender::stock(cluster, stock.address).await?.pump(time).await?;
    rate("mesh_stock_quinn", &sent);
    rate("mesh_direct", &lane(Way::Direct(egress.address)).await?);
    let own = std::process::id();
    let before = (cpu_seconds(relay.id())?, cpu_seconds(own)?);
    let sent = lane(Way::OneHop(relay.address)).await?;
    let after = (cpu_seconds(relay.id())?, cpu_seconds(own)?);
    rate("mesh_one_hop", &sent);
    rate("mesh_two_hops", &lane(Way::TwoHops(first.address)).await?);
    let mut cost = |name, seconds| {
        values.entry((name, "CPU-s/GB")).or_default().push(seconds / sent.gigabytes());
    };
    cost("mesh_relay_cpu", after.0 - before.0);
    cost("mesh_sender_cpu", after.1 - before.1);
    Ok(())
}

async fn on_tcp(
    cluster: &Cluster,
    processes: &Processes,
    time: Duration,
    values: &mut Values,
) -> Outcome<()> {
    let Processes { bare, egress, relay, .. } = processes;
    let mut rate =
        |name, sent: &Sent| values.entry((name, "Mbit/s")).or_default().push(sent.rate());
    rate("tcp_bare", &tcp::bare(cluster, bare.address, time).await?);
    rate("tcp_direct", &tcp::direct(cluster, egress.address, time).await?);
    let before = cpu_seconds(relay.id())?;
    let sent = tcp::one_hop(cluster, relay.address, time).await?;
    let seconds = cpu_seconds(relay.id())? - before;
    rate("tcp_one_hop", &sent);
    values.entry(("tcp_relay_cpu", "CPU-s/GB")).or_default().push(seconds / sent.gigabytes());
    Ok(())
}
