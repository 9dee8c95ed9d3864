//! A request over TCP with its answer, of any number of segments each.
//!
//! It begins with the request's first byte and ends when the last byte of the answer has been read. The segment of the
//! request that is read last, and that of the answer, give their paths to it; what passes before them, while the segments
//! before them are on their way, is a wait of its own. So all parts follow each other without gap or overlap.
//!
//! The call that reads the end of an answer can send an acknowledgement before it returns to the program. Then the CPU does
//! for it whatever the network's virtual devices do with it, and the client waits for that too.
//!
//! The first request of a connection begins with the connection's SYN; the client waits until its machine has sent the
//! handshake's last acknowledgement. What passes between that and the first byte is the client's own time and belongs to no
//! request.

use overlay_trace_common::{
    flags::RecordFlags,
    record::{Outcome, RecordHeader},
};

use super::{
    sample::{RowSpan, Sample},
    tcp_waits::{AT_ONCE_NS, Acknowledgement, SenderWaits, Waited},
};
use crate::breakdown::{Between, Rows};

/// A segment that its receiver has, or that has left the machine.
struct Part {
    start_ns: u64,
    end_ns: u64,
    path: Box<[RowSpan]>,
    retransmission_ns: u64,
    /// It was delivered on this machine, and the CPU on which it was read.
    is_here: bool,
    cpu: u16,
}

impl Part {
    fn of(sample: &Sample<'_>) -> Part {
        Part {
            start_ns: sample.start_ns,
            end_ns: sample.start_ns.saturating_add(sample.ns),
            path: sample.path.into(),
            retransmission_ns: sample.retransmission_ns,
            is_here: sample.header.outcome == Outcome::Delivered as u8,
            cpu: sample.header.cpu,
        }
    }

    /// Whether its reader sends this acknowledgement in the call that has read it.
    fn is_acknowledged_by(&self, sample: &Sample<'_>) -> bool {
        let at_once = self.end_ns..=self.end_ns.saturating_add(AT_ONCE_NS);
        self.is_here && self.cpu == sample.header.cpu && at_once.contains(&sample.start_ns)
    }

    /// The row in which it ended; `None` without a path.
    fn last_row(&self) -> Option<u32> {
        self.path.last().map(|span| span.row)
    }
}

/// All segments of one direction so far.
struct Message {
    header: RecordHeader,
    /// When its first byte was sent, in ns.
    start_ns: u64,
    /// The segment whose path ended last.
    last: Part,
    /// The sequence number of the segment that was sent last.
    newest: u32,
    sender: SenderWaits,
    /// Until when the call that read the last segment was sending an acknowledgement, in ns; 0 if it sent none.
    acknowledged_ns: u64,
}

impl Message {
    fn of(sample: &Sample<'_>) -> Message {
        let mut message = Message {
            header: *sample.header,
            start_ns: sample.start_ns,
            last: Part::of(sample),
            newest: sample.header.flow.sequence,
            sender: SenderWaits::default(),
            acknowledged_ns: 0,
        };
        message.sender.send(sample.start_ns, message.last.end_ns);
        message
    }

    /// Adds a segment, unless it is the newest one again: TCP sends that as a tail loss probe although it has arrived.
    fn add(&mut self, sample: &Sample<'_>) {
        let sequence = sample.header.flow.sequence;
        if sequence == self.newest {
            return;
        }
        self.newest = sequence;
        if sample.start_ns < self.start_ns {
            (self.start_ns, self.header) = (sample.start_ns, *sample.header);
        }
        let end_ns = sample.start_ns.saturating_add(sample.ns);
        self.sender.send(sample.start_ns, end_ns);
        if end_ns >= self.last.end_ns {
            self.last = Part::of(sample);
            self.acknowledged_ns = 0;
        }
    }

    /// Appends the time from `from_ns` until the last segment was sent: what the sender waited for, and the rest.
    fn append_transfer(&self, path: &mut Vec<RowSpan>, rows: &mut Rows, from_ns: u64, what: Between) {
        let row = self.last.path.first().map(|span| span.row);
        let mut left_ns = self.last.start_ns.saturating_sub(from_ns);
        let Waited { delayed_ack_ns, zero_window_ns, window_ns } = self.sender.waited;
        let waits = [
            (Between::DelayedAck, delayed_ack_ns),
            (Between::ZeroWindow, zero_window_ns),
            (Between::Window, window_ns),
        ];
        for (what, ns) in waits {
            let ns = ns.min(left_ns);
            left_ns -= ns;
            wait(path, rows, what, row, ns);
        }
        wait(path, rows, what, row, left_ns);
    }
}

/// A connection that is being made.
#[derive(Default)]
struct Handshake {
    /// When the first SYN was sent, in ns.
    start_ns: u64,
    /// When the latest answer to it had arrived; 0 if none has.
    end_ns: u64,
    /// Until when the client's machine was sending its acknowledgement of that, in ns; 0 if none was seen.
    acknowledged_ns: u64,
    /// Where the last attempt was dropped, or else where the SYN arrived.
    row: Option<u32>,
    is_dropped: bool,
}

impl Handshake {
    /// Whether this is the client's acknowledgement of the answer to its SYN.
    fn is_acknowledged_by(&self, acknowledgement: &Acknowledgement) -> bool {
        let at_once = self.end_ns..=self.end_ns.saturating_add(AT_ONCE_NS);
        self.end_ns > 0 && at_once.contains(&acknowledgement.start_ns)
    }
}

/// What a client and its server are exchanging.
#[derive(Default)]
pub(super) struct Exchange {
    /// The sequence number of the SYN that has opened the connection.
    opened_by: Option<u32>,
    handshake: Option<Handshake>,
    request: Option<Message>,
    answer: Option<Message>,
    /// The newest segment of the request before this one.
    before: Option<u32>,
    /// When a segment of the answer was sent that was dropped, in ns.
    lost_ns: Option<u64>,
}

impl Exchange {
    /// The client sends a SYN, or the server answers one; `is_dropped` if that is lost.
    pub fn shake_hands(&mut self, sample: &Sample<'_>, is_answer: bool, is_dropped: bool) {
        let (start_ns, sequence) = (sample.start_ns, sample.header.flow.sequence);
        if !is_answer && self.is_another(sequence) {
            let handshake = Handshake { start_ns, ..Handshake::default() };
            *self = Exchange { opened_by: Some(sequence), handshake: Some(handshake), ..Exchange::default() };
        }
        let Some(handshake) = &mut self.handshake else { return };
        handshake.start_ns = handshake.start_ns.min(start_ns);
        if is_dropped || !is_answer && !handshake.is_dropped {
            handshake.row = sample.path.last().map(|span| span.row);
            handshake.is_dropped |= is_dropped;
        }
        if is_answer && !is_dropped {
            handshake.end_ns = handshake.end_ns.max(start_ns.saturating_add(sample.ns));
        }
    }

    /// Whether a SYN with this number opens another connection than the one that is known.
    pub fn is_another(&self, sequence: u32) -> bool {
        self.opened_by != Some(sequence)
    }

    /// The next one of the same connection.
    pub fn next(&self) -> Exchange {
        let before = self.request.as_ref().map(|request| request.newest).or(self.before);
        Exchange { opened_by: self.opened_by, before, ..Exchange::default() }
    }

    /// Whether this is the newest segment of a request again, that of the one before if this one has not begun.
    fn is_again(&self, sequence: u32) -> bool {
        self.request.as_ref().map(|request| request.newest).or(self.before) == Some(sequence)
    }

    /// Whether this segment of the client's is the beginning of another request.
    pub fn is_over(&self, sample: &Sample<'_>) -> bool {
        let start_ns = sample.start_ns;
        let answered_ns = self.answer.as_ref().map(|answer| answer.start_ns).or(self.lost_ns);
        answered_ns.is_some_and(|answered_ns| start_ns >= answered_ns)
            && !self.is_again(sample.header.flow.sequence)
    }

    /// A segment of the answer was dropped. If the client sends again without having got one, it was not sent again.
    pub fn lose_answer(&mut self, start_ns: u64) {
        if self.request.is_some() {
            self.lost_ns.get_or_insert(start_ns);
        }
    }

    /// By when it began, and its packet's number.
    pub fn order(&self) -> (u64, u64) {
        self.request.as_ref().map_or((0, 0), |request| (request.start_ns, request.header.id))
    }

    /// Whether there is a request without any of its answer.
    pub fn is_open(&self) -> bool {
        self.request.is_some() && self.answer.is_none()
    }

    /// Takes an acknowledgement without data, of the server's or of the client's.
    pub fn acknowledge(&mut self, sample: &Sample<'_>, is_of_server: bool) {
        let acknowledgement = Acknowledgement {
            start_ns: sample.start_ns,
            end_ns: sample.start_ns.saturating_add(sample.ns),
            is_zero_window: sample.header.flags.has(RecordFlags::ZERO_WINDOW),
        };
        if !is_of_server
            && self.request.is_none()
            && let Some(handshake) = &mut self.handshake
            && handshake.is_acknowledged_by(&acknowledgement)
        {
            handshake.acknowledged_ns = acknowledgement.end_ns;
        }
        let message = if is_of_server { &mut self.request } else { &mut self.answer };
        if let Some(message) = message {
            message.sender.acknowledge(acknowledgement);
            if message.last.is_acknowledged_by(sample) {
                message.acknowledged_ns = acknowledgement.end_ns;
            }
        }
    }

    /// Whether the sender of the request, or of the answer, sent something at this time because of an acknowledgement.
    pub fn is_acknowledged(&self, at_ns: u64, is_request: bool) -> bool {
        let message = if is_request { &self.request } else { &self.answer };
        message.as_ref().is_some_and(|message| message.sender.is_acknowledged(at_ns))
    }

    /// Takes a segment of the request.
    pub fn ask(&mut self, sample: &Sample<'_>) {
        let is_again = self.is_again(sample.header.flow.sequence);
        match &mut self.request {
            Some(request) => request.add(sample),
            None if is_again => {}
            None => self.request = Some(Message::of(sample)),
        }
    }

    /// Takes a segment of the answer; without a request it is none.
    pub fn answer(&mut self, sample: &Sample<'_>) {
        match &mut self.answer {
            Some(answer) => answer.add(sample),
            None if self.request.is_some() => self.answer = Some(Message::of(sample)),
            None => {}
        }
    }

    /// Calls `each` with the request and its answer, if there are both.
    pub fn finish(&self, rows: &mut Rows, path: &mut Vec<RowSpan>, each: &mut impl FnMut(&Sample<'_>)) {
        let (Some(request), Some(answer)) = (&self.request, &self.answer) else { return };
        path.clear();
        let first_ns = request.start_ns;
        let mut start_ns = first_ns;
        if let Some(Handshake { start_ns: syn_ns, end_ns, acknowledged_ns, row: Some(row), .. }) =
            self.handshake
            && (syn_ns..=first_ns).contains(&end_ns)
        {
            start_ns = syn_ns;
            let end_ns = acknowledged_ns.clamp(end_ns, first_ns);
            wait(path, rows, Between::Connection, Some(row), end_ns - syn_ns);
        }
        let (asked, answered) = (&request.last, &answer.last);
        request.append_transfer(path, rows, first_ns, Between::RequestTransfer);
        path.extend(&*asked.path);
        let what = if asked.is_here { Between::Answer } else { Between::Return };
        let begins_ns = answer.start_ns.clamp(asked.end_ns, answered.start_ns.max(asked.end_ns));
        wait(path, rows, what, asked.last_row(), begins_ns - asked.end_ns);
        answer.append_transfer(path, rows, begins_ns, Between::AnswerTransfer);
        append_from(path, answered, asked.end_ns);
        let acknowledging_ns = answer.acknowledged_ns.saturating_sub(answered.end_ns);
        wait(path, rows, Between::Acknowledgement, answered.last_row(), acknowledging_ns);
        let ns = path.iter().fold(0, |sum: u64, span| sum.saturating_add(span.ns));
        let retransmission_ns = asked.retransmission_ns.saturating_add(answered.retransmission_ns);
        each(&Sample { header: &request.header, start_ns, path, ns, deciding_ns: ns, retransmission_ns });
    }
}

/// Appends a time between two packets at the place of a row.
fn wait(path: &mut Vec<RowSpan>, rows: &mut Rows, what: Between, row: Option<u32>, ns: u64) {
    let is_shown = ns > 0 || matches!(what, Between::Answer | Between::Return);
    if let Some(row) = row
        && is_shown
    {
        path.push(RowSpan { row: rows.between(what, row), cpu: None, ns });
    }
}

/// Appends what of a segment's path is after a time.
fn append_from(path: &mut Vec<RowSpan>, part: &Part, from_ns: u64) {
    let mut before_ns = from_ns.saturating_sub(part.start_ns);
    for span in &*part.path {
        let cut = span.ns.min(before_ns);
        before_ns -= cut;
        if cut < span.ns || cut == 0 {
            path.push(RowSpan { ns: span.ns - cut, ..*span });
        }
    }
}
