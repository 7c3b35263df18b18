//! The rows.

use std::path::Path;

use anyhow::{Context, Result};

use crate::clock::nanoseconds;
use crate::driver::{Measured, Measurement, Work};
use crate::floors::Parting;
use crate::peer::{Peer, Role};
use crate::table::{Bound, HEAD, Line, Quantity, median};
use crate::{floors, pin};

/// How often driver and floor take turns.
const TURNS: usize = 3;
/// Where driver code and floors run; the supervisor is on the other one.
const WORKING: &[usize] = &[0];
const SUPERVISING: &[usize] = &[1];
const BOTH: &[usize] = &[0, 1];

/// Bytes that a tokio task with its `TcpStream` takes, as measured once; the floor of the row about idle connections.
const TOKIO_TASK_BYTES: f64 = 903.0;

type Row = fn(&Path) -> Result<Vec<Line>>;

/// Name and body of each row.
const ROWS: &[(&str, Row)] = &[
    ("1", connect),
    ("2", many_connects),
    ("3", echo),
    ("4", transfers),
    ("5", irps),
    ("6", events),
    ("7", references),
    ("8", idle),
    ("9", opens),
    ("10", start),
];

/// Measures the rows that are wanted, or all, and prints each line as soon as it is known.
pub fn run(image: &Path, wanted: &[&str]) -> Result<()> {
    println!("{HEAD}");
    for (name, row) in ROWS.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name)) {
        pin::this_thread(SUPERVISING)?;
        for line in row(image).with_context(|| format!("row {name}"))? {
            println!("{line}");
        }
    }
    Ok(())
}

/// Runs a floor where the driver would run.
fn floor<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    pin::this_thread(WORKING)?;
    let result = body();
    pin::this_thread(SUPERVISING)?;
    result
}

/// Lets driver and floor take turns; both give one figure, smaller is better. Returns the middle figures and the middle ratio.
fn compare(mut ours: impl FnMut() -> Result<f64>, mut floor: impl FnMut() -> Result<f64>) -> Result<(f64, f64, f64)> {
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        let floor = floor()?;
        turns.push((ours()?, floor));
    }
    let middle = |of: fn(&(f64, f64)) -> f64| median(turns.iter().map(of).collect());
    Ok((middle(|turn| turn.0), middle(|turn| turn.1), middle(|turn| turn.0 / turn.1)))
}

fn per(measured: &Measured, count: u32) -> f64 {
    nanoseconds(measured.ticks as f64) / f64::from(count)
}

/// A line of times per operation.
fn times(row: &'static str, work: &'static str, bound: Bound, (ours, floor, ratio): (f64, f64, f64)) -> Line {
    Line {
        row,
        work,
        ours: Quantity::Nanoseconds(ours),
        floor: Quantity::Nanoseconds(floor),
        ratio: Some(ratio),
        bound,
    }
}

/// Processor time that each operation adds: of a long run without that of a short one.
fn cpu_per_operation(few: &Measurement<'_>, many: &Measurement<'_>, operations: u32) -> Result<f64> {
    let few = few.run()?;
    Ok((many.run()?.cpu_ns - few.cpu_ns) / f64::from(operations))
}

fn connect(image: &Path) -> Result<Vec<Line>> {
    const FEW: u32 = 100;
    const MANY: u32 = 10_000;
    let peer = Peer::start(Role::Drain, 1, 4)?;
    let measurement = |count| Measurement::new(image, Work::Connect, count).to(peer.port, 4);
    let ours = || cpu_per_operation(&measurement(FEW), &measurement(MANY), MANY - FEW);
    let raw = |parting| Ok(floor(|| floors::connect(peer.port, 4, MANY, parting))?.cpu_ns / f64::from(MANY));
    let closing = "open, associate, connect, release, close: processor time ÷ raw socket, connect, close";
    let releasing = "the same ÷ raw socket, connect, shutdown, receive to the end, close";
    Ok(vec![
        times("1", closing, Bound::RatioAtMost(1.25), compare(ours, || raw(Parting::Close))?),
        times("1", releasing, Bound::RatioAtMost(1.25), compare(ours, || raw(Parting::Release))?),
    ])
}

fn many_connects(image: &Path) -> Result<Vec<Line>> {
    const COUNT: u32 = 120_000;
    const PORTS: u16 = 16;
    let peer = Peer::start(Role::Drain, 1, 3 * PORTS)?;
    let raw =
        |first, parting| -> Result<u64> { Ok(floor(|| floors::connect(first, PORTS, COUNT, parting))?.last_tenth) };
    let closing = raw(peer.port, Parting::Close)?;
    let ours = Measurement::new(image, Work::Connect, COUNT).to(peer.port + PORTS, PORTS).run()?.last_tenth;
    let releasing = raw(peer.port + 2 * PORTS, Parting::Release)?;
    let each = |ticks: u64| nanoseconds(ticks as f64) / f64::from(COUNT / 10);
    // A rate: how much slower it is counts the other way round.
    let figures = |raw: u64| (each(ours), each(raw), raw as f64 / ours as f64);
    let work = "the last 12,000 of 120,000 connects with port 0: rate ÷ raw rate of socket, connect, close";
    let same = "the same ÷ raw rate of socket, connect, shutdown, receive to the end, close";
    Ok(vec![
        times("2", work, Bound::RatioAtLeast(0.9), figures(closing)),
        times("2", same, Bound::RatioAtLeast(0.9), figures(releasing)),
    ])
}

fn echo(image: &Path) -> Result<Vec<Line>> {
    const COUNT: u32 = 50_000;
    // All on one processor: a wake-up of another would cost more than everything else.
    let peer = Peer::start(Role::Echo, 0, 1)?;
    let ours = || Ok(nanoseconds(Measurement::new(image, Work::Echo, COUNT).to(peer.port, 1).run()?.median as f64));
    let raw = || Ok(nanoseconds(floor(|| floors::echo(peer.port, COUNT))? as f64));
    let work = "1-byte echo, median, one processor ÷ raw send and recv";
    Ok(vec![times("3", work, Bound::RatioAtMost(1.1), compare(ours, raw)?)])
}

fn transfers(image: &Path) -> Result<Vec<Line>> {
    const FEW: u32 = 100;
    const MANY: u32 = 20_000;
    let (sink, source) = (Peer::start(Role::Sink, 1, 1)?, Peer::start(Role::Source, 1, 1)?);
    let ours = |work, port| {
        let measurement = |count| Measurement::new(image, work, count).to(port, 1);
        cpu_per_operation(&measurement(FEW), &measurement(MANY), MANY - FEW)
    };
    let send =
        compare(|| ours(Work::Send, sink.port), || Ok(floor(|| floors::send(sink.port, MANY))? / f64::from(MANY)))?;
    let receive = compare(
        || ours(Work::Receive, source.port),
        || Ok(floor(|| floors::receive(source.port, MANY))? / f64::from(MANY)),
    )?;
    Ok(vec![
        times("4", "TDI_SEND of 64 KiB: processor time ÷ raw", Bound::RatioAtMost(1.05), send),
        times("4", "TDI_RECEIVE of 64 KiB: processor time ÷ raw", Bound::RatioAtMost(1.05), receive),
    ])
}

/// A driver's work without a peer, against a floor on the same processor.
fn alone(image: &Path, work: Work, count: u32, floor_ticks: fn(u32) -> u64) -> Result<(f64, f64, f64)> {
    compare(
        || Ok(per(&Measurement::new(image, work, count).run()?, count)),
        || Ok(nanoseconds(floor(|| Ok(floor_ticks(count)))? as f64) / f64::from(count)),
    )
}

fn irps(image: &Path) -> Result<Vec<Line>> {
    let figures = alone(image, Work::Irp, 2_000_000, floors::irp)?;
    let work = "IoAllocateIrp, IoCallDriver, IoCompleteRequest, IoFreeIrp ÷ malloc and zero of 280 bytes";
    Ok(vec![times("5", work, Bound::RatioAtMost(3.0), figures)])
}

fn events(image: &Path) -> Result<Vec<Line>> {
    const ROUNDS: u32 = 200_000;
    let signalled = alone(image, Work::Event, 5_000_000, floors::event)?;
    let ping_pong = compare(
        || Ok(per(&Measurement::new(image, Work::PingPong, ROUNDS).with_two_threads().run()?, ROUNDS)),
        || Ok(nanoseconds(floor(|| floors::ping_pong(ROUNDS, WORKING))? as f64) / f64::from(ROUNDS)),
    )?;
    Ok(vec![
        times(
            "6",
            "KeSetEvent, KeWaitForSingleObject, signalled ÷ two atomic swaps",
            Bound::RatioAtMost(2.0),
            signalled,
        ),
        times("6", "event ping-pong of two threads ÷ futex ping-pong", Bound::RatioAtMost(1.1), ping_pong),
    ])
}

fn references(image: &Path) -> Result<Vec<Line>> {
    const COUNT: u32 = 5_000_000;
    let one = alone(image, Work::Reference, COUNT, floors::reference)?;
    let two = compare(
        || Ok(per(&Measurement::new(image, Work::Reference, COUNT).on_two_cpus().run()?, COUNT)),
        || Ok(per(&Measurement::new(image, Work::Reference, COUNT).run()?, COUNT)),
    )?;
    Ok(vec![
        times("7", "ObReferenceObjectByHandle, ObDereferenceObject ÷ slab look-up", Bound::RatioAtMost(2.0), one),
        times("7", "the same on two processors at once ÷ on one", Bound::RatioAtMost(1.7), two),
    ])
}

fn idle(image: &Path) -> Result<Vec<Line>> {
    const FEW: u32 = 500;
    const MANY: u32 = 5_500;
    let peer = Peer::start(Role::Keep, 1, 1)?;
    let measure = |count| Measurement::new(image, Work::Idle, count).to(peer.port, 1).run();
    let mut figures = Vec::new();
    for _ in 0..TURNS {
        let (few, many) = (measure(FEW)?.anonymous_kib, measure(MANY)?.anonymous_kib);
        figures.push((many as f64 - few as f64) * 1024.0 / f64::from(MANY - FEW));
    }
    let ours = median(figures);
    Ok(vec![Line {
        row: "8",
        work: "memory of an idle connection with a receive pending ÷ a tokio task with its stream",
        ours: Quantity::Bytes(ours),
        floor: Quantity::Bytes(TOKIO_TASK_BYTES),
        ratio: Some(ours / TOKIO_TASK_BYTES),
        bound: Bound::RatioAtMost(1.5),
    }])
}

fn opens(image: &Path) -> Result<Vec<Line>> {
    const COUNT: u32 = 500_000;
    let one_thread = || Ok(per(&Measurement::new(image, Work::OpenClose, COUNT).run()?, COUNT));
    let two =
        compare(|| Ok(per(&Measurement::new(image, Work::OpenClose, COUNT).on_two_cpus().run()?, COUNT)), one_thread)?;
    let one = Line {
        row: "9",
        work: "open, associate, close of an endpoint, no network",
        ours: Quantity::Nanoseconds(two.1),
        floor: Quantity::None,
        ratio: None,
        bound: Bound::NanosecondsAtMost(700.0),
    };
    Ok(vec![one, times("9", "the same on two processors at once ÷ on one", Bound::RatioAtMost(1.3), two)])
}

fn start(image: &Path) -> Result<Vec<Line>> {
    pin::this_thread(BOTH)?;
    let runs = (0..TURNS).map(|_| Measurement::new(image, Work::Nothing, 0).run());
    let figures = runs.map(|run| Ok(nanoseconds(run?.start_ticks as f64))).collect::<Result<_>>()?;
    Ok(vec![Line {
        row: "10",
        work: "start of the process to the first instruction of DriverEntry",
        ours: Quantity::Nanoseconds(median(figures)),
        floor: Quantity::None,
        ratio: None,
        bound: Bound::NanosecondsAtMost(25e6),
    }])
}
