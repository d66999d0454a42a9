//! Two sockets of a through flow, joined in the kernel: what passes is the client's and the egress' own.

use std::sync::{Arc, Mutex, OnceLock};

use rap_mesh_core::{
    carrier::Carrier,
    shape::{Direction, MAX_GRANT},
};
use rap_proto::{Moment, observation::EndReason};
use rap_splice::{Failure, Gate, pass_in_turns};
use tokio::sync::Notify;

use super::{Counters, natural};
use crate::{lanes::Metered, mesh::locked, shaping::Shaped, tcp::InLane};

/// How the two were parted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joined {
    /// Each side ended its direction, first the one that this says.
    Ended(EndReason),
    /// The client broke off, or this node has nothing to pass bytes with.
    Left,
    /// The way to the egress broke.
    Broken,
}

/// Passes bytes between a client and an egress until both directions end, or one of them breaks. `shaped`
/// says how fast, and the meters learn how fast it was. `counters` count what passes, with all that TLS
/// adds. `heard` is told when the first bytes of the egress are through.
pub(crate) async fn join(
    (client, egress): (&InLane<'_>, &InLane<'_>),
    shaped: &Arc<Shaped>,
    counters: &Counters,
    [up_meter, down_meter]: [Metered; 2],
    heard: &Arc<Notify>,
) -> Joined {
    let up_pace = Pace::new(shaped, Direction::Up, up_meter, None);
    let down_pace = Pace::new(shaped, Direction::Down, down_meter, Some(heard.clone()));
    let first = OnceLock::new();
    let up = async {
        let passed = pass_in_turns(client, egress, &counters.up, &up_pace).await;
        passed.map_err(|failure| match failure {
            Failure::To(_) => Joined::Broken,
            Failure::From(_) | Failure::Pipe(_) => Joined::Left,
        })?;
        first.get_or_init(|| EndReason::ClientClosed);
        Ok(())
    };
    let down = async {
        let passed = pass_in_turns(egress, client, &counters.down, &down_pace).await;
        passed.map_err(|failure| match failure {
            Failure::From(_) => Joined::Broken,
            Failure::To(_) | Failure::Pipe(_) => Joined::Left,
        })?;
        first.get_or_init(|| EndReason::TargetClosed);
        Ok(())
    };
    match tokio::try_join!(up, down) {
        Ok(_) => Joined::Ended(natural(first.into_inner())),
        Err(broken) => broken,
    }
}

/// How fast one direction may be, and how fast it was.
struct Pace {
    shaped: Arc<Shaped>,
    direction: Direction,
    state: Mutex<State>,
}

struct State {
    /// Bytes that were granted and not taken yet.
    left: usize,
    meter: Metered,
    /// When the wait of now began, for the source or for where it goes.
    since: Option<Moment>,
    /// Who waits for the first bytes.
    heard: Option<Arc<Notify>>,
}

impl Pace {
    fn new(
        shaped: &Arc<Shaped>,
        direction: Direction,
        meter: Metered,
        heard: Option<Arc<Notify>>,
    ) -> Self {
        let state = Mutex::new(State { left: 0, since: meter.begin(), meter, heard });
        Self { shaped: shaped.clone(), direction, state }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        let left = locked(&self.state).left;
        self.shaped.give_back(self.direction, left);
    }
}

impl Gate for Pace {
    type Turn<'t> = Turn<'t>;

    async fn turn(&self) -> Turn<'_> {
        {
            let State { meter, since, .. } = &mut *locked(&self.state);
            meter.read(since.take());
        }
        let mut turn = Turn { pace: self, room: 0 };
        turn.granted().await;
        turn
    }

    fn written(&self, bytes: usize) {
        let State { meter, since, heard, .. } = &mut *locked(&self.state);
        heard.take().into_iter().for_each(|heard| heard.notify_one());
        meter.wrote(since.take());
        // It stays where it is: a flow that opens later takes the carrier that was found better.
        let _ = meter.passed(bytes, || Some(Carrier::Tcp));
        *since = meter.begin();
    }
}

struct Turn<'a> {
    pace: &'a Pace,
    room: usize,
}

impl Turn<'_> {
    /// Waits until something may pass. What was granted before and not taken comes first, as nobody
    /// knows beforehand how much there is to take.
    async fn granted(&mut self) {
        let Pace { shaped, direction, state } = self.pace;
        if shaped.is_free() {
            self.room = usize::MAX;
            return;
        }
        let left = locked(state).left;
        self.room = if left > 0 { left } else { shaped.pass(*direction, MAX_GRANT).await };
        locked(state).left = self.room;
    }
}

impl rap_splice::Turn for Turn<'_> {
    fn room(&self) -> usize {
        self.room
    }

    fn passed(&mut self, bytes: usize) {
        let State { left, meter, since, .. } = &mut *locked(&self.pace.state);
        *left = left.saturating_sub(bytes);
        *since = meter.begin();
    }

    async fn again(&mut self) {
        self.granted().await;
    }
}
