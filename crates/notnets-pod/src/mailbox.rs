//! Mailboxes: from the agent of one host to that of another, packets of up to [`MAX_MAIL`] bytes.
//!
//! A mailbox is a ring of records. Its seal is made of the incarnations of both hosts, so a host that comes
//! back begins at the first slot, without having to clear anything. Both ends find their place again after a
//! restart of their agent: the reader has published how far it was, and the writer finds the slots that it
//! has written.

use std::collections::VecDeque;

use notnets_memory::record;
use notnets_memory::seal::Seal;
use notnets_memory::{LINE_WORDS, ReadMemory, WORD, WriteMemory};

/// Bytes of a packet, at most. The smallest mailbox holds one, and all but one slot of another that was
/// broken off by a restart.
pub const MAX_MAIL: usize = 1280;
/// Bytes before a message between processes: the mail's kind, to whom, from whom.
pub const MAIL_HEADER: usize = 1 + 6 + 6;
/// Packets that wait for room, at most: a live host reads its mail.
const MAX_WAITING: usize = 1024;

/// The fields of a slot: a word that numbers the part, and data.
const FIELDS: usize = LINE_WORDS - 1;
const DATA: usize = (FIELDS - 1) * WORD;

/// No mailbox has held more slots: half of the numbers are left to count on.
const MAX_COUNT: u64 = u64::MAX / 2;

const _: () = assert!(MAX_MAIL.div_ceil(DATA) * 2 <= 64);

/// The writer's end.
#[derive(Debug)]
pub struct MailWriter {
    seal: Seal,
    pushed: u64,
    taken: u64,
    slots: u64,
    waiting: VecDeque<Vec<u8>>,
}

/// The mailbox is full, and so is what waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mailbox to that host is full: its agent does not read")]
pub struct MailboxFull;

impl MailWriter {
    /// The writer's end of a mailbox in `slots`, of the reader's word in `taken`. Goes on where it was.
    pub fn open(slots: &impl ReadMemory, taken: &impl ReadMemory, seal: Seal) -> Self {
        let mut writer = Self {
            seal,
            pushed: 0,
            taken: 0,
            slots: (slots.words() / LINE_WORDS) as u64,
            waiting: VecDeque::new(),
        };
        // The value that this side saw last suffices: nothing written since then has overwritten anything.
        writer.believe(last_taken(taken, writer.slots, seal));
        writer.pushed = writer.taken;
        while has_slot(slots, writer.slots, seal, writer.pushed + 1) {
            writer.pushed += 1;
        }
        writer
    }

    /// Puts a packet into the mailbox, now or once there is room.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn send(&mut self, mail: Vec<u8>) -> Result<(), MailboxFull> {
        assert!(mail.len() <= MAX_MAIL);
        if self.waiting.len() >= MAX_WAITING {
            return Err(MailboxFull);
        }
        self.waiting.push_back(mail);
        Ok(())
    }

    /// Returns `true` if something waits for room.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes what there is room for.
    #[track_caller]
    pub fn flush(&mut self, slots: &impl WriteMemory, taken: &impl ReadMemory) {
        while let Some(mail) = self.waiting.front() {
            let parts = mail.len().div_ceil(DATA).max(1) as u64;
            if self.pushed - self.taken + parts > self.slots {
                self.look(taken);
            }
            if self.pushed - self.taken + parts > self.slots {
                return;
            }
            let Some(mail) = self.waiting.pop_front() else { return };
            for part in 0..parts {
                let from = part as usize * DATA;
                let data = &mail[from..mail.len().min(from + DATA)];
                self.pushed += 1;
                let slot = slot_of(self.pushed, self.slots);
                let fields = part_fields(part, mail.len(), data);
                record::publish(slots, slot, self.seal.at(self.pushed), fields);
            }
        }
    }

    #[track_caller]
    fn look(&mut self, taken: &impl ReadMemory) {
        let said: Option<[u64; FIELDS]> = record::observe(taken, 0, self.seal);
        self.believe(said.map(|[said, ..]| said));
    }

    fn believe(&mut self, said: Option<u64>) {
        let Some(said) = said.filter(|said| *said <= MAX_COUNT) else { return };
        // A count that the reader can't have reached is ignored.
        if said >= self.taken && (self.pushed == 0 || said <= self.pushed) {
            self.taken = said;
        }
    }
}

/// The reader's end.
#[derive(Debug)]
pub struct MailReader {
    seal: Seal,
    popped: u64,
    slots: u64,
    /// The packet that is being read: its length, and what has come.
    partial: Option<(usize, Vec<u8>)>,
}

impl MailReader {
    /// The reader's end of a mailbox in `slots`, with its own word in `taken`. Goes on where it was.
    pub fn open(slots: &impl ReadMemory, taken: &impl ReadMemory, seal: Seal) -> Self {
        let count = (slots.words() / LINE_WORDS) as u64;
        Self { seal, popped: last_taken(taken, count, seal).unwrap_or(0), slots: count, partial: None }
    }

    /// The next packet, if it is there. Looks at each slot once, for a writer could go on for ever.
    #[track_caller]
    pub fn receive(&mut self, slots: &impl ReadMemory, taken: &impl WriteMemory) -> Option<Vec<u8>> {
        for _ in 0..self.slots {
            let (part, len, data) = read_slot(slots, self.slots, self.seal, self.popped + 1)?;
            if part == 0 && self.partial.take().is_some() {
                // The writer's restart has cut that one short.
                self.publish(taken);
            }
            self.popped += 1;
            let whole = self.take(part, len, &data);
            // A packet is taken with its last part, so that a restart in between does not lose it.
            if whole.is_some() || self.partial.is_none() {
                self.publish(taken);
            }
            if whole.is_some() {
                return whole;
            }
        }
        None
    }

    #[track_caller]
    fn publish(&self, taken: &impl WriteMemory) {
        record::publish(taken, 0, self.seal, taken_fields(self.popped));
    }

    fn take(&mut self, part: u64, len: usize, data: &[u8]) -> Option<Vec<u8>> {
        if part == 0 {
            self.partial = Some((len, Vec::with_capacity(len)));
        }
        let (len, so_far) = self.partial.as_mut()?;
        let rest = *len - so_far.len();
        so_far.extend_from_slice(&data[..rest.min(DATA)]);
        if so_far.len() < *len {
            return None;
        }
        self.partial.take().map(|(_, mail)| mail)
    }
}

fn taken_fields(count: u64) -> [u64; FIELDS] {
    let mut fields = [0; FIELDS];
    fields[0] = count;
    fields
}

/// How far a reader was by its own word, without a look past the caches. A reader that is killed as it
/// publishes, or looked at then, leaves the new count and the checksum of the one before, which is as good:
/// less by no more than there are slots. `None` before the first packet.
fn last_taken(taken: &impl ReadMemory, slots: u64, seal: Seal) -> Option<u64> {
    let seen = record::Unchecked::<FIELDS>::read(taken, 0);
    let least = seen.fields[0].saturating_sub(slots);
    (least..=seen.fields[0]).rev().find(|count| seen.proves(seal, taken_fields(*count)))
}

fn slot_of(sequence: u64, slots: u64) -> usize {
    ((sequence - 1) % slots) as usize * LINE_WORDS
}

fn part_fields(part: u64, len: usize, data: &[u8]) -> [u64; FIELDS] {
    let mut fields = [0; FIELDS];
    fields[0] = part | (len as u64) << 32;
    for (word, chunk) in fields[1..].iter_mut().zip(data.chunks(WORD)) {
        let mut bytes = [0; WORD];
        bytes[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_le_bytes(bytes);
    }
    fields
}

/// Returns `true` if this side has written this sequence number, and nothing over it since.
fn has_slot(slots: &impl ReadMemory, count: u64, seal: Seal, sequence: u64) -> bool {
    record::read::<FIELDS>(slots, slot_of(sequence, count), seal.at(sequence)).is_some()
}

/// A slot's part, its packet's length and its data, if it is that of this sequence number.
#[track_caller]
fn read_slot(
    slots: &impl ReadMemory,
    count: u64,
    seal: Seal,
    sequence: u64,
) -> Option<(u64, usize, [u8; DATA])> {
    let fields: [u64; FIELDS] = record::observe(slots, slot_of(sequence, count), seal.at(sequence))?;
    let mut data = [0; DATA];
    for (bytes, word) in data.chunks_exact_mut(WORD).zip(&fields[1..]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let len = ((fields[0] >> 32) as usize).min(MAX_MAIL);
    Some((fields[0] & u64::from(u32::MAX), len, data))
}

#[cfg(test)]
mod tests {
    use notnets_memory::heap::Heap;

    use super::*;

    fn mail(n: usize) -> Vec<u8> {
        (0..n * 37 % MAX_MAIL).map(|i| (i + n) as u8).collect()
    }

    #[test]
    fn packets_arrive_in_order_also_after_restarts() {
        let (slots, taken, seal) = (Heap::new(64 * LINE_WORDS), Heap::new(LINE_WORDS), Seal::new([1]));
        let mut writer = MailWriter::open(&slots, &taken, seal);
        let mut reader = MailReader::open(&slots, &taken, seal);
        let mut next = 0;
        for n in 0..500 {
            writer.send(mail(n)).unwrap();
            writer.flush(&slots, &taken);
            if n % 3 == 0 {
                while let Some(got) = reader.receive(&slots, &taken) {
                    assert_eq!(got, mail(next));
                    next += 1;
                    writer.flush(&slots, &taken);
                }
            }
            if n % 7 == 0 {
                reader = MailReader::open(&slots, &taken, seal);
            }
            if !writer.is_waiting() && n % 5 == 0 {
                writer = MailWriter::open(&slots, &taken, seal);
            }
        }
        assert!(next > 400);
    }

    #[test]
    fn packets_that_were_cut_short_leave_room_for_more() {
        let (slots, taken, seal) = (Heap::new(64 * LINE_WORDS), Heap::new(LINE_WORDS), Seal::new([1]));
        let mut reader = MailReader::open(&slots, &taken, seal);
        for n in 0..50 {
            let mut writer = MailWriter::open(&slots, &taken, seal);
            writer.send(vec![n; MAX_MAIL]).unwrap();
            writer.flush(&slots, &taken);
            assert!(!writer.is_waiting(), "packet {n} has no room");
            // As if the writer had stopped before the last part.
            slots.store(slot_of(writer.pushed, 64), 0);
            assert_eq!(reader.receive(&slots, &taken), None);
        }
        let mut writer = MailWriter::open(&slots, &taken, seal);
        writer.send(vec![99; 7]).unwrap();
        writer.flush(&slots, &taken);
        assert_eq!(reader.receive(&slots, &taken), Some(vec![99; 7]));
    }

    #[test]
    fn both_ends_find_their_place_where_the_reader_was_killed_as_it_published() {
        let (slots, taken, seal) = (Heap::new(64 * LINE_WORDS), Heap::new(LINE_WORDS), Seal::new([1]));
        let mut writer = MailWriter::open(&slots, &taken, seal);
        let mut reader = MailReader::open(&slots, &taken, seal);
        for n in 0..200 {
            writer.send(mail(n)).unwrap();
            writer.flush(&slots, &taken);
            let check_before = taken.load(FIELDS);
            assert_eq!(reader.receive(&slots, &taken), Some(mail(n)));
            // The count was stored, and its checksum was not.
            let (count, check) = (taken.load(0), taken.load(FIELDS));
            taken.store(FIELDS, check_before);
            let restarted = MailReader::open(&slots, &taken, seal).receive(&slots, &taken);
            assert_eq!(restarted, Some(mail(n)), "as it was not published, it comes again");
            taken.store(0, count);
            taken.store(FIELDS, check_before);
            writer = MailWriter::open(&slots, &taken, seal);
            taken.store(FIELDS, check);
        }
    }

    #[test]
    fn a_mailbox_that_nobody_reads_fills_up() {
        let (slots, taken, seal) = (Heap::new(64 * LINE_WORDS), Heap::new(LINE_WORDS), Seal::new([1]));
        let mut writer = MailWriter::open(&slots, &taken, seal);
        let sent = (0..).take_while(|_| {
            writer.flush(&slots, &taken);
            writer.send(vec![0; 100]).is_ok()
        });
        assert!((MAX_WAITING..MAX_WAITING + 70).contains(&sent.count()));
    }

    #[test]
    fn another_incarnation_begins_anew() {
        let (slots, taken) = (Heap::new(64 * LINE_WORDS), Heap::new(LINE_WORDS));
        for incarnation in 0..3 {
            let seal = Seal::new([incarnation]);
            let mut writer = MailWriter::open(&slots, &taken, seal);
            let mut reader = MailReader::open(&slots, &taken, seal);
            assert_eq!(reader.receive(&slots, &taken), None, "mail of an earlier incarnation");
            for n in 0..9 {
                writer.send(vec![n; 90]).unwrap();
                writer.flush(&slots, &taken);
            }
            assert_eq!(reader.receive(&slots, &taken), Some(vec![0; 90]));
        }
    }

    #[test]
    fn any_slot_is_read_without_harm() {
        let (slots, taken, seal) = (Heap::new(64 * LINE_WORDS), Heap::new(LINE_WORDS), Seal::new([1]));
        for (n, first) in [u64::MAX, 1, 5 << 32, 0, u64::MAX << 32].into_iter().enumerate() {
            let sequence = n as u64 + 1;
            let fields = [first, 1, 2, 3, 4, 5, 6];
            record::publish(&slots, slot_of(sequence, 64), seal.at(sequence), fields);
        }
        let mut reader = MailReader::open(&slots, &taken, seal);
        while let Some(mail) = reader.receive(&slots, &taken) {
            assert!(mail.len() <= MAX_MAIL);
        }
    }
}
