//! Every image in a folder that somebody else compiled goes through inspection and the loader.
//!
//! The environment variable `DRYDOCK_CORPUS` names the folder; `cargo xtask soak` fills one with the images of Debian's
//! wine packages. Each image has a process of its own, so a crash or a hang is told by the image's name, and none
//! uses up what a run has of imports and images.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use inspect::{Verdict, inspect};
use pe_image::{LoadOptions, load};

const CORPUS: &str = "DRYDOCK_CORPUS";
/// Names the image that a child of this test judges.
const IMAGE: &str = "DRYDOCK_CORPUS_IMAGE";
const TEST: &str = "every_image_of_the_corpus_is_judged_and_loaded_or_refused";
/// How long one image may take; only there so that a hang ends.
const PATIENCE: Duration = Duration::from_secs(300);
/// Memory that one image may take, beside what its file and the image itself need several times.
const MEMORY_MAX_KIB: u64 = 64 << 10;

#[test]
fn every_image_of_the_corpus_is_judged_and_loaded_or_refused() {
    if let Some(image) = std::env::var_os(IMAGE) {
        return judge(Path::new(&image));
    }
    // Nothing to do where nobody asked for it: the folder is hundreds of megabytes.
    let Some(folder) = std::env::var_os(CORPUS) else { return };
    let images = images(Path::new(&folder));
    assert!(!images.is_empty(), "{CORPUS}={} holds no PE images", folder.display());

    let (next, failures) = (Mutex::new(images.iter()), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(image) = next.lock().expect("no worker panics").next() else { break };
                    if let Err(reason) = judge_in_a_child(image) {
                        failures.lock().expect("no worker panics").push(format!("{}: {reason}", image.display()));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no worker panics");
    assert!(failures.is_empty(), "{} of {} images:\n{}", failures.len(), images.len(), failures.join("\n"));
    println!("{} images", images.len());
}

/// The files under a folder that begin like an image.
fn images(folder: &Path) -> Vec<PathBuf> {
    let mut images = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let entry = entry.expect("an entry of a folder");
            let kind = entry.file_type().expect("the kind of an entry");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && begins_like_an_image(&entry.path()) {
                images.push(entry.path());
            }
        }
    }
    images.sort();
    images
}

fn begins_like_an_image(path: &Path) -> bool {
    let mut beginning = [0; 2];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut beginning)).is_ok() && &beginning == b"MZ"
}

fn judge_in_a_child(image: &Path) -> Result<(), String> {
    let exe = std::env::current_exe().expect("this test's executable");
    let mut child = Command::new(exe);
    child.args([TEST, "--exact", "--test-threads=1"]).env(IMAGE, image).stdin(Stdio::null());
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a child");
    let start = Instant::now();
    let status = loop {
        match child.try_wait().expect("the child's state") {
            Some(status) => break status,
            None if start.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("not done after {PATIENCE:?}"));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let mut output = String::new();
    // What a failing test says is far less than a pipe holds.
    let _ = child.stdout.take().expect("a pipe").read_to_string(&mut output);
    if status.success() { Ok(()) } else { Err(format!("{status}\n{output}")) }
}

/// What a child does.
fn judge(path: &Path) {
    let file = fs::read(path).expect("a readable image");
    let before = peak_memory_kib();
    let report = inspect(&file, "image", &|_, _| None);
    assert!(!report.to_string().is_empty() && serde_json::to_string(&report).is_ok());
    let loaded = load(&file, "image", &LoadOptions::new(&|_, _| None));
    let refusal = loaded.as_ref().err();
    assert_eq!(
        matches!(report.verdict, Verdict::Refused { .. }),
        refusal.is_some(),
        "{:?} {refusal:?}",
        report.verdict
    );
    // The file read as an image, the image mapped, and tables about it, some of them per byte of code.
    let image_size = report.image.map_or(0, |image| u64::from(image.image_size));
    let memory_max = MEMORY_MAX_KIB + 4 * (file.len() as u64 + image_size) / 1024;
    let used = peak_memory_kib() - before;
    assert!(used < memory_max, "{used} KiB for a file of {} bytes and {image_size} in memory", file.len());
}

fn peak_memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this process's state");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak of memory");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}
