//! What an open channel costs each node in memory: a thousand of them over one relay.

use rap_mesh::{
    Carrier,
    client::{self, Channel, ClientSession},
};
use rap_proto::{Lane, Timestamp};

use crate::{
    Outcome, Process,
    cluster::{Cluster, EGRESS, ENTRIES, RELAY, Target},
    figure,
    latency::{channel, echo},
    session,
    usage::resident_kib,
};

const CHANNELS: usize = 1_000;
const CHANNELS_OF_AN_ENTRY: usize = CHANNELS / ENTRIES.len();

pub(crate) async fn measure(made_at: Timestamp) -> Outcome<()> {
    for (carrier, name) in
        [(Carrier::Quic, "channel_memory_quic"), (Carrier::Tcp, "channel_memory_tcp")]
    {
        figure(name, of_a_channel(made_at, carrier).await?, "KiB");
    }
    Ok(())
}

/// By how many KiB the node grew that grew most for each of its channels.
async fn of_a_channel(made_at: Timestamp, carrier: Carrier) -> Outcome<f64> {
    let cluster = Cluster::new(made_at);
    let only = Some(carrier);
    let egress = Process::node(made_at, EGRESS, only, &[])?;
    let relay = Process::node(made_at, RELAY, only, &[(EGRESS, egress.address)])?;
    let (mut sessions, mut entries) = (Vec::new(), Vec::new());
    for (entry, number) in ENTRIES.into_iter().zip(1..) {
        let process = Process::node(made_at, entry, only, &[(RELAY, relay.address)])?;
        let mut options = session(&cluster, entry, process.address, Target::Echoes, number);
        options.carrier = only;
        sessions.push(client::connect(options).await?);
        entries.push(process);
    }
    // What the first channel brings with it, a lane and its buffers, is no channel's.
    let mut held = Vec::new();
    for session in &sessions {
        held.push(open(session).await?);
    }
    let mut nodes = vec![(&egress, CHANNELS), (&relay, CHANNELS)];
    nodes.extend(entries.iter().map(|entry| (entry, CHANNELS_OF_AN_ENTRY)));
    let resident = || -> Outcome<Vec<f64>> {
        nodes.iter().map(|(process, _)| resident_kib(process.id())).collect()
    };
    let before = resident()?;
    for session in &sessions {
        for _ in 0..CHANNELS_OF_AN_ENTRY {
            held.push(open(session).await?);
        }
    }
    let growths = resident()?.into_iter().zip(before).zip(&nodes);
    #[expect(clippy::cast_precision_loss, reason = "a thousand is no large number")]
    let of_each =
        growths.map(|((after, before), (_, channels))| (after - before) / *channels as f64);
    Ok(of_each.fold(0.0, f64::max))
}

/// One that has carried something.
async fn open(session: &ClientSession) -> Outcome<Channel> {
    let mut opened = session.open_lasting(channel(Lane::Interactive)).await?;
    echo(&mut opened).await?;
    Ok(opened)
}
