//! The account of a run, line by line, while it goes on.

use trace::Record;

use crate::fold::Summary;
use crate::reading::Reading;
use crate::step::{Audience, Step};
use crate::{Names, units};

/// Transfers in a row that are told one by one.
const TRANSFERS_TOLD: u32 = 6;

/// Tells a run in readable lines while it goes on. Remembers what devices, files and requests are called.
#[derive(Debug)]
pub struct Narrator {
    reading: Reading,
    /// Transfers in a row so far.
    in_a_row: u32,
    untold: Summary,
    /// When the last of `untold` was.
    untold_until_ns: u64,
}

impl Narrator {
    /// A narrator who has heard nothing yet.
    pub fn new(names: Names) -> Self {
        Self { reading: Reading::new(names), in_a_row: 0, untold: Summary::default(), untold_until_ns: 0 }
    }

    /// The lines that are due after this record: mostly none or one. A request whose dispatch routine is still
    /// running is held back until its status is known; repeated transfers are summed up in one line.
    pub fn account(&mut self, record: &Record) -> Vec<String> {
        self.reading.observe(record);
        let ready: Vec<Step> = self.reading.take_ready().collect();
        let mut lines = Vec::new();
        ready.into_iter().for_each(|step| self.tell(step, &mut lines));
        lines
    }

    /// What was held back: at the end of the run, or when nothing has happened for a while.
    pub fn end(&mut self) -> Vec<String> {
        let left: Vec<Step> = self.reading.take_all().collect();
        let mut lines = Vec::new();
        left.into_iter().for_each(|step| self.tell(step, &mut lines));
        self.sum_up(&mut lines);
        lines
    }

    fn tell(&mut self, step: Step, lines: &mut Vec<String>) {
        if step.audience == Audience::Figure {
            return;
        }
        if step.transfer.is_some() {
            self.in_a_row += 1;
            if self.in_a_row > TRANSFERS_TOLD {
                self.untold_until_ns = step.time_ns;
                return self.untold.add(step);
            }
        } else {
            self.in_a_row = 0;
            self.sum_up(lines);
        }
        lines.push(line(step.time_ns, &self.reading.cast.name(step.from), &step.sentence()));
    }

    fn sum_up(&mut self, lines: &mut Vec<String>) {
        let untold = std::mem::take(&mut self.untold);
        if let Some(step) = untold.into_step() {
            lines.push(line(self.untold_until_ns, "", &step.title));
        }
    }
}

/// `   12.345 ms  tdi_client      opens \Device\Tcp as connection endpoint #1 → STATUS_SUCCESS`.
fn line(time_ns: u64, who: &str, what: &str) -> String {
    let unit = units::TimeUnit::for_times_up_to(if time_ns < 10_000_000_000 { 0 } else { time_ns });
    format!("{:>13}  {who:<14}  {what}", unit.format(time_ns))
}
