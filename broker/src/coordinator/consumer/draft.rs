//! A change of a group's state while it is being decided: every step sees the ones before it.

use super::entry::Entry;
use super::state::State;

/// Entries that were applied and are yet to be written.
#[derive(Debug)]
pub struct Draft<'a> {
    pub state: &'a mut State,
    entries: Vec<Entry>,
    undo: Vec<Entry>,
}

impl<'a> Draft<'a> {
    pub fn new(state: &'a mut State) -> Self {
        Self { state, entries: Vec::new(), undo: Vec::new() }
    }

    /// Applies one entry.
    pub fn put(&mut self, entry: Entry) {
        self.state.apply(entry.clone(), &mut self.undo);
        self.entries.push(entry);
    }

    /// Takes everything back: the state is as it was.
    pub fn discard(self) {
        take_back(self.state, self.undo);
    }

    /// What is to be written, and what takes it back.
    pub fn finish(self) -> (Vec<Entry>, Vec<Entry>) {
        (self.entries, self.undo)
    }
}

/// Takes entries back, the last first.
pub fn take_back(state: &mut State, undo: Vec<Entry>) {
    let mut none = Vec::new();
    for entry in undo.into_iter().rev() {
        state.apply(entry, &mut none);
        none.clear();
    }
}
