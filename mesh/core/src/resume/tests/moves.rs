//! A flow that leaves a connection which still carries it.

use std::collections::BTreeMap;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// The asker goes on acknowledging while it waits for the answer.
    AcknowledgesMeanwhile,
    /// One byte more is told than was taken.
    TellsMore,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Send(usize),
    Deliver(usize, usize),
    Read(usize),
    Hurry(usize),
    /// A side has no time to write, or has it again.
    Busy(usize, bool),
    /// Side 0 asks for another connection.
    Ask,
    /// Side 1 hears it, answers, and attaches.
    Answer,
    /// Side 0 hears the answer.
    Arrive,
    /// Side 0 waits no longer: the old connection stays, or is lost as well.
    GiveUp,
    Lose,
}

/// Two ends, the connections between them by generation, and a move that is under way.
struct Road {
    sides: [Side; 2],
    busy: [bool; 2],
    wires: BTreeMap<u32, [VecDeque<Item>; 2]>,
    last: u32,
    asked: Option<u64>,
    answered: Option<u64>,
    moves: u32,
    mistake: Mistake,
}

impl Road {
    fn new(scripts: [&[Vec<u8>]; 2], ends: [End; 2], mistake: Mistake) -> Self {
        let [one, other] = scripts;
        let sides = [Side::new(one, ends[0]), Side::new(other, ends[1])];
        let (busy, asked, answered) = ([false; 2], None, None);
        Self { sides, busy, wires: BTreeMap::new(), last: 0, asked, answered, moves: 0, mistake }
    }

    fn act(&mut self, act: Act) -> Result<(), Refused> {
        match act {
            Act::Send(side) => {
                let side = &mut self.sides[side];
                match side.script.pop_front() {
                    Some(bytes) => side.flow.send(bytes),
                    None => side.flow.end(side.end),
                }
            }
            Act::Deliver(from, count) => self.deliver(from, count)?,
            Act::Read(side) => self.sides[side].read(),
            Act::Hurry(side) => self.sides[side].flow.acknowledge(),
            Act::Busy(side, busy) => self.busy[side] = busy,
            Act::Ask => self.ask()?,
            Act::Answer => self.answer()?,
            Act::Arrive => self.arrive()?,
            Act::GiveUp if self.answered.is_some() => self.lose()?,
            Act::GiveUp => {
                self.sides[0].flow.withdraw(self.last);
                self.asked = None;
            }
            Act::Lose => self.lose()?,
        }
        for at in [0, 1].into_iter().filter(|at| !self.busy[*at]) {
            self.sides[at].write();
            let said = std::mem::take(&mut self.sides[at].wire);
            let generation = self.sides[at].flow.generation();
            self.wires.entry(generation).or_default()[at].extend(said);
        }
        Ok(())
    }

    /// On the connection that the receiver is on: whatever else is on the way is lost.
    fn deliver(&mut self, from: usize, count: usize) -> Result<(), Refused> {
        let to = &mut self.sides[1 - from];
        let generation = to.flow.generation();
        let wire = &mut self.wires.entry(generation).or_default()[from];
        let count = count.min(wire.len());
        for item in wire.drain(..count) {
            to.hear(generation, item)?;
        }
        Ok(())
    }

    fn ask(&mut self) -> Result<(), Refused> {
        if self.asked.is_some() || self.answered.is_some() {
            return Ok(());
        }
        self.last += 1;
        self.asked = Some(self.sides[0].flow.offer(self.last)?);
        if self.mistake == Mistake::AcknowledgesMeanwhile {
            self.sides[0].flow.withdraw(self.last);
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<(), Refused> {
        let Some(asked) = self.asked.take() else { return Ok(()) };
        let more = u64::from(self.mistake == Mistake::TellsMore && asked != COMPLETE);
        self.answered = Some(self.sides[1].flow.offer(self.last)?);
        self.sides[1].flow.attach(self.last, asked + more)
    }

    fn arrive(&mut self) -> Result<(), Refused> {
        let Some(answered) = self.answered.take() else { return Ok(()) };
        self.moves += 1;
        self.sides[0].flow.attach(self.last, answered)
    }

    fn lose(&mut self) -> Result<(), Refused> {
        (self.asked, self.answered) = (None, None);
        for side in &mut self.sides {
            side.flow.withdraw(self.last);
            side.flow.detach(side.flow.generation(), Moment::default());
        }
        self.last += 1;
        let received = [0, 1].map(|side: usize| self.sides[side].flow.received());
        self.sides[0].flow.attach(self.last, received[1])?;
        self.sides[1].flow.attach(self.last, received[0])
    }

    fn settle(&mut self) -> Result<(), Refused> {
        self.busy = [false; 2];
        self.act(Act::Answer)?;
        self.act(Act::Arrive)?;
        for _ in 0..200 {
            for side in [0, 1] {
                self.act(Act::Send(side))?;
                self.act(Act::Deliver(side, 16))?;
                self.act(Act::Read(1 - side))?;
                self.act(Act::Hurry(1 - side))?;
            }
        }
        Ok(())
    }
}

/// Runs the acts and the rest, and says how often the flow moved.
fn travel(
    scripts: [&[Vec<u8>]; 2],
    ends: [End; 2],
    acts: &[Act],
    mistake: Mistake,
) -> Result<u32, String> {
    let mut road = Road::new(scripts, ends, mistake);
    for act in acts {
        road.act(*act).map_err(|refused| format!("{act:?}: {refused:?}"))?;
    }
    road.settle().map_err(|refused| format!("at the end: {refused:?}"))?;
    for from in [0, 1] {
        let (sent, to) = (scripts[from].concat(), &road.sides[1 - from]);
        let whole = to.taken == sent;
        let part = matches!(ends[from], End::Reset(_)) && sent.starts_with(&to.taken);
        if to.heard != Some(ends[from]) || !(whole || part) {
            return Err(format!("{} sent, {} came, {:?}", sent.len(), to.taken.len(), to.heard));
        }
        let flow = &road.sides[from].flow;
        if !flow.is_settled() || flow.kept() != 0 {
            return Err(format!("{from} still keeps {} bytes", flow.kept()));
        }
    }
    Ok(road.moves)
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..2_usize).prop_map(Act::Send),
        4 => (0..2_usize, 1..6_usize).prop_map(|(from, count)| Act::Deliver(from, count)),
        3 => (0..2_usize).prop_map(Act::Read),
        2 => (0..2_usize).prop_map(Act::Hurry),
        2 => (0..2_usize, any::<bool>()).prop_map(|(side, busy)| Act::Busy(side, busy)),
        2 => Just(Act::Ask),
        2 => Just(Act::Answer),
        2 => Just(Act::Arrive),
        1 => Just(Act::GiveUp),
        1 => Just(Act::Lose),
    ]
}

proptest! {
    #[test]
    fn however_it_moves_the_same_bytes_come_once_and_in_order(
        one in any_script(),
        other in any_script(),
        ends in (any_end(), any_end()),
        acts in prop::collection::vec(any_act(), 0..160),
    ) {
        let outcome = travel([&one, &other], [ends.0, ends.1], &acts, Mistake::None);
        prop_assert!(outcome.is_ok(), "{:?}", outcome);
    }
}

/// Moves again and again, with both directions under way at every asking.
fn busy() -> (Vec<Vec<u8>>, Vec<Act>) {
    let script = (0..8_u8).map(|n| vec![n; 60]).collect();
    let mut acts = Vec::new();
    for _ in 0..5 {
        acts.extend([Act::Send(0), Act::Send(1), Act::Ask, Act::Deliver(1, 4), Act::Read(0)]);
        acts.extend([Act::Hurry(0), Act::Send(0), Act::Send(1), Act::Deliver(0, 2), Act::Read(1)]);
        acts.extend([Act::Answer, Act::Deliver(1, 3), Act::Send(1), Act::Arrive]);
        acts.extend([Act::Deliver(0, 3), Act::Deliver(1, 3)]);
    }
    (script, acts)
}

#[test]
fn a_busy_flow_moves_and_planted_mistakes_are_found() {
    let (script, acts) = busy();
    let ends = [End::Finished, End::Finished];
    assert_eq!(travel([&script, &script], ends, &acts, Mistake::None), Ok(5));
    // What is acknowledged while the answer is on its way has to be heard before it is given.
    let mut heard = acts;
    heard.splice(6..6, [Act::Deliver(0, 9)]);
    let unheard = [Act::Send(1), Act::Deliver(1, 9), Act::Read(0), Act::Ask, Act::Send(1)];
    let unheard = [&unheard[..], &[Act::Answer, Act::Arrive]].concat();
    for (mistake, acts) in
        [(Mistake::AcknowledgesMeanwhile, heard), (Mistake::TellsMore, unheard.clone())]
    {
        let outcome = travel([&script, &script], ends, &acts, mistake);
        assert!(outcome.is_err(), "{mistake:?} stays unnoticed");
    }
    assert_eq!(travel([&script, &script], ends, &unheard, Mistake::None), Ok(1));
}

#[test]
fn an_end_that_comes_while_a_flow_moves_is_acknowledged_when_it_was_said_again() {
    let mut flow = Flow::new();
    flow.handle_data(0, Bytes::from_static(b"ab")).unwrap();
    assert_eq!(flow.take().unwrap(), "ab");
    assert_eq!(flow.offer(1), Ok(2));
    flow.handle_data(0, Bytes::from_static(b"c")).unwrap();
    flow.handle_ended(0, End::Finished).unwrap();
    assert_eq!(flow.take().unwrap(), "c");
    assert_eq!((flow.ended(), flow.has_news()), (Some(End::Finished), false));
    assert_eq!(written(&mut flow), []);
    flow.attach(1, 0).unwrap();
    assert_eq!((written(&mut flow), flow.has_news()), (vec![Out::From(0)], false));
    flow.handle_from(1, 2).unwrap();
    flow.handle_data(1, Bytes::from_static(b"c")).unwrap();
    assert_eq!(flow.take(), None);
    flow.handle_ended(1, End::Finished).unwrap();
    assert_eq!(written(&mut flow), [Out::Acknowledged(COMPLETE)]);
}

#[test]
fn a_flow_whose_offer_is_withdrawn_acknowledges_what_it_held_back() {
    let mut flow = Flow::new();
    assert_eq!(flow.offer(1), Ok(0));
    flow.handle_data(0, Bytes::from_static(b"ab")).unwrap();
    flow.take().unwrap();
    flow.acknowledge();
    assert!(!flow.owes_acknowledgement() && written(&mut flow).is_empty());
    assert!(flow.withdraw(1));
    assert_eq!(written(&mut flow), [Out::Acknowledged(2)]);
}

#[test]
fn an_offer_counts_for_its_own_generation_alone() {
    let mut flow = Flow::new();
    flow.handle_data(0, Bytes::from_static(b"ab")).unwrap();
    flow.take().unwrap();
    assert_eq!(flow.offer(1), Ok(2));
    flow.handle_data(0, Bytes::from_static(b"c")).unwrap();
    flow.take().unwrap();
    assert_eq!(flow.offer(1), Err(Refused::Late), "it was asked for already");
    assert_eq!(flow.offer(2), Ok(3));
    assert!(!flow.withdraw(1), "the newer one is still waited for");
    flow.acknowledge();
    assert_eq!(written(&mut flow), []);
    assert_eq!(flow.attach(1, 0), Err(Refused::Late), "it was told of another place");
    flow.attach(2, 0).unwrap();
    assert_eq!((written(&mut flow), flow.owes_acknowledgement()), (vec![Out::From(0)], false));
    assert_eq!(flow.offer(2), Err(Refused::Late));
    assert_eq!(flow.offer(4), Ok(3));
    assert!(flow.withdraw(4));
    assert_eq!(flow.offer(3), Err(Refused::Late));
    assert_eq!(flow.attach(3, 0), Err(Refused::Late), "a newer one was asked for");
    assert_eq!(flow.attach(4, 0), Ok(()));
}

#[test]
fn an_attachment_that_was_asked_for_without_an_offer_makes_an_older_offer_count_for_nothing() {
    let mut flow = Flow::new();
    flow.handle_data(0, Bytes::from_static(b"ab")).unwrap();
    flow.take().unwrap();
    assert_eq!(flow.offer(1), Ok(2));
    flow.detach(0, Moment::default());
    flow.attach(2, 0).unwrap();
    assert!(!flow.is_offered() && !flow.withdraw(1));
    flow.handle_from(2, 2).unwrap();
    flow.handle_data(2, Bytes::from_static(b"c")).unwrap();
    flow.take().unwrap();
    flow.acknowledge();
    assert_eq!(written(&mut flow), [Out::From(0), Out::Acknowledged(3)]);
}
