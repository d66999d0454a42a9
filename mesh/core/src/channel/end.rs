//! One end of a channel of messages: what is sent and what comes, and the bytes between.

use bytes::{BufMut as _, Bytes, BytesMut};
use rap_proto::Moment;

use super::{
    Amount, Counters, Decoder, Delivery, Frame, Malformed, Message, Policy, Queue, Refused,
    TooMuch, VERSION, Window, credit::Credit, inbox::Inbox,
};

/// Frames are put together until they are as many bytes as this: fewer and larger writes, and
/// little that has left the queue without having left the host.
pub const BATCH_BYTES: usize = 16 * 1024;

/// Why a message is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotTaken {
    /// There is no room on a reliable channel: to be brought again when bytes were polled.
    Full(Message),
    /// No channel of this kind takes one so large.
    TooLarge,
    /// This end said that it is done.
    Finished,
}

/// Why nothing that the other end says counts any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("more came than was granted")]
    TooMuch,
    #[error("message {came} came when {expected} was next")]
    OutOfOrder { expected: u64, came: u64 },
    /// Its bytes are over before it said that it is done.
    #[error("the channel ended before its messages did")]
    CutShort,
}

/// What became of the messages that came. What came and is in neither of the others waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrived {
    pub came: u64,
    pub handed_out: u64,
    /// Of a droppable channel: came after a newer one, gave way to one, or waited too long.
    pub put_aside: u64,
}

/// One end of a channel, over a byte stream that loses and reorders nothing. Feed it the bytes
/// that come, write those that it makes:
///
/// ```text
/// push ─▶ Queue ─ within the other end's credit ─▶ poll_bytes
/// poll_message ◀─ inbox ◀─ Window ◀──────────── handle_bytes
/// ```
///
/// Of a droppable channel little is ahead of its reader: what cannot be sent waits in the queue,
/// where it gets stale or gives way to what is newer.
#[derive(Debug)]
pub struct End {
    queue: Queue,
    /// Of a droppable channel; a reliable one's queue has its own.
    credit: Option<Credit>,
    decoder: Decoder,
    window: Window,
    inbox: Inbox,
    begun: bool,
    sent: u64,
    ours: Saying,
    theirs_finished: bool,
    arrived: Arrived,
}

/// How far this end is with its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saying {
    Open,
    /// Nothing more is taken in; what waits is sent.
    Closing,
    Finished,
}

impl End {
    pub fn new(policy: &Policy) -> Self {
        let droppable = policy.delivery == Delivery::Droppable;
        Self {
            queue: Queue::new(policy),
            credit: droppable.then(Credit::default),
            decoder: Decoder::new(policy),
            window: Window::new(policy),
            inbox: Inbox::new(policy),
            begun: false,
            sent: 0,
            ours: Saying::Open,
            theirs_finished: false,
            arrived: Arrived::default(),
        }
    }

    /// Takes a message in, to be sent.
    pub fn push(&mut self, now: Moment, message: Message) -> Result<(), NotTaken> {
        if !self.is_open() {
            return Err(NotTaken::Finished);
        }
        self.queue.push(now, message).map_err(|refused| match refused {
            Refused::Full(message) => NotTaken::Full(message),
            Refused::TooLarge => NotTaken::TooLarge,
        })
    }

    /// No more messages are sent once those that wait are.
    pub fn finish(&mut self) {
        if self.is_open() {
            self.ours = Saying::Closing;
        }
    }

    /// The other end's next bytes came.
    pub fn handle_bytes(&mut self, now: Moment, bytes: &[u8]) -> Result<(), Broken> {
        self.decoder.handle_bytes(bytes);
        while let Some(frame) = self.decoder.poll_frame()? {
            match frame {
                Frame::Message { number, message } => self.came(now, number, message)?,
                Frame::Grant(granted) => self.granted(granted),
                Frame::Finished => self.theirs_finished = true,
            }
        }
        Ok(())
    }

    /// No more bytes of the other end will come.
    pub fn handle_end(&self) -> Result<(), Broken> {
        let whole = self.theirs_finished && self.decoder.waiting() == 0;
        if whole { Ok(()) } else { Err(Broken::CutShort) }
    }

    pub fn handle_timeout(&mut self, now: Moment) {
        self.queue.handle_timeout(now);
    }

    /// What is to be written next: to be asked for when everything before was written.
    pub fn poll_bytes(&mut self, now: Moment) -> Option<Bytes> {
        let mut bytes = BytesMut::new();
        while bytes.len() < BATCH_BYTES
            && let Some(frame) = self.next_frame(now)
        {
            if !self.begun {
                self.begun = true;
                bytes.put_u8(VERSION);
            }
            frame.encode(&mut bytes);
        }
        (!bytes.is_empty()).then(|| bytes.freeze())
    }

    /// The next message for whoever reads.
    pub fn poll_message(&mut self, now: Moment) -> Option<Message> {
        let message = self.inbox.poll(now);
        self.window.leave(self.inbox.waiting());
        self.arrived.handed_out += u64::from(message.is_some());
        message
    }

    /// When time alone changes something. `None` when it does not.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.queue.poll_timeout()
    }

    /// Whether the other end has said everything, and it was read.
    pub fn is_read(&self) -> bool {
        self.theirs_finished && self.inbox.waiting().messages == 0
    }

    /// Whether the other end has said everything, read or not.
    pub const fn has_all(&self) -> bool {
        self.theirs_finished
    }

    /// Whether this end takes messages in.
    pub const fn is_open(&self) -> bool {
        matches!(self.ours, Saying::Open)
    }

    /// Whether this end has said everything.
    pub const fn is_sent(&self) -> bool {
        matches!(self.ours, Saying::Finished)
    }

    /// What became of the messages that were pushed.
    pub fn counters(&self) -> Counters {
        self.queue.counters()
    }

    pub fn arrived(&self) -> Arrived {
        let waiting = self.inbox.waiting().messages as u64;
        let put_aside = self.arrived.came - self.arrived.handed_out - waiting;
        Arrived { put_aside, ..self.arrived }
    }

    /// A grant first: nothing that is sent here may keep the other end from sending.
    fn next_frame(&mut self, now: Moment) -> Option<Frame> {
        if !self.theirs_finished
            && let Some(granted) = self.window.poll_grant()
        {
            return Some(Frame::Grant(granted));
        }
        if let Some(message) = self.next_message(now) {
            self.sent += 1;
            return Some(Frame::Message { number: self.sent, message });
        }
        (self.ours == Saying::Closing && self.queue.is_empty()).then(|| {
            self.ours = Saying::Finished;
            Frame::Finished
        })
    }

    fn next_message(&mut self, now: Moment) -> Option<Message> {
        if self.credit.as_ref().is_some_and(|credit| !credit.is_left()) {
            return None;
        }
        let message = self.queue.poll(now)?;
        if let Some(credit) = &mut self.credit {
            credit.overspend(message.bytes.len());
        }
        Some(message)
    }

    fn came(&mut self, now: Moment, number: u64, message: Message) -> Result<(), Broken> {
        let expected = self.arrived.came + 1;
        // Of a droppable channel the inbox sorts out what comes late.
        if self.credit.is_none() && number != expected {
            return Err(Broken::OutOfOrder { expected, came: number });
        }
        let fits = self.window.handle_message(message.bytes.len());
        fits.map_err(|TooMuch| Broken::TooMuch)?;
        self.arrived.came = expected;
        self.inbox.put(now, number, message);
        Ok(())
    }

    fn granted(&mut self, granted: Amount) {
        match &mut self.credit {
            Some(credit) => credit.grant(granted),
            None => self.queue.grant(granted),
        }
    }
}
