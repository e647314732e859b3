//! A line of memory that hosts share and that nothing keeps coherent.
//!
//! A store is seen by the writer's own host alone, until the line is published, or is written back by
//! itself. A load is served from what the reader's host has of the line, however old that is. Only a look
//! that begins with an observe reads the memory. A line is seen whole: records carry a checksum, and one
//! that is torn is not believed, as if it had not been looked at. Lines know nothing of one another.

/// A line that one host writes and others read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Line<T> {
    /// What the writer has stored, if that is not in memory.
    stored: Option<T>,
    memory: T,
    /// What a reader's host has of it.
    copy: Option<T>,
}

impl<T: Clone + PartialEq> Line<T> {
    /// A line that is the same for all.
    pub fn new(value: T) -> Self {
        Self { stored: None, memory: value, copy: None }
    }

    /// Stores a value, and publishes it unless that is left out.
    pub fn write(&mut self, value: T, publishes: bool) {
        self.stored = Some(value);
        if publishes {
            self.write_back();
        }
    }

    /// What its writer reads there.
    pub fn own(&self) -> &T {
        self.stored.as_ref().unwrap_or(&self.memory)
    }

    /// What its reader reads there, observed unless that is left out. Its host keeps that.
    pub fn read(&mut self, observes: bool) -> T {
        if observes {
            self.copy = None;
        }
        self.copy.get_or_insert_with(|| self.memory.clone()).clone()
    }

    /// As [`read`](Self::read), by a reader that observes each time: then nothing is left of what was kept.
    pub fn look(&mut self, observes: bool) -> T {
        let seen = self.read(observes);
        if observes {
            self.copy = None;
        }
        seen
    }

    /// Weather: the writer's host writes back what it was not asked to. Returns `false` if there is
    /// nothing.
    pub fn write_back(&mut self) -> bool {
        self.stored.take().map(|stored| self.memory = stored).is_some()
    }

    /// Weather: the reader's host forgets the line. Returns `false` if it has none.
    pub fn forget(&mut self) -> bool {
        self.copy.take().is_some()
    }

    /// The writer's host is gone, with what it had not written back.
    pub fn lose(&mut self) {
        self.stored = None;
    }
}
