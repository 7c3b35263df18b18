//! Rules checked over recorded events.

#![forbid(unsafe_code)]

use trace::Record;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's id, such as `C-133`.
    pub rule: &'static str,
    /// What happened.
    pub message: String,
    /// Number of the event that shows it, counted from the first that was observed; `None` for what shows only
    /// at the end.
    pub event: Option<u64>,
}

/// Watches a run event by event. Memory is bounded by what is alive in the run.
#[derive(Debug, Default)]
pub struct Verifier {}

impl Verifier {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the next event.
    pub fn observe(&mut self, record: &Record) {
        let _ = record;
    }

    /// Judges at the end. `events_lost` is how many events never arrived (`TraceReader::lost`), and `complete`
    /// whether the run came to its end in good order: after a crash nothing is said about what is missing.
    pub fn finish(self, events_lost: u64, complete: bool) -> Vec<Finding> {
        let _ = (events_lost, complete);
        Vec::new()
    }
}

/// Checks all rules over a whole run. See [`Verifier::finish`].
pub fn verify(records: &[Record], events_lost: u64, complete: bool) -> Vec<Finding> {
    let mut verifier = Verifier::new();
    records.iter().for_each(|record| verifier.observe(record));
    verifier.finish(events_lost, complete)
}
