#![allow(clippy::unwrap_used)]

mod moves;

use std::collections::VecDeque;

use proptest::prelude::*;
use rap_proto::OrganizationId;

use super::*;

const CODE: u64 = 0x102;
const MOST: usize = 50;

/// What one end wrote on an attachment.
#[derive(Debug, Clone)]
enum Item {
    From(u64),
    Acknowledged(u64),
    Data(Bytes),
    Ended(End),
    Stopped(u64),
}

/// A mistake that the checks below have to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// One byte more is claimed than was taken.
    ClaimsMore,
    /// What an old connection still holds is taken for the new one's.
    LateCounts,
    /// The place at which a replay begins is not what it is said to be.
    BeginsElsewhere,
    /// An end that was said once is not said again.
    EndIsLost,
}

struct Side {
    flow: Flow,
    /// What this end sends, in pieces, and how it ends.
    script: VecDeque<Bytes>,
    end: End,
    taken: Vec<u8>,
    heard: Option<End>,
    stopped: Option<u64>,
    /// On the way from here to the other end.
    wire: VecDeque<Item>,
}

impl Side {
    fn new(script: &[Vec<u8>], end: End) -> Self {
        Self {
            flow: Flow::new(),
            script: script.iter().cloned().map(Bytes::from).collect(),
            end,
            taken: Vec::new(),
            heard: None,
            stopped: None,
            wire: VecDeque::new(),
        }
    }

    fn write(&mut self) {
        let mut room = Vec::new();
        while let Some(out) = self.flow.poll_out(MOST, &mut room) {
            match out {
                Out::From(offset) => self.wire.push_back(Item::From(offset)),
                Out::Acknowledged(offset) => self.wire.push_back(Item::Acknowledged(offset)),
                Out::Data => self.wire.extend(room.drain(..).map(Item::Data)),
                Out::Ended(end) => self.wire.push_back(Item::Ended(end)),
                Out::Stopped(code) => self.wire.push_back(Item::Stopped(code)),
            }
        }
    }

    fn read(&mut self) {
        while let Some(bytes) = self.flow.take() {
            self.taken.extend_from_slice(&bytes);
        }
        self.heard = self.heard.or(self.flow.ended());
    }

    fn hear(&mut self, generation: u32, item: Item) -> Result<(), Refused> {
        match item {
            Item::From(offset) => self.flow.handle_from(generation, offset),
            Item::Acknowledged(offset) => self.flow.handle_acknowledged(generation, offset),
            Item::Data(bytes) => self.flow.handle_data(generation, bytes),
            Item::Ended(end) => self.flow.handle_ended(generation, end),
            Item::Stopped(code) => {
                self.stopped = Some(code);
                Ok(())
            }
        }
    }
}

/// Two ends, and connections between them that are cut.
struct World {
    sides: [Side; 2],
    generation: u32,
    bug: Bug,
    leftovers: [VecDeque<Item>; 2],
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// One end sends its next piece, or its end.
    Send(usize),
    /// So many things of one end arrive.
    Deliver(usize, usize),
    Read(usize),
    Hurry(usize),
    /// The connection is lost; of what is on the way, so many bytes of data still arrive.
    Cut(usize),
}

impl World {
    fn new(scripts: [&[Vec<u8>]; 2], ends: [End; 2], bug: Bug) -> Self {
        let [one, other] = scripts;
        let sides = [Side::new(one, ends[0]), Side::new(other, ends[1])];
        Self { sides, generation: 0, bug, leftovers: Default::default() }
    }

    fn step(&mut self, step: Step) -> Result<(), Refused> {
        match step {
            Step::Send(side) => self.send(side),
            Step::Deliver(from, count) => self.deliver(from, count)?,
            Step::Read(side) => self.sides[side].read(),
            Step::Hurry(side) => self.sides[side].flow.acknowledge(),
            Step::Cut(bytes) => self.cut(bytes)?,
        }
        self.sides.iter_mut().for_each(Side::write);
        Ok(())
    }

    fn send(&mut self, side: usize) {
        let side = &mut self.sides[side];
        if !side.flow.has_room(MAX_REPLAY_BYTES) {
            return;
        }
        match side.script.pop_front() {
            Some(bytes) => side.flow.send(bytes),
            None => side.flow.end(side.end),
        }
    }

    fn deliver(&mut self, from: usize, count: usize) -> Result<(), Refused> {
        for _ in 0..count {
            let late = self.leftovers[from].pop_front();
            if let Some(item) = late {
                let labelled = match self.bug {
                    Bug::LateCounts => self.generation,
                    _ => self.generation - 1,
                };
                let heard = self.sides[1 - from].hear(labelled, item);
                if self.bug == Bug::LateCounts {
                    heard?;
                }
                continue;
            }
            let Some(item) = self.sides[from].wire.pop_front() else { break };
            let ended = matches!(item, Item::Ended(_));
            if self.bug == Bug::EndIsLost && ended && self.generation > 0 {
                continue;
            }
            self.sides[1 - from].hear(self.generation, item)?;
        }
        Ok(())
    }

    fn cut(&mut self, mut bytes: usize) -> Result<(), Refused> {
        for from in 0..2 {
            while bytes > 0
                && let Some(item) = self.sides[from].wire.pop_front()
            {
                let item = match item {
                    Item::Data(mut data) => {
                        let here = data.len().min(bytes);
                        bytes -= here;
                        Item::Data(data.split_to(here))
                    }
                    item => item,
                };
                self.sides[1 - from].hear(self.generation, item)?;
            }
            self.leftovers[from] = std::mem::take(&mut self.sides[from].wire);
        }
        let now = Moment::default();
        self.sides.iter_mut().for_each(|side| {
            side.flow.detach(self.generation, now);
        });
        self.generation += 1;
        let more = u64::from(self.bug == Bug::ClaimsMore);
        let received = [0, 1].map(|side: usize| match self.sides[side].flow.received() {
            COMPLETE => COMPLETE,
            offset => offset + more,
        });
        for (side, received) in [(0, received[1]), (1, received[0])] {
            self.sides[side].flow.attach(self.generation, received)?;
        }
        if self.bug == Bug::BeginsElsewhere {
            self.sides.iter_mut().for_each(Side::write);
            for item in self.sides.iter_mut().flat_map(|side| side.wire.iter_mut()) {
                if let Item::From(offset) = item {
                    *offset = offset.saturating_sub(1);
                }
            }
        }
        Ok(())
    }

    /// Lets both ends say and hear everything that they have.
    fn settle(&mut self) -> Result<(), Refused> {
        for _ in 0..400 {
            for side in [0, 1] {
                self.step(Step::Send(side))?;
                self.step(Step::Deliver(side, 16))?;
                self.step(Step::Read(1 - side))?;
                self.step(Step::Hurry(1 - side))?;
            }
        }
        Ok(())
    }
}

/// Runs the steps and the rest; an error says what is wrong.
fn run(scripts: [&[Vec<u8>]; 2], ends: [End; 2], steps: &[Step], bug: Bug) -> Result<(), String> {
    let mut world = World::new(scripts, ends, bug);
    for step in steps {
        world.step(*step).map_err(|refused| format!("{step:?}: {refused:?}"))?;
    }
    world.settle().map_err(|refused| format!("at the end: {refused:?}"))?;
    for from in [0, 1] {
        let (sent, to) = (scripts[from].concat(), &world.sides[1 - from]);
        if to.heard != Some(ends[from]) {
            return Err(format!("the end of {from} was not heard: {:?}", to.heard));
        }
        let whole = to.taken == sent;
        let part = matches!(ends[from], End::Reset(_)) && sent.starts_with(&to.taken);
        if !whole && !part {
            return Err(format!("{} bytes sent, {} came", sent.len(), to.taken.len()));
        }
        if !world.sides[from].flow.is_settled() {
            return Err(format!("{from} still keeps something"));
        }
        if world.sides[from].flow.kept() != 0 {
            return Err(format!("{from} keeps {} bytes", world.sides[from].flow.kept()));
        }
    }
    Ok(())
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize).prop_map(Step::Send),
        4 => (0..2_usize, 1..6_usize).prop_map(|(from, count)| Step::Deliver(from, count)),
        3 => (0..2_usize).prop_map(Step::Read),
        2 => (0..2_usize).prop_map(Step::Hurry),
        2 => (0..120_usize).prop_map(Step::Cut),
    ]
}

fn any_script() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 1..130), 0..12)
}

fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![3 => Just(End::Finished), 1 => Just(End::Reset(CODE))]
}

proptest! {
    #[test]
    fn however_often_it_is_cut_the_same_bytes_come_once_and_in_order(
        one in any_script(),
        other in any_script(),
        ends in (any_end(), any_end()),
        steps in prop::collection::vec(any_step(), 0..120),
    ) {
        let outcome = run([&one, &other], [ends.0, ends.1], &steps, Bug::None);
        prop_assert_eq!(outcome, Ok(()));
    }

    #[test]
    fn nothing_that_a_peer_says_breaks_it(
        said in prop::collection::vec((0..5_u8, any::<u32>(), any::<u64>(), 0..3_u32), 0..60),
    ) {
        let mut flow = Flow::new();
        let mut room = Vec::new();
        for (kind, small, large, generation) in said {
            let bytes = Bytes::from(vec![0; small as usize % 2000]);
            flow.send(bytes.clone());
            let _ = flow.poll_out(MOST, &mut room);
            let offset = if small % 3 == 0 { u64::from(small % 5000) } else { large };
            let _ = match kind {
                0 => flow.handle_data(generation, bytes),
                1 => flow.handle_from(generation, offset),
                2 => flow.handle_acknowledged(generation, offset),
                3 => flow.attach(generation, offset),
                _ => flow.handle_ended(generation, End::Finished),
            };
            while flow.take().is_some() {}
            let _ = (flow.received(), flow.kept(), flow.owes_acknowledgement());
        }
    }
}

#[test]
fn the_world_finds_planted_bugs() {
    let script: Vec<Vec<u8>> = (0..8_u8).map(|n| vec![n; 60]).collect();
    let mut steps = Vec::new();
    for round in 0..6 {
        steps.extend([
            Step::Send(0),
            Step::Send(1),
            Step::Deliver(0, 1 + round % 2),
            Step::Read(1),
        ]);
        steps.extend([Step::Deliver(1, 1), Step::Read(0), Step::Send(0), Step::Cut(13 * round)]);
    }
    let ends = [End::Finished, End::Finished];
    assert_eq!(run([&script, &script], ends, &steps, Bug::None), Ok(()));
    for bug in [Bug::ClaimsMore, Bug::LateCounts, Bug::BeginsElsewhere, Bug::EndIsLost] {
        assert!(run([&script, &script], ends, &steps, bug).is_err(), "{bug:?} stays unnoticed");
    }
}

/// Writes everything and throws it away.
fn written(flow: &mut Flow) -> Vec<Out> {
    let mut room = Vec::new();
    std::iter::from_fn(|| flow.poll_out(MAX_REPLAY_BYTES, &mut room)).collect()
}

#[test]
fn a_full_window_holds_the_sender_back_until_it_is_acknowledged() {
    let mut flow = Flow::new();
    let piece = Bytes::from(vec![1; 64 * 1024]);
    let mut sent = 0;
    while flow.has_room(MAX_REPLAY_BYTES) {
        flow.send(piece.clone());
        sent += piece.len();
    }
    assert_eq!(sent, MAX_REPLAY_BYTES);
    written(&mut flow);
    assert!(!flow.has_room(MAX_REPLAY_BYTES), "writing makes no room");
    flow.handle_acknowledged(0, 1).unwrap();
    assert!(flow.has_room(MAX_REPLAY_BYTES));
    let mut small = Flow::new();
    for _ in 0..MAX_REPLAY_PIECES {
        assert!(small.has_room(MAX_REPLAY_BYTES));
        small.send(Bytes::from_static(b"x"));
    }
    assert!(!small.has_room(MAX_REPLAY_BYTES), "pieces are bounded as well as bytes");
}

#[test]
fn a_peer_that_sends_beyond_the_window_is_refused() {
    let mut flow = Flow::new();
    let piece = Bytes::from(vec![1; 1024 * 1024]);
    let refused = (0..64).find_map(|_| flow.handle_data(0, piece.clone()).err());
    assert_eq!(refused, Some(Refused::TooMuch));
    assert!(flow.kept() <= 2 * MAX_REPLAY_BYTES);
}

#[test]
fn so_many_pieces_and_bytes_are_received_before_anybody_asks() {
    for (window, piece, most) in [
        (MAX_REPLAY_BYTES, 1, MAX_REPLAY_PIECES),
        (MAX_REPLAY_BYTES, 1024, 2 * MAX_REPLAY_BYTES),
        (NARROW_WINDOW, 1024, 2 * NARROW_WINDOW),
    ] {
        let mut flow = Flow::new();
        while flow.may_read_ahead(ahead(window)) {
            flow.handle_data(0, Bytes::from(vec![1; piece])).unwrap();
        }
        assert_eq!(flow.kept(), most);
        flow.take().unwrap();
        assert!(flow.may_read_ahead(ahead(window)));
    }
}

#[test]
fn acknowledgements_are_rare_and_come_after_a_while() {
    let mut flow = Flow::new();
    flow.handle_data(0, Bytes::from_static(b"x")).unwrap();
    assert!(!flow.owes_acknowledgement(), "nothing was taken");
    flow.take().unwrap();
    assert!(flow.owes_acknowledgement());
    assert_eq!(written(&mut flow), []);
    flow.acknowledge();
    assert_eq!(written(&mut flow), [Out::Acknowledged(1)]);
    assert!(!flow.owes_acknowledgement());
    let many = usize::try_from(ACK_EVERY).unwrap();
    flow.handle_data(0, Bytes::from(vec![0; many])).unwrap();
    flow.take().unwrap();
    assert_eq!(written(&mut flow), [Out::Acknowledged(1 + ACK_EVERY)]);
}

#[test]
fn what_an_older_attachment_brings_is_late() {
    let mut flow = Flow::new();
    flow.attach(2, 0).unwrap();
    assert_eq!(flow.handle_data(0, Bytes::from_static(b"x")), Err(Refused::Late));
    assert_eq!(flow.handle_ended(1, End::Finished), Err(Refused::Late));
    assert_eq!(flow.attach(2, 0), Err(Refused::Late));
    assert_eq!(flow.attach(1, 0), Err(Refused::Late));
    assert!(!flow.detach(0, Moment::default()), "its connection is not this one");
    assert_eq!(flow.handle_data(2, Bytes::from_static(b"x")), Err(Refused::Gap), "from where?");
    assert_eq!(flow.handle_from(2, 1), Err(Refused::Gap));
    flow.handle_from(2, 0).unwrap();
    flow.handle_data(2, Bytes::from_static(b"x")).unwrap();
    assert_eq!(flow.take().unwrap(), "x");
}

#[test]
fn a_replay_from_further_back_counts_once() {
    let mut flow = Flow::new();
    flow.handle_data(0, Bytes::from_static(b"abc")).unwrap();
    flow.take().unwrap();
    flow.detach(0, Moment::default());
    assert_eq!(flow.received(), 3);
    flow.attach(1, 0).unwrap();
    flow.handle_from(1, 1).unwrap();
    flow.handle_data(1, Bytes::from_static(b"bcde")).unwrap();
    assert_eq!(flow.take().unwrap(), "de");
}

#[test]
fn a_peer_cannot_have_more_or_less_than_there_is() {
    let mut flow = Flow::new();
    flow.send(Bytes::from_static(b"abc"));
    assert_eq!(flow.handle_acknowledged(0, 1), Err(Refused::TooMuch), "nothing was written yet");
    written(&mut flow);
    assert_eq!(flow.handle_acknowledged(0, 4), Err(Refused::TooMuch));
    assert_eq!(flow.handle_acknowledged(0, COMPLETE), Err(Refused::TooMuch));
    flow.handle_acknowledged(0, 2).unwrap();
    assert_eq!(flow.attach(1, 1), Err(Refused::Gap), "that was acknowledged and is gone");
    assert_eq!(flow.attach(1, 4), Err(Refused::TooMuch));
    assert_eq!(flow.attach(1, COMPLETE), Err(Refused::TooMuch));
    flow.attach(1, 3).unwrap();
    assert_eq!(written(&mut flow), [Out::From(3)]);
}

#[test]
fn what_was_taken_after_an_offer_is_acknowledged_once_it_came_again() {
    let (mut flow, mut peer) = (Flow::new(), Flow::new());
    flow.send(Bytes::from_static(b"abcde"));
    written(&mut flow);
    peer.handle_data(0, Bytes::from_static(b"a")).unwrap();
    peer.take().unwrap();
    assert_eq!(peer.offer(1), Ok(1));
    peer.handle_data(0, Bytes::from_static(b"bcde")).unwrap();
    peer.take().unwrap();
    peer.attach(1, 0).unwrap();
    flow.attach(1, 1).unwrap();
    // Its own attachment may be there long before the other side has written on it.
    peer.acknowledge();
    assert!(!peer.owes_acknowledgement() && !peer.has_news());
    assert_eq!(written(&mut peer), [Out::From(0)]);

    assert_eq!(written(&mut flow), [Out::From(1), Out::Data]);
    peer.handle_from(1, 1).unwrap();
    peer.handle_data(1, Bytes::from_static(b"bc")).unwrap();
    assert_eq!(peer.take(), None, "it is known");
    assert!(peer.owes_acknowledgement());
    peer.acknowledge();
    assert_eq!(written(&mut peer), [Out::Acknowledged(3)]);
    flow.handle_acknowledged(1, 3).unwrap();
    peer.handle_data(1, Bytes::from_static(b"de")).unwrap();
    peer.acknowledge();
    assert_eq!(written(&mut peer), [Out::Acknowledged(5)]);
    flow.handle_acknowledged(1, 5).unwrap();
    assert_eq!(flow.kept(), 0);
}

#[test]
fn an_end_and_a_stop_are_said_again() {
    let mut flow = Flow::new();
    flow.send(Bytes::from_static(b"abc"));
    flow.end(End::Finished);
    flow.stop(CODE);
    let all = [Out::Stopped(CODE), Out::Data, Out::Ended(End::Finished)];
    assert_eq!(written(&mut flow), all);
    flow.detach(0, Moment::default());
    assert_eq!(written(&mut flow), []);
    flow.attach(1, 3).unwrap();
    assert_eq!(written(&mut flow), [Out::From(3), Out::Stopped(CODE), Out::Ended(End::Finished)]);
    flow.handle_acknowledged(1, COMPLETE).unwrap();
    flow.attach(2, COMPLETE).unwrap();
    assert_eq!(written(&mut flow), [Out::Stopped(CODE)]);
    flow.handle_ended(2, End::Reset(7)).unwrap();
    assert_eq!(
        (flow.ended(), written(&mut flow)),
        (Some(End::Reset(7)), vec![Out::Acknowledged(COMPLETE)])
    );
    assert!(flow.is_settled());
}

#[test]
fn a_detached_flow_is_given_up_in_time_and_not_before() {
    let mut flow = Flow::new();
    let start = Moment::from_micros(5);
    assert_eq!(flow.poll_timeout(), None);
    flow.detach(0, start);
    let at = start + RESUME_WITHIN;
    assert_eq!(flow.poll_timeout(), Some(at));
    assert!(!flow.handle_timeout(start));
    assert!(flow.handle_timeout(at));
    assert_eq!(flow.poll_timeout(), None);
    assert_eq!(flow.attach(1, 0), Err(Refused::Late));
}

const ACME: OrganizationId = OrganizationId::from_u128(1);
const OTHER: OrganizationId = OrganizationId::from_u128(2);

#[test]
fn the_flows_without_a_connection_share_a_budget() {
    let mut budget = Budget::new(4, 200);
    assert!(budget.take(ACME, 60));
    assert!(!budget.take(ACME, 90), "bytes: there are 140 left, and it would have 150");
    assert!(budget.take(ACME, 40));
    assert!(!budget.take(ACME, 0), "flows: as many as are left");
    budget.give(ACME, 60);
    assert!(budget.take(ACME, 60));
    assert_eq!(budget.flows(), 2);
    assert!(Budget::new(1, 1).take(ACME, 1) && !Budget::new(0, 1).take(ACME, 0));
    let mut node = Budget::default();
    assert!((0..MAX_DETACHED_FLOWS / 2).all(|_| node.take(ACME, 0)));
    assert!(!node.take(ACME, 0));
    assert!(!Budget::default().take(ACME, MAX_DETACHED_BYTES + 1));
}

#[test]
fn an_organization_that_takes_all_it_can_leaves_places_to_the_others() {
    let mut shares = Shares::new(100);
    let most = |shares: &mut Shares, who| (0..200).filter(|_| shares.take(who, 1)).count();
    assert_eq!(most(&mut shares, ACME), 50);
    assert_eq!(most(&mut shares, OTHER), 25);
    shares.give(ACME, 30);
    assert_eq!((most(&mut shares, OTHER), shares.taken()), (15, 60));
    shares.give(OTHER, 1000);
    assert_eq!(shares.taken(), 20, "nothing is given back that was not taken");
    let mut crowd = Shares::new(MAX_DETACHED_FLOWS);
    for organization in (0..9).map(OrganizationId::from_u128) {
        assert!(most(&mut crowd, organization) > 0, "something is left for {organization}");
    }
}

#[test]
fn flows_that_keep_much_together_may_each_keep_less() {
    let most = 10 * MAX_REPLAY_BYTES;
    let (wide, narrow) = (window(most - 1, most), window(most, most));
    assert_eq!((wide, narrow), (MAX_REPLAY_BYTES, NARROW_WINDOW));
    let mut flow = Flow::new();
    flow.send(Bytes::from(vec![0; NARROW_WINDOW]));
    assert!(flow.has_room(wide) && !flow.has_room(narrow));
    let mut room = Vec::new();
    assert_eq!(flow.poll_out(NARROW_WINDOW, &mut room), Some(Out::Data));
    flow.handle_acknowledged(0, 1).unwrap();
    assert!(flow.has_room(narrow));
}
