//! One node at a time carries a connection, whatever becomes of the one that does.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, UNIX_EPOCH},
};

use rap_control_core::lease::{FLAP_WINDOW, MAX_LOSSES};
use rap_e2e::{Clocks, Fabric, Heard, NODES, Recorder, Space, until};
use rap_proto::{Generation, Timestamp};
use rustix::process::Signal;
use tokio::time::{sleep, sleep_until};

use super::{skip, step};

const PORT: u16 = 4500;
const PATIENCE: Duration = Duration::from_secs(40);
/// How soon another node has to be active when the holder is lost.
const UNPLANNED: Duration = Duration::from_secs(6);
/// How soon when it is asked to hand over.
const PLANNED: Duration = Duration::from_secs(1);
/// How many rounds there are, unless the long run asks for more.
const ROUNDS: usize = TROUBLES.len();
const ROUNDS_VARIABLE: &str = "RAP_LEASE_ROUNDS";
/// How far the clocks of a host are moved.
const SHIFT: Duration = Duration::from_secs(86_400);
/// How far its wall clock is set ahead while it carries the connection: past the ends of snapshots
/// and beats, and within what certificates are valid for.
const AHEAD: Duration = Duration::from_secs(7_200);
/// How long the connection is watched then: as long as a change of its holder and the next take.
const WATCH: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// SIGSTOP past the lease's end, then SIGCONT.
    Pause,
    /// The host cannot reach control, nor control the host.
    Partition,
    /// SIGKILL, and the agent is started again.
    Kill,
    /// The same, and the host's clocks have jumped.
    Clock,
    /// `rap vpn drain`.
    Drain,
    /// SIGTERM, and the agent is started again.
    Stop,
}

/// Two of each kind that nobody plans, which the two clocks that are set at the end make ten. Planned
/// changes stand between them: a connection that is lost too often is left alone a while.
const TROUBLES: [Trouble; 11] = [
    Trouble::Pause,
    Trouble::Drain,
    Trouble::Partition,
    Trouble::Kill,
    Trouble::Stop,
    Trouble::Clock,
    Trouble::Drain,
    Trouble::Pause,
    Trouble::Partition,
    Trouble::Kill,
    Trouble::Clock,
];

impl Trouble {
    const fn is_planned(self) -> bool {
        matches!(self, Self::Drain | Self::Stop)
    }
}

/// The fabric with one connection that each of its nodes may carry.
struct Stage {
    fabric: Fabric,
    recorder: Recorder,
    /// When the connection was lost unplanned.
    losses: VecDeque<Instant>,
    /// How far each restart moves the clocks.
    shift: Duration,
    /// How long each change took: unplanned, and planned.
    took: [Vec<Duration>; 2],
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_at_a_time_carries_a_connection_through_pause_partition_kill_and_clock() {
    let test =
        "lease::one_node_at_a_time_carries_a_connection_through_pause_partition_kill_and_clock";
    if super::rootless::is_for_a_child(test) {
        return;
    }
    let fabric = match Fabric::start_recording(PORT).await {
        Ok(fabric) => fabric,
        Err(reason) => return skip(test, &reason),
    };
    let rounds = std::env::var(ROUNDS_VARIABLE).ok().map(|rounds| rounds.parse().unwrap());
    let mut stage = Stage::set(fabric).await;
    for trouble in TROUBLES.into_iter().cycle().take(rounds.unwrap_or(ROUNDS)) {
        stage.round(trouble).await;
    }
    match Clocks::settable() {
        Ok(clocks) => stage.set_the_clock_of_the_holder(&clocks).await,
        Err(reason) => skip(test, &reason),
    }
    stage.check_times();
    stage.check_the_log().await;
}

impl Stage {
    async fn set(fabric: Fabric) -> Self {
        let recorder = Recorder::listen(fabric.lab(), &NODES, PORT);
        for (node, role) in
            [("entry", "entry-node"), ("relay", "relay-node"), ("egress", "stream-worker@acme")]
        {
            let words = ["node", "roles", node, role, "vpn-connector@acme"];
            // The egress is the organization's own.
            let person = if node == "egress" { &fabric.ada } else { &fabric.owner };
            person.rap(&words).await.ok();
        }
        fabric.ada.rap(&["vpn", "create", "tunnel", "--class", "fast", "--enable"]).await.ok();
        let stage = Self {
            fabric,
            recorder,
            losses: VecDeque::new(),
            shift: Duration::ZERO,
            took: [vec![], vec![]],
        };
        stage.recorder.above(Generation::NONE, PATIENCE).await;
        for host in NODES {
            stage.stands_by(host, |state| state == "standby" || state == "active").await;
        }
        stage
    }

    async fn round(&mut self, trouble: Trouble) {
        self.pace(trouble).await;
        let old = self.recorder.newest().expect("somebody carries it");
        let begun = self.make(trouble, old.host).await;
        let new = self.recorder.above(old.generation, PATIENCE).await;
        let took = new.since.saturating_duration_since(begun);
        let gap = new.since.saturating_duration_since(new.before);
        step(&format!(
            "{trouble:?}: {:?} to {:?} in {took:?}, silent for {gap:?}",
            old.host, new.host
        ));
        assert_ne!(new.host, old.host, "{trouble:?}");
        self.took[usize::from(trouble.is_planned())].push(took);
        self.end(trouble, old.host).await;
        self.check_late(trouble, old);
        assert_eq!(self.recorder.newest().map(|heard| heard.generation), Some(new.generation));
    }

    /// Its wall clock is set ahead and back while it runs. Leases end by the clock that counts from
    /// the start of the host, so whether it goes on or gives up, one node at a time carries the
    /// connection, and soon one does.
    async fn set_the_clock_of_the_holder(&mut self, clocks: &Clocks) {
        for host in NODES {
            self.fabric.signal_agent(host, Signal::TERM);
            let agent = self.fabric.agent(host);
            until("the agent has ended", PATIENCE, async || agent.ended()).await;
            self.fabric.start_agent_on(host, clocks);
            self.stands_by(host, |state| state == "standby").await;
        }
        let old = until("somebody carries it", PATIENCE, async || {
            let newest = self.recorder.newest()?;
            let status = self.fabric.agent_status(newest.host).await?;
            (status["leases"]["connections"][0]["state"] == "active").then_some(newest)
        })
        .await;
        for ahead in [AHEAD, Duration::ZERO] {
            self.pace(Trouble::Clock).await;
            self.fabric.set_clock(old.host, ahead);
            let silent = self.longest_silence().await;
            let new = self.recorder.newest().expect("somebody carries it");
            step(&format!(
                "{:?} set to {ahead:?} ahead: {:?} carries it, silent for {silent:?}",
                old.host, new.host
            ));
            assert!(silent <= UNPLANNED, "{silent:?}");
            assert_eq!(self.recorder.take_late(), []);
            self.sees_the_clock(old.host, ahead).await;
        }
        self.stands_by(old.host, |state| state == "standby" || state == "active").await;
    }

    /// The agent says of what it did since then that it was that far ahead.
    async fn sees_the_clock(&self, host: Space, ahead: Duration) {
        until(&format!("{host:?} is {ahead:?} ahead"), PATIENCE, async || {
            let status = self.fabric.agent_status(host).await?;
            let answered = status["control"]["lastAnswerAt"].as_str()?.parse::<Timestamp>().ok()?;
            let now = i64::try_from(UNIX_EPOCH.elapsed().ok()?.as_millis()).ok()?;
            let off = answered.since(Timestamp::from_unix_millis(now));
            (off.abs_diff(ahead) < AHEAD / 2).then_some(())
        })
        .await;
    }

    async fn longest_silence(&self) -> Duration {
        let (begun, mut heard) = (Instant::now(), self.recorder.counts().0);
        let (mut last, mut longest) = (begun, Duration::ZERO);
        while begun.elapsed() < WATCH {
            sleep(LOOK).await;
            let count = self.recorder.counts().0;
            longest = longest.max(last.elapsed());
            if count > heard {
                (heard, last) = (count, Instant::now());
            }
        }
        longest
    }

    /// Waits for as long as control would: a connection changes its holder unplanned only so often.
    async fn pace(&mut self, trouble: Trouble) {
        if trouble.is_planned() {
            return;
        }
        if self.losses.len() >= MAX_LOSSES
            && let Some(first) = self.losses.pop_front()
        {
            sleep_until((first + FLAP_WINDOW + UNPLANNED).into()).await;
        }
        self.losses.push_back(Instant::now());
    }

    /// Begins the trouble; returns since when another node may be expected.
    async fn make(&mut self, trouble: Trouble, host: Space) -> Instant {
        let begun = Instant::now();
        match trouble {
            Trouble::Pause => self.fabric.signal_agent(host, Signal::STOP),
            Trouble::Partition => self.fabric.lab().cut_off(host).unwrap(),
            Trouble::Kill | Trouble::Clock => self.fabric.signal_agent(host, Signal::KILL),
            Trouble::Stop => self.fabric.signal_agent(host, Signal::TERM),
            Trouble::Drain => {
                self.fabric.ada.rap(&["vpn", "drain", "tunnel"]).await.ok();
                // What the command itself took is not the connection's.
                return Instant::now();
            }
        }
        begun
    }

    /// Ends the trouble and waits until the host would take the connection again.
    async fn end(&mut self, trouble: Trouble, host: Space) {
        match trouble {
            Trouble::Pause => self.fabric.signal_agent(host, Signal::CONT),
            Trouble::Partition => self.fabric.lab().heal(host).unwrap(),
            Trouble::Kill | Trouble::Stop => {
                let agent = self.fabric.agent(host);
                until("the agent has ended", PATIENCE, async || agent.ended()).await;
                self.fabric.start_agent(host);
            }
            Trouble::Clock => {
                let agent = self.fabric.agent(host);
                until("the agent has ended", PATIENCE, async || agent.ended()).await;
                // Ahead, and at the next time back again.
                self.shift = SHIFT - self.shift;
                self.fabric.start_agent_on(host, &Clocks::Ahead(self.shift));
            }
            Trouble::Drain => {}
        }
        self.stands_by(host, |state| state == "standby").await;
    }

    async fn stands_by(&self, host: Space, fits: impl Fn(&str) -> bool) {
        until(&format!("{host:?} stands by"), PATIENCE, async || {
            let status = self.fabric.agent_status(host).await?;
            let connection = &status["leases"]["connections"][0];
            let connected = status["busConnected"] == true;
            let ready = connection["ready"] == true || connection["state"] == "active";
            (connected && ready && fits(connection["state"].as_str()?)).then_some(())
        })
        .await;
    }

    /// After a newer generation nothing older comes. Only a process that was stopped between its
    /// last look at the clock and its packet may send that one packet when it goes on.
    fn check_late(&self, trouble: Trouble, old: Heard) {
        let late = self.recorder.take_late();
        let permitted = usize::from(trouble == Trouble::Pause);
        assert!(late.len() <= permitted, "{trouble:?}: {late:?}");
        let of_the_last =
            late.iter().all(|one| (one.host, one.generation) == (old.host, old.generation));
        assert!(of_the_last, "{late:?}");
    }

    /// Every change is in time.
    fn check_times(&mut self) {
        for (took, limit) in self.took.iter_mut().zip([UNPLANNED, PLANNED]) {
            took.sort();
            step(&format!("at most {limit:?} each: {took:?}"));
            assert!(took.iter().all(|took| *took <= limit), "{took:?}, not {limit:?}");
        }
    }

    /// The log alone shows that the intervals of two holders do not overlap.
    async fn check_the_log(&self) {
        let mut free_from = Timestamp::default();
        let mut greatest = 0;
        for event in self.fabric.audit().await {
            let data = &event["payload"];
            let time = |field: &str| data[field].as_str().unwrap().parse::<Timestamp>().unwrap();
            match event["type"].as_str() {
                Some("vpn_connection.lease_granted") => {
                    let generation = data["generation"].as_u64().unwrap();
                    assert!(generation > greatest, "{event}");
                    greatest = generation;
                    assert!(time("granted_at") >= free_from, "{event} after {free_from}");
                }
                Some("vpn_connection.lease_released") => {
                    free_from = time("released_at");
                }
                Some("vpn_connection.lease_fenced") => {
                    free_from = time("valid_until");
                }
                _ => {}
            }
        }
        let newest = self.recorder.newest().map(|heard| heard.generation.number());
        assert_eq!(newest, Some(greatest));
        let (timely, late) = self.recorder.counts();
        step(&format!("{timely} datagrams of {greatest} generations in time, {late} late"));
    }
}
