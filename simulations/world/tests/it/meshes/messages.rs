//! Channels of messages over the same network: a client and a service at the egress tell each other
//! numbers on three kinds of channel, while datagrams are lost and late, and each relay crashes.
//!
//! On the reliable kind every number comes once and in order. On the droppable ones nobody ever waits
//! to say one, what comes is in order, and what does not come is counted.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt as _;
use rap_mesh::{
    MessageChannel,
    channel::{Arrived, Counters, Delivery, Message, Policy},
};
use rap_proto::{ChannelKind, token::ChannelGrant};
use rap_simulations::{
    kit::{Coverage, Report, Violation, caught},
    level2::MESSAGES,
};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    BEGINS, LASTS, LOSS_PERMILLE, RELAYS, Run, SETTLES,
    hosts::{CLIENT_WAITS, Orders, Parts, connected},
    name,
    record::Record,
};
use crate::level2::{self, Options};

const SEEDS: u64 = 6;
/// What is spoken on, how often, and how many bytes there are of it.
const KINDS: [(ChannelKind, Duration, usize); 3] = [
    (ChannelKind::Input, Duration::from_millis(50), 16),
    (ChannelKind::Render, Duration::from_millis(50), 4_096),
    (ChannelKind::VpnPackets, Duration::from_millis(20), 1_000),
];
/// So many numbers may be missing at the end of a droppable channel: those of three seconds, as what is lost
/// twice holds up a stream for that long.
const LATE: [(ChannelKind, u64); 2] = [(ChannelKind::Render, 60), (ChannelKind::VpnPackets, 150)];

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Client,
    Service,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Service,
            Self::Service => Self::Client,
        }
    }
}

#[derive(Default)]
pub(super) struct Talks {
    /// Nobody says more.
    ends: bool,
    by: BTreeMap<(ChannelKind, Side), Talk>,
}

/// What one side said on one channel, and what came of it.
#[derive(Debug, Clone, Default)]
struct Talk {
    said: u64,
    heard: Vec<u64>,
    /// How often somebody had to wait on a droppable channel.
    waited: u64,
    sent: Counters,
    arrived: Arrived,
    /// It was finished, and heard to its end.
    is_finished: bool,
    is_heard: bool,
}

/// One side of a channel: says numbers until nobody says more, and hears the other side to its end.
pub(super) async fn talk(
    (kind, side): (ChannelKind, Side),
    channel: MessageChannel,
    record: Record,
) {
    let change = |by: Side, change: &dyn Fn(&mut Talk)| {
        change(record.lock().talks.by.entry((kind, by)).or_default());
    };
    let (_, every, length) = *KINDS.iter().find(|(known, ..)| *known == kind).unwrap();
    let droppable = Policy::of(kind).unwrap().delivery == Delivery::Droppable;
    let saying = async {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0_u64.. {
            ticks.tick().await;
            if record.lock().talks.ends {
                break;
            }
            let mut bytes = vec![0; length];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            let mut sending =
                Box::pin(channel.send(Message { key: None, bytes: Bytes::from(bytes) }));
            let sent = match sending.as_mut().now_or_never() {
                Some(sent) => sent,
                None => {
                    change(side, &|talk| talk.waited += u64::from(droppable));
                    sending.await
                }
            };
            if sent.is_err() {
                return;
            }
            change(side, &|talk| talk.said = number + 1);
        }
        let finished = channel.finish().await.is_ok();
        change(side, &|talk| talk.is_finished = finished);
    };
    let hearing = async {
        while let Ok(message) = channel.receive().await {
            let Some(message) = message else {
                return change(side.other(), &|talk| talk.is_heard = true);
            };
            let number = u64::from_be_bytes(*message.bytes.first_chunk().unwrap());
            change(side.other(), &|talk| talk.heard.push(number));
        }
    };
    tokio::join!(saying, hearing);
    change(side, &|talk| talk.sent = channel.counters());
    change(side.other(), &|talk| talk.arrived = channel.arrived());
    record.note(format_args!("{side:?} is done with {kind}"));
}

async fn client(parts: Parts, _: Rc<Orders>) -> turmoil::Result {
    sleep(CLIENT_WAITS).await;
    let network = parts.network();
    let grant = |kind| ChannelGrant { lanes: [Policy::of(kind).unwrap().lane].into(), max_open: 1 };
    let channels = KINDS.map(|(kind, ..)| (kind, grant(kind)));
    let token = parts.cluster.token_for(channels.into());
    let session = connected(&parts, &network, token).await?;
    for (kind, ..) in KINDS {
        let channel = session.open_messages(kind, None).await?;
        tokio::task::spawn_local(talk((kind, Side::Client), channel, parts.record.clone()));
    }
    std::future::pending().await
}

/// What is wrong with what came of a talk.
fn wrong(kind: ChannelKind, talk: &Talk) -> Option<&'static str> {
    let Talk { said, heard, waited, sent, arrived, is_finished, is_heard } = talk;
    let lost = sent.dropped_full + sent.dropped_stale;
    let late = LATE.iter().find(|(known, _)| *known == kind).map(|(_, late)| *late);
    let last = heard.last().map_or(0, |last| last + 1);
    let checks = [
        (*is_finished && *is_heard, "it was not finished"),
        (*said > 400, "little was said"),
        (*waited == 0, "somebody waited"),
        (heard.is_sorted_by(|one, next| one < next), "it came twice or out of order"),
        (sent.taken_in == *said && last <= *said, "nobody said that"),
        (sent.sent + lost + sent.coalesced == *said, "something is not counted that was not sent"),
        (arrived.came == sent.sent, "something is not counted that was sent"),
        (arrived.handed_out == heard.len() as u64, "something is not counted that was handed out"),
        (arrived.handed_out + arrived.put_aside == arrived.came, "something waits"),
        (late.is_some() || heard.len() as u64 == *said, "something did not come"),
        (said.saturating_sub(last) <= late.unwrap_or(0), "the last ones did not come"),
    ];
    checks.into_iter().find_map(|(holds, what)| (!holds).then_some(what))
}

fn run(seed: u64, record: &Record) {
    let mut run = Run::with(seed, record, client);
    run.pass(BEGINS);
    let first = usize::from(run.chance.happens(500));
    for relay in [RELAYS[first], RELAYS[1 - first]] {
        let lasts = run.chance.between(LASTS[0], LASTS[1]);
        run.note(format_args!("{} crashes", name(relay)));
        run.sim.crash(name(relay));
        run.pass(lasts);
        run.sim.bounce(name(relay));
        run.pass(SETTLES);
    }
    run.record.lock().talks.ends = true;
    run.pass(SETTLES);
}

/// Reliable messages are whole, and droppable ones are counted.
const COUNTED: &str = "counted";
/// The heading of what was dropped.
const DROPPED: &str = "dropped";

fn judge(record: &Record) -> Result<Coverage, Violation> {
    let seen = record.lock();
    let mut coverage = Coverage::default();
    if seen.talks.by.len() != 2 * KINDS.len() || seen.lost == 0 {
        let talks = seen.talks.by.len();
        let detail = format!("{talks} talks, {} datagrams lost", seen.lost);
        return Err(Violation::new(COUNTED, detail));
    }
    for ((kind, side), talk) in &seen.talks.by {
        if let Some(wrong) = wrong(*kind, talk) {
            let detail = format!("{wrong}: {side:?} on {kind}: {talk:?}");
            return Err(Violation::new(COUNTED, detail));
        }
        let dropped = talk.said - talk.heard.len() as u64;
        coverage.count_many(DROPPED, kind.to_string(), dropped);
    }
    Ok(coverage)
}

pub(crate) fn report(options: Options) -> Report {
    let record = Record::default();
    let outcome = caught(|| run(options.seed, &record)).and_then(|()| judge(&record));
    let mix = format!("{LOSS_PERMILLE} of 1,000 datagrams are lost");
    level2::report(MESSAGES, options, &record, outcome, mix)
}

#[test]
fn messages_are_whole_where_they_are_reliable_and_counted_where_they_are_dropped() {
    if let Some(coverage) = level2::expect_nothing(MESSAGES, SEEDS, report) {
        for (kind, _) in LATE {
            coverage.expect(DROPPED, &[&kind.to_string()]);
        }
    }
}

#[test]
fn one_seed_of_messages_is_one_history() {
    let [one, other] = [(); 2].map(|()| report(level2::seed(2)));
    assert_eq!((one.digest, one.events), (other.digest, other.events));
    assert_ne!(one.digest, report(level2::seed(3)).digest);
}

#[test]
fn what_is_lost_twice_or_waited_for_is_seen() {
    let sent = Counters { taken_in: 600, sent: 600, ..Counters::default() };
    let arrived = Arrived { came: 600, handed_out: 600, put_aside: 0 };
    let (is_finished, is_heard) = (true, true);
    let heard = (0..600).collect();
    let good = Talk { said: 600, heard, waited: 0, sent, arrived, is_finished, is_heard };
    let kinds = [ChannelKind::Input, ChannelKind::VpnPackets];
    for kind in kinds {
        assert_eq!(wrong(kind, &good), None);
        let bad = |change: &dyn Fn(&mut Talk)| {
            let mut talk = good.clone();
            change(&mut talk);
            assert!(wrong(kind, &talk).is_some(), "{kind}: {talk:?}");
        };
        bad(&|talk| talk.waited = 1);
        bad(&|talk| talk.heard[5] = 4);
        bad(&|talk| talk.heard.truncate(500));
        bad(&|talk| talk.sent.sent -= 1);
        bad(&|talk| talk.arrived.came -= 1);
        bad(&|talk| talk.is_heard = false);
        bad(&|talk| {
            talk.heard.truncate(500);
            talk.arrived.handed_out = 500;
        });
    }
    // Counted, it may be missing where it may be dropped.
    let mut talk = good;
    (talk.sent.sent, talk.sent.dropped_stale, talk.arrived.came) = (599, 1, 599);
    talk.heard.remove(300);
    talk.arrived.handed_out = 599;
    assert_eq!(kinds.map(|kind| wrong(kind, &talk).is_none()), [false, true]);
}
