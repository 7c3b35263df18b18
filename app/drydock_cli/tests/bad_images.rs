//! Files that are no drivers for this machine: a clear message each, exit status 2, never a crash or a hang.

mod scenario;

use std::fs;
use std::path::PathBuf;

use scenario::{Run, sample};

/// The sample `hello.sys`, changed.
fn changed(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut image = fs::read(sample("hello.sys")).expect("the sample");
    change(&mut image);
    let file = scenario::folder("bad-images").join(name);
    fs::write(&file, image).expect("the image");
    file
}

/// Offset of the PE header.
fn pe(image: &[u8]) -> usize {
    u32::from_le_bytes([image[0x3C], image[0x3D], image[0x3E], image[0x3F]]) as usize
}

/// The failure must name the file and contain one of these words.
#[track_caller]
fn assert_refused(image: PathBuf, words: &[&str]) {
    let name = image.file_name().expect("a name").to_string_lossy().into_owned();
    let ran = Run::of(&image).run().expect("driver_failed", 2);
    let failure = ran.verdict["failure"].as_str().expect("a failure").to_lowercase();
    assert!(failure.contains(&name), "{failure}");
    assert!(words.iter().any(|word| failure.contains(word)), "{failure}");
}

#[test]
fn file_that_is_no_image_is_refused() {
    assert_refused(changed("text.sys", |image| *image = b"#!/bin/sh\n".repeat(100)), &["pe", "mz", "image"]);
    assert_refused(changed("empty.sys", Vec::clear), &["pe", "mz", "empty", "short"]);
    assert_refused(
        changed("signature.sys", |image| {
            let at = pe(image);
            image[at] = b'X';
        }),
        &["pe"],
    );
}

#[test]
fn image_cut_short_anywhere_is_refused() {
    let whole = fs::read(sample("hello.sys")).expect("the sample").len();
    let sections_end = whole * 9 / 10;
    for length in [1, 0x3F, 0x80, 0x100, 0x200, 0x400, 0x1000, sections_end / 2] {
        let image = changed(&format!("cut-{length}.sys"), |image| image.truncate(length));
        assert_refused(image, &["pe", "mz", "cut off", "short", "beyond"]);
    }
}

#[test]
fn image_for_another_machine_is_refused_by_name() {
    let machine = |name: &str, machine: u16| {
        changed(name, |image| {
            let at = pe(image) + 4;
            image[at..at + 2].copy_from_slice(&machine.to_le_bytes());
        })
    };
    assert_refused(machine("x86.sys", 0x014C), &["x86", "i386", "32-bit"]);
    assert_refused(machine("arm64.sys", 0xAA64), &["arm64"]);
}

#[test]
fn second_driver_that_is_bad_unloads_the_first() {
    let bad = changed("second.sys", |image| image.truncate(10));
    let ran = Run::sample("hello.sys").arg(&bad).run().expect("driver_failed", 2);
    assert!(ran.verdict["failure"].as_str().expect("a failure").contains("second.sys"), "{ran:#?}");
    assert_eq!(ran.findings(), Vec::<&str>::new(), "{ran:#?}");
}

#[test]
fn image_with_any_byte_of_its_headers_changed_never_hangs_or_kills_the_supervisor() {
    let header_end = {
        let image = fs::read(sample("hello.sys")).expect("the sample");
        pe(&image) + 0x188
    };
    for offset in (0..header_end).step_by(23) {
        let image = changed("flipped.sys", |image| image[offset] ^= 0xFF);
        let ran = Run::of(image).args(["--timeout", "20"]).run();
        assert!(matches!(ran.status, Some(0..=2)), "offset {offset:#x}: {ran:#?}");
    }
}
