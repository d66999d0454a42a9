//! Where messages that came wait for whoever reads.

use std::collections::VecDeque;

use rap_proto::Moment;

use super::{Arrivals, Bound, Delivery, Message, Policy, Queue};

/// What a window admitted, and what was not read yet. A droppable channel's messages wait as they do
/// where they are sent: a newer one takes an older one's place, and what is stale when somebody
/// looks is dropped. They are not held back a second time: the pace is the sender's.
#[derive(Debug)]
pub(super) enum Inbox {
    Reliable { messages: VecDeque<Message>, bytes: usize },
    Droppable { queue: Box<Queue>, arrivals: Arrivals },
}

impl Inbox {
    pub(super) fn new(policy: &Policy) -> Self {
        match policy.delivery {
            Delivery::Reliable => Self::Reliable { messages: VecDeque::new(), bytes: 0 },
            Delivery::Droppable => Self::Droppable {
                queue: Box::new(Queue::new(&Policy { every: None, ..*policy })),
                arrivals: Arrivals::new(policy),
            },
        }
    }

    pub(super) fn put(&mut self, now: Moment, number: u64, message: Message) {
        match self {
            Self::Reliable { messages, bytes } => {
                *bytes += message.bytes.len();
                messages.push_back(message);
            }
            Self::Droppable { queue, arrivals } => {
                if arrivals.handle_message(number, message.key) {
                    let taken = queue.push(now, message);
                    debug_assert!(taken.is_ok(), "the window lets nothing larger pass");
                }
            }
        }
    }

    pub(super) fn poll(&mut self, now: Moment) -> Option<Message> {
        match self {
            Self::Reliable { messages, bytes } => {
                let message = messages.pop_front()?;
                *bytes -= message.bytes.len();
                Some(message)
            }
            Self::Droppable { queue, .. } => queue.poll(now),
        }
    }

    pub(super) fn waiting(&self) -> Bound {
        match self {
            Self::Reliable { messages, bytes } => Bound { messages: messages.len(), bytes: *bytes },
            Self::Droppable { queue, .. } => Bound { messages: queue.len(), bytes: queue.bytes() },
        }
    }
}
