//! Folding: what repeats is said once, and what is too long is left out in the middle, with a note.
//!
//! Three passes, each only where it is needed: long stretches of data transfer; rounds of the same steps, such as
//! one connection after the other; and the middle of what is still longer than a figure may be.

use std::collections::VecDeque;

use crate::step::{Bar, Kind, Party, Step};
use crate::units::{bytes, grouped};

/// Steps of a transfer that are drawn at its start, at least.
const TRANSFER_HEAD: usize = 6;
/// ... and at its end, at most.
const TRANSFER_TAIL: usize = 4;
/// Fewest steps worth a fold.
const WORTH: usize = 4;
/// Longest round that is recognized.
const ROUND_MAX: usize = 64;
/// Fewest rounds of which the inner ones are folded.
const ROUNDS: usize = 4;
/// Most titles named in a fold.
const TITLES: usize = 4;
/// Steps kept from the start and from the end of a run of any length, before folding.
const KEPT: usize = 20_000;

/// Collects the steps of a run of any length in bounded space.
#[derive(Debug, Default)]
pub struct Collector {
    head: Vec<Step>,
    middle: Summary,
    tail: VecDeque<Step>,
    /// How many steps were added.
    pub count: u64,
}

impl Collector {
    /// Adds a step.
    pub fn add(&mut self, step: Step) {
        self.count += 1;
        if self.head.len() < KEPT {
            return self.head.push(step);
        }
        self.tail.push_back(step);
        if self.tail.len() > KEPT
            && let Some(step) = self.tail.pop_front()
        {
            self.middle.add(step);
        }
    }

    /// The steps, folded to at most `rows_max`.
    pub fn fold(mut self, rows_max: usize) -> Vec<Step> {
        let mut steps = self.head;
        steps.extend(self.middle.into_step());
        steps.extend(self.tail.drain(..));
        let steps = fold_rounds(fold_transfers(steps));
        cut_middle(steps, rows_max.max(3))
    }
}

/// What is said about steps that are not drawn.
#[derive(Debug, Default)]
pub struct Summary {
    steps: u64,
    from_ns: u64,
    until_ns: u64,
    /// Titles with how often and how many bytes; requests before what the network did.
    titles: Vec<(String, u64, u64, bool)>,
    opens: Vec<Bar>,
    closes: Vec<u64>,
}

impl Summary {
    /// Takes a step in.
    pub fn add(&mut self, step: Step) {
        if self.steps == 0 {
            self.from_ns = step.time_ns;
        }
        self.steps += 1;
        self.until_ns = step.time_ns;
        let (title, count, moved, is_request) = match step.transfer {
            Some(transfer) => (transfer.title, transfer.count, transfer.bytes, transfer.is_request),
            None if matches!(step.kind, Kind::Call | Kind::Farewell) => (step.title, 1, 0, true),
            None => (String::new(), 0, 0, true),
        };
        if !title.is_empty() {
            match self.titles.iter().position(|known| known.0 == title) {
                Some(index) => {
                    let known = &mut self.titles[index];
                    known.1 += count;
                    known.2 = known.2.saturating_add(moved);
                }
                // Titles are few; a made-up trace could have any number.
                None if self.titles.len() < 64 => self.titles.push((title, count, moved, is_request)),
                None => {}
            }
        }
        // Bars that begin and end in here are of no interest outside.
        self.close(step.ended);
        self.opens.extend(step.opens);
        self.close(step.closes);
        // A driver that pends without end; its bars will be drawn no further than this.
        if self.opens.len() > KEPT {
            self.opens.clear();
        }
    }

    fn close(&mut self, serials: Vec<u64>) {
        for serial in serials {
            match self.opens.iter().rposition(|bar| bar.serial == serial) {
                Some(index) => drop(self.opens.remove(index)),
                None => self.closes.push(serial),
            }
        }
    }

    /// `118 more TDI_RECEIVE, 64.0 MiB`.
    pub fn text(&self) -> String {
        let any_request = self.titles.iter().any(|title| title.3 && title.1 > 0);
        let mut titles: Vec<_> = self.titles.iter().filter(|title| title.1 > 0 && (title.3 || !any_request)).collect();
        titles.sort_by_key(|title| std::cmp::Reverse(title.1));
        let mut parts: Vec<String> = titles
            .iter()
            .take(TITLES)
            .map(|(title, count, moved, _)| match moved {
                0 => format!("{} more {title}", grouped(*count)),
                _ => format!("{} more {title}, {}", grouped(*count), bytes(*moved)),
            })
            .collect();
        if titles.len() > TITLES || parts.is_empty() {
            parts.push(format!("{} steps in all", grouped(self.steps)));
        }
        parts.join("; ")
    }

    /// The one step that stands for them, if there were any.
    pub fn into_step(self) -> Option<Step> {
        (self.steps > 0).then(|| {
            let text = format!("… {}", self.text());
            let mut step = Step::new(self.from_ns, Party::Drydock, Party::Drydock, Kind::Fold, text);
            step.opens = self.opens;
            step.closes = self.closes;
            step
        })
    }
}

fn summary(steps: impl IntoIterator<Item = Step>) -> Option<Step> {
    let mut summary = Summary::default();
    steps.into_iter().for_each(|step| summary.add(step));
    summary.into_step()
}

/// Folds the inner part of each long stretch of transfers.
fn fold_transfers(steps: Vec<Step>) -> Vec<Step> {
    let mut out = Vec::new();
    let mut stretch = Vec::new();
    for step in steps {
        if step.transfer.is_some() {
            stretch.push(step);
        } else {
            fold_stretch(&mut stretch, &mut out);
            out.push(step);
        }
    }
    fold_stretch(&mut stretch, &mut out);
    out
}

fn fold_stretch(stretch: &mut Vec<Step>, out: &mut Vec<Step>) {
    // A round begins with a request; one that the network begins, with its first step.
    let begins = |step: &Step| step.transfer.as_ref().is_some_and(|transfer| transfer.count > 0 && transfer.is_request);
    let tail_from = stretch.len().saturating_sub(TRANSFER_TAIL);
    let start = (TRANSFER_HEAD..stretch.len()).find(|&index| begins(&stretch[index])).unwrap_or(TRANSFER_HEAD);
    let end = (tail_from..stretch.len()).find(|&index| begins(&stretch[index])).unwrap_or(tail_from);
    if end < start + WORTH {
        out.append(stretch);
        return;
    }
    let tail = stretch.split_off(end);
    let inner = stretch.split_off(start);
    out.append(stretch);
    out.extend(summary(inner));
    out.extend(tail);
}

/// Folds all but the first and the last of rounds that consist of the same steps.
fn fold_rounds(steps: Vec<Step>) -> Vec<Step> {
    let shapes: Vec<Shape> = steps.iter().map(shape).collect();
    let mut out = Vec::new();
    let mut steps = steps.into_iter();
    let mut at = 0;
    while at < shapes.len() {
        let Some((period, rounds)) = best_round(&shapes[at..]) else {
            out.extend(steps.next());
            at += 1;
            continue;
        };
        out.extend(steps.by_ref().take(period));
        let inner = period * (rounds - 2);
        let fold = summary(steps.by_ref().take(inner));
        out.extend(fold.map(|fold| {
            let unit = if period == 1 { "step".into() } else { format!("{period} steps") };
            let title = format!("… {} more rounds of the {unit} above", grouped(rounds as u64 - 2));
            Step { title, ..fold }
        }));
        out.extend(steps.by_ref().take(period));
        at += period * rounds;
    }
    out
}

/// The period that covers most, and how often it occurs from the start of `shapes`.
fn best_round(shapes: &[Shape]) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    for period in 1..=ROUND_MAX.min(shapes.len() / ROUNDS) {
        let same = shapes.iter().zip(&shapes[period..]).take_while(|(one, next)| one == next).count();
        let rounds = same / period + 1;
        // What of a transfer is left has been folded already.
        if rounds < ROUNDS || shapes[..period].iter().all(|shape| shape.moves_data) {
            continue;
        }
        let folded = |(period, rounds): (usize, usize)| period * (rounds - 2);
        let this = (period, rounds);
        if folded(this) >= WORTH && best.is_none_or(|best| folded(best) < folded(this)) {
            best = Some(this);
        }
    }
    best
}

/// What a step looks like without its numbers: steps of equal shape may be rounds of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    hash: u64,
    moves_data: bool,
}

fn shape(step: &Step) -> Shape {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (step.kind, step.from, step.to).hash(&mut hasher);
    match step.kind {
        Kind::Network | Kind::Note(_) | Kind::Fold => {}
        _ => step.title.hash(&mut hasher),
    }
    if let Some(outcome) = &step.outcome {
        outcome.tone.hash(&mut hasher);
    }
    Shape { hash: hasher.finish(), moves_data: step.transfer.is_some() }
}

/// Leaves out the middle of what is too long.
fn cut_middle(mut steps: Vec<Step>, rows_max: usize) -> Vec<Step> {
    if steps.len() <= rows_max {
        return steps;
    }
    // The beginning explains more than the end.
    let head = rows_max * 3 / 5;
    let tail = steps.split_off(steps.len() - (rows_max - head - 1));
    let inner = steps.split_off(head);
    steps.extend(summary(inner));
    steps.extend(tail);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(time_ns: u64, title: &str) -> Step {
        Step::new(time_ns, Party::IoManager, Party::Driver(0), Kind::Call, title)
    }

    fn transfer(time_ns: u64, count: u64, moved: u64) -> Step {
        call(time_ns, "TDI_RECEIVE").moving("TDI_RECEIVE", count, moved, true)
    }

    fn fold(steps: impl IntoIterator<Item = Step>, rows_max: usize) -> Vec<String> {
        let mut collector = Collector::default();
        steps.into_iter().for_each(|step| collector.add(step));
        collector.fold(rows_max).into_iter().map(|step| step.title).collect()
    }

    #[test]
    fn long_transfer_is_folded_with_its_sum() {
        let steps = (0..100).map(|n| transfer(n, 1, 1000));
        let titles = fold([call(0, "open")].into_iter().chain(steps).chain([call(200, "ZwClose")]), 1000);
        assert_eq!(titles.len(), 1 + 6 + 1 + 4 + 1);
        assert_eq!(titles[7], "… 90 more TDI_RECEIVE, 90,000 bytes");
    }

    #[test]
    fn fold_ends_before_a_request_and_not_before_its_completion() {
        let steps = (0..50).flat_map(|n| [transfer(2 * n, 1, 0), transfer(2 * n + 1, 0, 10)]);
        let mut collector = Collector::default();
        steps.for_each(|step| collector.add(step));
        let steps = collector.fold(1000);
        let fold = steps.iter().position(|step| step.kind == Kind::Fold).expect("a fold");
        assert!(steps[fold].title.contains("450 bytes"), "{}", steps[fold].title);
        assert_eq!(steps[fold + 1].transfer.as_ref().map(|transfer| transfer.count), Some(1));
    }

    #[test]
    fn short_transfer_is_drawn_whole() {
        let titles = fold((0..12).map(|n| transfer(n, 1, 1)), 1000);
        assert_eq!(titles.len(), 12);
    }

    #[test]
    fn rounds_are_folded_between_the_first_and_the_last() {
        let round =
            |n: u64| ["open", "TDI_CONNECT", "ZwClose"].map(|title| call(n, title).about(format!("endpoint #{n}")));
        let titles = fold((0..10_000).flat_map(round).take(30_000), 1000);
        assert_eq!(
            titles,
            [
                "open",
                "TDI_CONNECT",
                "ZwClose",
                "… 9,998 more rounds of the 3 steps above",
                "open",
                "TDI_CONNECT",
                "ZwClose"
            ]
        );
    }

    #[test]
    fn run_of_any_length_stays_within_its_rows() {
        // Irregular on purpose, so that no rounds are found.
        let steps = (0..200_000u64).map(|n| call(n, ["a", "b", "c"][(n * n / 7 % 3) as usize]));
        let titles = fold(steps, 50);
        assert_eq!(titles.len(), 50);
        assert!(titles.iter().any(|title| title.contains("more")), "{titles:?}");
    }

    #[test]
    fn bars_that_cross_a_fold_survive_it() {
        let mut steps: Vec<Step> = (0..100).map(|n| transfer(n, 1, 1)).collect();
        steps[20].opens.push(Bar { serial: 1, party: Party::Driver(0) });
        steps[30].opens.push(Bar { serial: 2, party: Party::Driver(0) });
        steps[40].closes.push(2);
        steps[45].opens.push(Bar { serial: 4, party: Party::Driver(0) });
        steps[45].closes.push(4);
        steps[50].closes.push(3);
        let mut collector = Collector::default();
        steps.into_iter().for_each(|step| collector.add(step));
        let steps = collector.fold(1000);
        let fold = steps.iter().find(|step| step.kind == Kind::Fold).expect("a fold");
        assert_eq!((&fold.opens[..], &fold.closes[..]), (&[Bar { serial: 1, party: Party::Driver(0) }][..], &[3][..]));
    }
}
