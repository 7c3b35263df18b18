//! Debug information beside an image: it names functions and lines, and damaged it costs nothing but those.

mod scenario;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use scenario::{Ran, Run};

/// Ends in a bugcheck in DriverEntry.
const SOURCE: &str = "int DriverEntry(void *driver, void *path)
{
    *(volatile int *)0x18 = 1;
    return 0;
}
";

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output();
    let done = done.unwrap_or_else(|error| panic!("{program} (apt-get install clang-19 lld-19): {error}"));
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A driver with a PDB beside it, in a folder of its own.
fn driver(name: &str) -> PathBuf {
    let out = scenario::folder(name);
    let [source, object, image] = ["driver.c", "driver.obj", "driver.sys"].map(|name| out.join(name));
    fs::write(&source, SOURCE).expect("a source file");
    let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let compile = ["--target=x86_64-pc-windows-msvc", "-g", "-gcodeview", "-O1", "-ffreestanding", "-c", "-o"];
    run("clang-19", &[&compile[..], &[&text(&object), &text(&source)]].concat());
    let link = ["/driver", "/subsystem:native", "/entry:DriverEntry", "/nodefaultlib", "/debug"];
    run("lld-link-19", &[&link[..], &[&format!("/out:{}", text(&image)), &text(&object)]].concat());
    image
}

/// The bugcheck in DriverEntry, whatever became of its place.
#[track_caller]
fn crashed(image: &Path) -> Ran {
    let ran = Run::of(image).args(["--net", "none"]).run().expect("bugcheck", 2);
    assert_eq!(ran.verdict["bugcheck"]["driver"], "driver.sys", "{ran:#?}");
    assert!(ran.verdict["bugcheck"]["offset"].as_u64().is_some_and(|offset| offset > 0), "{ran:#?}");
    ran
}

fn untold(ran: &Ran) -> String {
    ran.verdict["untold"].to_string()
}

/// Sets the place of the first named stream's name beyond all names.
fn break_stream_names(pdb: &mut [u8]) {
    const VERSION: [u8; 4] = 20_000_404u32.to_le_bytes();
    let word = |pdb: &[u8], at: usize| u32::from_le_bytes(pdb[at..at + 4].try_into().expect("four bytes")) as usize;
    let information =
        pdb.windows(4).position(|bytes| bytes == VERSION).expect("the stream that says what file this is");
    let map = information + 32 + word(pdb, information + 28);
    let deleted = map + 12 + 4 * word(pdb, map + 8);
    let first = deleted + 4 + 4 * word(pdb, deleted);
    pdb[first..first + 4].copy_from_slice(&0x7FFF_FFFFu32.to_le_bytes());
}

#[test]
fn function_and_line_are_named_from_a_pdb() {
    let ran = crashed(&driver("whole"));
    assert_eq!(ran.verdict["bugcheck"]["source"], "DriverEntry (driver.c:3)", "{ran:#?}");
    assert!(!untold(&ran).contains("debug information"), "{ran:#?}");
}

#[test]
fn pdb_that_its_reader_panics_on_costs_its_lines_and_not_the_verdict() {
    let image = driver("broken-names");
    let path = image.with_extension("pdb");
    let mut pdb = fs::read(&path).expect("the PDB");
    break_stream_names(&mut pdb);
    fs::write(&path, pdb).expect("the PDB");
    let ran = crashed(&image);
    assert!(ran.verdict["bugcheck"]["source"].is_null(), "{ran:#?}");
    assert!(untold(&ran).contains("functions and lines in driver.sys are not told"), "{ran:#?}");
    assert!(untold(&ran).contains("its reader was ended by SIGABRT"), "{ran:#?}");
}

#[test]
fn pdb_damaged_anywhere_never_costs_the_verdict() {
    let image = driver("damaged");
    let path = image.with_extension("pdb");
    let whole = fs::read(&path).expect("the PDB");
    for seed in 1..=12u64 {
        let mut pdb = whole.clone();
        let mut random = seed;
        for _ in 0..64 {
            // Xorshift: any numbers do, but the same in every run.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let place = random as usize % pdb.len();
            pdb[place] = (random >> 32) as u8;
        }
        fs::write(&path, pdb).expect("the PDB");
        crashed(&image);
    }
}
