//! The way of a message from whoever sends it to whoever hears it.

use std::time::Duration;

use crate::{
    kit::network::{Conditions, Party},
    message::Message,
    network::{Carriage, Party as Whom},
    turn::Sent,
};

use super::world::{Event, World};

impl World {
    pub(super) fn post(&mut self, from: Party, sent: Sent) {
        let Sent { to, message, carriage } = sent;
        let to: Vec<Party> = match (to, carriage) {
            (Whom::Node(index), _) => vec![Party::Node(index)],
            (Whom::Client, _) => vec![Party::Client],
            // Every replica hears the bus.
            (Whom::Control, Carriage::Bus) => {
                (0..self.replicas.len()).map(Party::Replica).collect()
            }
            (Whom::Control, Carriage::Connection) => vec![Party::Replica(self.ask_one(from))],
        };
        for to in to {
            self.carry(from, to, &message, carriage);
        }
    }

    /// One replica after the other, so that one that is cut off costs one try.
    fn ask_one(&mut self, from: Party) -> usize {
        let count = self.replicas.len();
        match from {
            Party::Node(index) => {
                let host = &mut self.hosts[index];
                host.next_replica = (host.next_replica + 1) % count;
                host.next_replica
            }
            _ => self.stage.any(count),
        }
    }

    fn carry(&mut self, from: Party, to: Party, message: &Message, carriage: Carriage) {
        let mut conditions = self.stage.mix.conditions;
        if carriage == Carriage::Connection {
            conditions = Conditions { duplication: 0, ..conditions };
        }
        if self.stage.failing
            && matches!(message, Message::Hello(_))
            && self.stage.chance.happens(self.stage.mix.slow_clients)
        {
            let (least, greatest) = (Duration::from_secs(1), Duration::from_secs(25));
            conditions = Conditions { latency: (least, greatest), slow: 0, ..conditions };
        }
        let event = match to {
            Party::Node(index) => Event::ToNode(index, message.clone()),
            Party::Replica(index) => Event::ToReplica(index, message.clone()),
            _ => Event::ToClient(message.clone()),
        };
        self.network.post(&mut self.stage, &conditions, (from, to), event);
    }
}
