//! The floors: the same work by a program that has no kernel of its own.

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

use crate::clock::{ticks, time};
use crate::pin;

/// Size of an IRP with its locations, about.
const IRP_BYTES: usize = 280;
/// Room for a transfer.
const TRANSFER_BYTES: usize = 0x10000;

/// Two atomic swaps: set a flag, take it.
pub fn event(count: u32) -> u64 {
    let flag = AtomicU32::new(0);
    time(|| {
        for _ in 0..count {
            black_box(flag.swap(1, Ordering::SeqCst));
            black_box(flag.swap(0, Ordering::SeqCst));
        }
    })
}

/// Two threads on this thread's processors that wake each other through futexes.
pub fn ping_pong(count: u32, cpus: &'static [usize]) -> Result<u64> {
    let turns = Arc::new([AtomicU32::new(1), AtomicU32::new(0)]);
    let other = Arc::clone(&turns);
    let partner = thread::spawn(move || -> Result<()> {
        pin::this_thread(cpus)?;
        (0..count).for_each(|_| hand_over(&other[1], &other[0]));
        Ok(())
    });
    pin::this_thread(cpus)?;
    let ticks = time(|| (0..count).for_each(|_| hand_over(&turns[0], &turns[1])));
    partner.join().map_err(|_| anyhow::anyhow!("the partner panicked"))??;
    Ok(ticks)
}

/// Waits for one's turn and gives it to the other.
fn hand_over(mine: &AtomicU32, other: &AtomicU32) {
    while mine.swap(0, Ordering::Acquire) == 0 {
        futex(mine, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, 0);
    }
    other.store(1, Ordering::Release);
    futex(other, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1);
}

fn futex(word: &AtomicU32, operation: i32, value: u32) {
    let no_timeout = ptr::null::<libc::timespec>();
    // SAFETY: the word lives across the call; the kernel reads it and keeps nothing of it.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, no_timeout) };
}

/// An object in a slab.
struct Entry {
    generation: u32,
    count: AtomicU32,
}

/// A checked slab look-up by index and generation, a reference taken and dropped.
pub fn reference(count: u32) -> u64 {
    let slab: Vec<Option<Box<Entry>>> =
        (0..64).map(|generation| Some(Box::new(Entry { generation, count: AtomicU32::new(1) }))).collect();
    time(|| {
        for _ in 0..count {
            let (index, generation) = black_box((17usize, 17u32));
            if let Some(Some(entry)) = slab.get(index)
                && entry.generation == generation
            {
                black_box(entry.count.fetch_add(1, Ordering::AcqRel));
                black_box(entry.count.fetch_sub(1, Ordering::AcqRel));
            }
        }
    })
}

/// A block from the allocator, zeroed and given back.
pub fn irp(count: u32) -> u64 {
    let layout = Layout::from_size_align(IRP_BYTES, 16).expect("a size and an alignment that fit");
    time(|| {
        for _ in 0..count {
            // SAFETY: 1. The layout's size is not 0. 2. The block is written within its size, and only if there is one.
            //         3. It is given back once, with the layout it was made with.
            unsafe {
                let block = alloc(layout);
                if !block.is_null() {
                    ptr::write_bytes(block, 0, IRP_BYTES);
                    dealloc(black_box(block), layout);
                }
            }
        }
    })
}

/// What a loop of connects took.
#[derive(Clone, Copy, Debug)]
pub struct Connects {
    /// Processor time of this thread.
    pub cpu_ns: f64,
    /// Ticks of the last tenth.
    pub last_tenth: u64,
}

/// How a loop of connects parts with each peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// By closing the socket: the peer learns it, and nobody waits for its answer.
    Close,
    /// As a RELEASE does: it ends its direction, waits until the peer has ended the other one, and closes.
    Release,
}

/// Socket, connect, and what the parting takes.
pub fn connect(port: u16, ports: u16, count: u32, parting: Parting) -> Result<Connects> {
    let last_from = count - count / 10;
    let (cpu, mut from) = (thread_cpu_ns()?, 0);
    for index in 0..count {
        if index == last_from {
            from = ticks();
        }
        let port = port + (index % u32::from(ports)) as u16;
        let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let mut stream = connected.with_context(|| format!("connect number {index}"))?;
        if parting == Parting::Release {
            stream.shutdown(Shutdown::Write)?;
            while stream.read(&mut [0; 64])? > 0 {}
        }
    }
    Ok(Connects { cpu_ns: thread_cpu_ns()? - cpu, last_tenth: ticks() - from })
}

/// A byte there and back; ticks of the middle round trip.
pub fn echo(port: u16, count: u32) -> Result<u64> {
    let mut stream = connected(port)?;
    let mut samples = Vec::with_capacity(count as usize);
    let mut byte = [0];
    for _ in 0..count {
        let from = ticks();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        samples.push(ticks() - from);
    }
    samples.sort_unstable();
    Ok(samples[samples.len() / 2])
}

/// Processor time of sends of 64 KiB.
pub fn send(port: u16, count: u32) -> Result<f64> {
    let mut stream = connected(port)?;
    let buffer = vec![0; TRANSFER_BYTES];
    let cpu = thread_cpu_ns()?;
    for _ in 0..count {
        stream.write_all(&buffer)?;
    }
    Ok(thread_cpu_ns()? - cpu)
}

/// Processor time of receives until as many bytes have come as `count` buffers hold.
pub fn receive(port: u16, count: u32) -> Result<f64> {
    let mut stream = connected(port)?;
    let mut buffer = vec![0; TRANSFER_BYTES];
    let mut left = count as usize * TRANSFER_BYTES;
    let cpu = thread_cpu_ns()?;
    while left > 0 {
        match stream.read(&mut buffer)? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            bytes => left = left.saturating_sub(bytes),
        }
    }
    Ok(thread_cpu_ns()? - cpu)
}

fn connected(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("the peer")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn thread_cpu_ns() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}
