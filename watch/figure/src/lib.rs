//! Sequence diagrams and accounts drawn from recorded events, and from nothing else.
//!
//! [`draw`] makes an SVG for a document, [`text`] the same for a terminal, [`Narrator`] the account that is
//! printed while a run goes on. All three stand on one reading of the events.

#![forbid(unsafe_code)]

// The runs that tests share name this crate as its users do.
#[cfg(test)]
extern crate self as figure;

mod account;
mod cast;
mod fold;
mod graph;
mod names;
mod reading;
mod scene;
mod step;
mod svg;
mod units;
mod width;

pub use account::Narrator;
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
    /// Events that were lost, for a note in the figure.
    pub events_lost: u64,
    /// What ended the run early, if something did.
    pub stop: Option<Stop>,
}

/// The early end of a run.
#[derive(Clone, Debug)]
pub struct Stop {
    /// What happened, in words.
    pub text: String,
    /// File name of the driver to blame; empty if none is.
    pub driver: String,
    /// When it was, in nanoseconds, if it was later than the last event.
    pub time_ns: u64,
}

impl Options {
    /// Sensible values around `names`: 160 rows, 100 columns.
    pub fn new(names: Names) -> Self {
        Self { names, title: None, rows_max: 160, width: 100, events_lost: 0, stop: None }
    }
}

/// Draws the run as an SVG sequence diagram. Of any records, an SVG of bounded size.
pub fn draw(records: &[Record], options: &Options) -> String {
    svg::draw(&scene::Scene::of(records, options))
}

/// Draws the run as text for a terminal of `options.width` columns.
pub fn text(records: &[Record], options: &Options) -> String {
    graph::draw(&scene::Scene::of(records, options), options.width)
}
