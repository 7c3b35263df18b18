//! The table behind `cargo xtask bench`: what a driver pays for its kernel, as ratios to the same work without one.
//!
//! Each row runs the sample driver `bench.sys` in a dock and, in the same process and pinned to the same processor, its floor: the
//! raw system calls, allocator or atomics that a program without a kernel of its own would use. Both are run in turns and the
//! middle ratio is shown as it is. Absolute figures depend on the machine; only the ratios are meant to be compared.
//!
//! The driver runs on processor 0, the supervisor on processor 1; so does the peer, unless the row says otherwise: wake-ups
//! across processors would hide everything else.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

mod clock;
mod driver;
mod floors;
mod peer;
mod pin;
mod rows;
mod table;

fn main() -> Result<()> {
    drydock::host_entry();
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["peer", role, cpu, ports] => peer::serve(role, cpu.parse()?, ports.parse()?),
        [image, wanted @ ..] => {
            let image = PathBuf::from(image);
            if !image.is_file() {
                bail!("no driver image {}; build it with cargo xtask samples", image.display());
            }
            rows::run(&image, wanted)
        }
        [] => bail!("usage: benches BENCH.sys [ROW...]"),
    }
    .context("bench")
}
