//! What both figures draw: steps in rows, parties in lanes, bars between rows.

use std::collections::{BTreeMap, HashMap};

use trace::Record;

use crate::Options;
use crate::fold::Collector;
use crate::reading::Reading;
use crate::step::{Audience, Kind, Party, Step};
use crate::units::{TimeUnit, clean, grouped};

/// A run, ready to be drawn.
#[derive(Debug)]
pub struct Scene {
    /// The heading.
    pub title: String,
    /// How much of the run this is.
    pub subtitle: String,
    /// The lifelines from left to right.
    pub lanes: Vec<Lane>,
    /// What happens, from top to bottom.
    pub rows: Vec<Row>,
    /// Activation bars.
    pub bars: Vec<Span>,
    /// How times are printed.
    pub unit: TimeUnit,
}

/// A lifeline.
#[derive(Debug)]
pub struct Lane {
    /// First line of its head.
    pub name: String,
    /// Second line of its head.
    pub role: String,
}

/// A step with its places.
#[derive(Debug)]
pub struct Row {
    /// What happens.
    pub step: Step,
    /// Lane where it begins.
    pub from: usize,
    /// Lane where it ends; the same for a note.
    pub to: usize,
}

/// An activation bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its lane.
    pub lane: usize,
    /// First row.
    pub from: usize,
    /// Last row.
    pub to: usize,
    /// How many others it stands beside.
    pub level: usize,
}

/// Most bars side by side; further ones cover the last.
const LEVELS: usize = 5;

impl Scene {
    /// Reads the events and folds them to at most `options.rows_max` rows.
    pub fn of(records: &[Record], options: &Options) -> Self {
        let mut reading = Reading::new(options.names);
        let mut collector = Collector::default();
        let mut last_ns = 0;
        for record in records {
            last_ns = last_ns.max(record.time_ns);
            reading.observe(record);
            reading.take_ready().filter_map(drawable).for_each(|step| collector.add(step));
        }
        reading.take_all().filter_map(drawable).for_each(|step| collector.add(step));
        last_ns = last_ns.max(options.stop.as_ref().map_or(0, |stop| stop.time_ns));
        let count = collector.count;
        let mut steps = collector.fold(options.rows_max);

        let cast = &reading.cast;
        steps.extend(options.stop.as_ref().map(|stop| {
            let party = cast.driver_named(&stop.driver).unwrap_or(Party::IoManager);
            Step::new(last_ns, party, party, Kind::Stop, clean(&stop.text))
        }));
        let mut parties: BTreeMap<(u8, usize), Party> = BTreeMap::new();
        for step in steps.iter().filter(|step| step.kind != Kind::Fold) {
            parties.extend([step.from, step.to].map(|party| (cast.rank(party), party)));
        }
        let lane_of: HashMap<Party, usize> = parties.values().enumerate().map(|(lane, &party)| (party, lane)).collect();
        let lanes: Vec<Lane> =
            parties.values().map(|&party| Lane { name: cast.name(party), role: cast.role(party) }).collect();
        let title = options.title.clone().unwrap_or_else(|| title_of(&lanes));
        let unit = TimeUnit::for_times_up_to(last_ns);
        let mut subtitle =
            format!("{} events, {} steps in {}", grouped(records.len() as u64), grouped(count), unit.format(last_ns));
        if options.events_lost > 0 {
            subtitle.push_str(&format!("; {} events were lost and are not shown", grouped(options.events_lost)));
        }
        let bars = spans(&steps, &lane_of);
        let last = lanes.len().saturating_sub(1);
        let lane = |party: Party, otherwise: usize| lane_of.get(&party).copied().unwrap_or(otherwise);
        let rows =
            steps.into_iter().map(|step| Row { from: lane(step.from, 0), to: lane(step.to, last), step }).collect();
        Self { title, subtitle, lanes, rows, bars, unit }
    }
}

/// The step as it is drawn; Drydock's own doings have no lifeline but the I/O manager's.
fn drawable(mut step: Step) -> Option<Step> {
    for party in [&mut step.from, &mut step.to] {
        if *party == Party::Drydock {
            *party = Party::IoManager;
        }
    }
    let is_arrow = !matches!(step.kind, Kind::Note(_));
    let shown = step.audience != Audience::Account && !(is_arrow && step.from == step.to);
    // Bars hang on steps: one that is not drawn must not take them with it.
    (shown || !step.closes.is_empty() || !step.ended.is_empty()).then_some(step)
}

fn title_of(lanes: &[Lane]) -> String {
    let clients: Vec<&str> =
        lanes.iter().filter(|lane| lane.role == "client driver").map(|lane| lane.name.as_str()).collect();
    match clients.as_slice() {
        [] => "What happened".into(),
        [.., _] if clients.len() > 4 => format!("What {} drivers did", clients.len()),
        names => format!("What {} did", names.join(" and ")),
    }
}

/// Bars from the row that opens them to the one that closes them, side by side where they overlap.
fn spans(steps: &[Step], lane_of: &HashMap<Party, usize>) -> Vec<Span> {
    let mut open: Vec<(u64, Span)> = Vec::new();
    let mut done: Vec<Span> = Vec::new();
    let close = |open: &mut Vec<(u64, Span)>, done: &mut Vec<Span>, serial: u64, row: usize| {
        if let Some(index) = open.iter().rposition(|(known, _)| *known == serial) {
            let (_, span) = open.remove(index);
            done.push(Span { to: row.max(span.from), ..span });
        }
    };
    for (row, step) in steps.iter().enumerate() {
        for &serial in &step.ended {
            close(&mut open, &mut done, serial, row.saturating_sub(1));
        }
        for bar in &step.opens {
            let Some(&lane) = lane_of.get(&bar.party) else { continue };
            let taken = |level: usize| open.iter().any(|(_, span)| span.lane == lane && span.level == level);
            let level = (0..LEVELS).find(|&level| !taken(level)).unwrap_or(LEVELS - 1);
            open.push((bar.serial, Span { lane, from: row, to: row, level }));
        }
        for &serial in &step.closes {
            close(&mut open, &mut done, serial, row);
        }
    }
    let last = steps.len().saturating_sub(1);
    done.extend(open.into_iter().map(|(_, span)| Span { to: last, ..span }));
    done.sort_by_key(|span| (span.from, span.lane, span.level, span.to));
    done
}
