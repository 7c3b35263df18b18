//! Sequence diagrams and accounts drawn from recorded events, and from nothing else.
//!
//! [`draw`] makes an SVG for a document, [`text`] the same for a terminal, [`Narrator`] the account that is
//! printed while a run goes on. All three stand on one reading of the events.

#![forbid(unsafe_code)]

mod names;

pub use names::Names;

use trace::Record;

/// How a figure is drawn.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of NT's numbers.
    pub names: Names,
    /// The heading; without it one is made from the drivers' names.
    pub title: Option<String>,
    /// Most rows of a figure. Repeated stretches are folded first; then the middle is left out, with a note.
    pub rows_max: usize,
    /// Columns of a terminal, for [`text`].
    pub width: usize,
    /// Events that were lost, for a note under the figure.
    pub events_lost: u64,
}

impl Options {
    /// Sensible values around `names`: 160 rows, 100 columns.
    pub fn new(names: Names) -> Self {
        Self { names, title: None, rows_max: 160, width: 100, events_lost: 0 }
    }
}

/// Draws the run as an SVG sequence diagram.
pub fn draw(records: &[Record], options: &Options) -> String {
    let _ = (records, options);
    String::new()
}

/// Draws the run as text for a terminal of `options.width` columns.
pub fn text(records: &[Record], options: &Options) -> String {
    let _ = (records, options);
    String::new()
}

/// Tells a run in readable lines while it goes on. Remembers what devices, files and requests are called.
#[derive(Debug)]
pub struct Narrator {
    names: Names,
}

impl Narrator {
    /// A narrator who has heard nothing yet.
    pub fn new(names: Names) -> Self {
        Self { names }
    }

    /// The lines that are due after this record: mostly none or one. A request whose dispatch routine is still
    /// running is held back until its status is known; repeated transfers are summed up in one line.
    pub fn account(&mut self, record: &Record) -> Vec<String> {
        let _ = (record, (self.names.status)(0));
        Vec::new()
    }

    /// What was held back; at the end of the run.
    pub fn end(&mut self) -> Vec<String> {
        Vec::new()
    }
}
