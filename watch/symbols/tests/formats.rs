//! The same driver with DWARF and with a PDB, as clang and lld write them.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::read::pe::PeFile64;
use pdb2::{FallibleIterator, PDB};
use symbols::Symbols;

const SOURCE: &str = "driver.c";

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output();
    let done = done.unwrap_or_else(|error| panic!("{program} (apt-get install clang-19 lld-19): {error}"));
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Builds the driver in a folder of its own and gives its path.
fn build(name: &str, target: &str, debug: &[&str], link: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(SOURCE);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&out).expect("a folder");
    let (object, image) = (out.join("driver.obj"), out.join("driver.sys"));
    let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let target = format!("--target={target}");
    let flags = ["-O1", "-fms-extensions", "-ffreestanding", "-c", "-o"];
    run("clang-19", &[&[target.as_str()][..], debug, &flags[..], &[&text(&object), &text(&source)]].concat());
    let output = format!("/out:{}", text(&image));
    let linked =
        ["/driver", "/subsystem:native", "/entry:DriverEntry", "/nodefaultlib", "/export:first", "/export:second"];
    run("lld-link-19", &[&linked[..], link, &[&output, &text(&object)]].concat());
    image
}

fn export(image: &[u8], name: &str) -> u64 {
    let file = PeFile64::parse(image).expect("an image");
    let exports = file.export_table().expect("a table").expect("exports").exports().expect("a list");
    let export = exports.into_iter().find(|export| export.name == Some(name.as_bytes())).expect("the export");
    match export.target {
        object::read::pe::ExportTarget::Address(address) => u64::from(address),
        other => panic!("{name} is {other:?}"),
    }
}

fn check(image: &Path) {
    let bytes = fs::read(image).expect("the driver");
    let (image, pdb) = symbols::files(image).expect("a readable driver");
    let symbols = Symbols::new(&image, pdb).expect("symbols");
    for (name, lines) in [("first", 1..=3), ("second", 5..=9)] {
        let place = symbols.place(export(&bytes, name)).expect("a place");
        assert_eq!(place.function.as_deref(), Some(name));
        assert!(place.file.as_deref().is_some_and(|file| file.ends_with(SOURCE)), "{place:?}");
        assert!(place.line.is_some_and(|line| lines.contains(&line)), "{place:?}");
    }
    assert_eq!(symbols.place(0x10), None, "headers are no code");
    assert_eq!(symbols.place(u64::MAX), None);
}

#[test]
fn places_are_found_in_dwarf() {
    check(&build("dwarf", "x86_64-pc-windows-gnu", &["-gdwarf-4"], &["/debug:dwarf"]));
}

#[test]
fn places_are_found_in_a_pdb_beside_the_image() {
    let image = build("pdb", "x86_64-pc-windows-msvc", &["-g", "-gcodeview"], &["/debug"]);
    assert!(image.with_extension("pdb").exists());
    check(&image);
}

#[test]
fn pdb_of_another_build_is_not_believed() {
    let link = ["/debug"];
    let old = build("old", "x86_64-pc-windows-msvc", &["-g", "-gcodeview"], &link);
    let new = build("new", "x86_64-pc-windows-msvc", &["-g", "-gcodeview", "-DMORE"], &link);
    let (image, pdb) = (fs::read(new).expect("the driver"), fs::read(old.with_extension("pdb")).expect("the PDB"));
    assert!(Symbols::new(&image, Some(pdb)).is_none());
}

#[test]
fn pipe_under_the_name_of_a_pdb_is_not_read() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pipe");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    let (image, pipe) = (folder.join("driver.sys"), folder.join("driver.pdb"));
    fs::write(&image, b"image").expect("an image");
    run("mkfifo", &[pipe.to_str().expect("a plain path")]);
    // Whoever reads the pipe gets something, and does not hang. If nobody does, the thread ends with the test's process.
    std::thread::spawn(move || fs::write(pipe, b"from the pipe"));
    assert_eq!(symbols::files(&image).expect("the image"), (b"image".to_vec(), None));
    assert!(symbols::files(&folder).is_err());
}

/// Where each module of a PDB says how long its parts are: bytes of symbols, of old lines, of lines.
fn module_lengths(pdb: &[u8]) -> Vec<usize> {
    let mut read = PDB::open(Cursor::new(pdb)).expect("a PDB");
    let information = read.debug_information().expect("debug information");
    let lengths = information.modules().expect("modules").map(|module| {
        let info = module.info();
        Ok([info.symbols_size, info.lines_size, info.c13_lines_size].map(u32::to_le_bytes).concat())
    });
    let lengths: Vec<Vec<u8>> = lengths.collect().expect("modules");
    let place = |lengths: &Vec<u8>| pdb.windows(12).position(|bytes| bytes == lengths).expect("it was read from here");
    lengths.iter().filter(|lengths| lengths[8..] != [0; 4]).map(place).collect()
}

#[test]
fn modules_longer_than_their_stream_give_no_places() {
    let image = build("damaged-pdb", "x86_64-pc-windows-msvc", &["-g", "-gcodeview"], &["/debug"]);
    let mut pdb = fs::read(image.with_extension("pdb")).expect("the PDB");
    let image = fs::read(image).expect("the driver");
    let modules = module_lengths(&pdb);
    assert!(!modules.is_empty());
    for place in modules {
        pdb[place + 8..place + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    }
    assert!(Symbols::new(&image, Some(pdb)).is_none());
}

#[test]
fn files_that_make_no_sense_give_no_places() {
    assert!(Symbols::new(b"MZ", Some(vec![0; 100])).is_none());
    let image = build("damaged", "x86_64-pc-windows-gnu", &["-gdwarf-4"], &["/debug:dwarf"]);
    let whole = fs::read(&image).expect("the driver");
    // Cut short and scribbled over, it gives whatever it gives, but it answers.
    for step in 1..40 {
        let mut bytes = whole[..whole.len() * step / 40].to_vec();
        let places = bytes.len() / 16;
        for place in 0..places {
            bytes[place * 16] ^= if place % step == 0 { 0x55 } else { 0 };
        }
        if let Some(symbols) = Symbols::new(&bytes, None) {
            (0..0x2000).step_by(64).for_each(|offset| drop(symbols.place(offset)));
        }
    }
}

/// Whatever comes of a damaged file, a panic included, comes soon and takes no memory without end; the process that reads
/// strangers' files is ended by a panic, and nothing else is.
#[test]
fn damaged_files_end_in_places_in_none_or_in_a_panic() {
    let dwarf = build("mutated-dwarf", "x86_64-pc-windows-gnu", &["-gdwarf-4"], &["/debug:dwarf"]);
    let pdb = build("mutated-pdb", "x86_64-pc-windows-msvc", &["-g", "-gcodeview"], &["/debug"]);
    let mut random = 1u64;
    let mut damaged = |whole: &[u8]| {
        let mut bytes = whole.to_vec();
        for _ in 0..16 {
            // Xorshift: any numbers do, but the same in every run.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let place = random as usize % bytes.len();
            bytes[place] = (random >> 32) as u8;
        }
        bytes
    };
    let look = |image: &[u8], pdb: Option<Vec<u8>>| {
        let symbols = std::panic::AssertUnwindSafe(|| {
            let Some(symbols) = Symbols::new(image, pdb) else { return false };
            (0..0x3000).step_by(16).any(|offset| symbols.place(offset).is_some())
        });
        std::panic::catch_unwind(symbols)
    };
    let (dwarf, image) = (fs::read(dwarf).expect("the driver"), fs::read(&pdb).expect("the driver"));
    let pdb = fs::read(pdb.with_extension("pdb")).expect("the PDB");
    let mut ends = [0; 3];
    for _ in 0..300 {
        for end in [look(&damaged(&dwarf), None), look(&image, Some(damaged(&pdb)))] {
            ends[end.map_or(2, usize::from)] += 1;
        }
    }
    // Some damage must go unnoticed and some not, or nothing was tried.
    assert!(ends[0] > 0 && ends[1] > 0, "{ends:?}");
}
