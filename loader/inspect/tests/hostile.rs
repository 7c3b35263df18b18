//! Any file gives a report.

use inspect::{Report, Verdict, inspect};
use proptest::prelude::*;
use test_image::{CODE, CONSTANTS, DATA, TestImage, UNWIND_NOTHING};

fn driver() -> Vec<u8> {
    let mut image = TestImage::new();
    image.imports(&[("ntoskrnl.exe", &["DbgPrint", "Other"]), ("tdi.sys", &["#3"])]);
    image.section(".rdata", b"\\Device\\Tcp\0TransportAddress\0", CONSTANTS);
    let code = b"\x48\x8B\x81\xB8\0\0\0\x66\xC7\x40\xB8\x0F\x07\x44\x0F\x20\xC0\x90\xFA\xC3";
    let text = image.section(".text", code, CODE);
    image.entry = text;
    image.functions(&[(text, text + 20, UNWIND_NOTHING)]);
    image.exports("test.sys", &[("Export", text)]);
    let pointer = image.section(".data", &image.base.to_le_bytes(), DATA);
    image.relocations(&[pointer]);
    image.build()
}

/// Everything that can be done with a report.
fn use_up(report: &Report) {
    assert!(report.to_string().starts_with(&report.name));
    assert!(serde_json::to_string(report).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn image_with_changed_bytes_gives_a_report_that_agrees_with_loading_it(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u32>(), any::<bool>()), 1..6),
    ) {
        let mut file = driver();
        for (at, word, in_headers) in changes {
            let at = at.index(if in_headers { 0x400 } else { file.len() - 4 });
            file[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        let report = inspect(&file, "x.sys", &|_, _| None);
        let loaded = pe_image::load(&file, "x.sys", &pe_image::LoadOptions::new(&|_, _| None));
        prop_assert_eq!(matches!(report.verdict, Verdict::Refused { .. }), loaded.is_err());
        use_up(&report);
    }

    #[test]
    fn any_bytes_give_a_report(bytes in any::<Vec<u8>>(), begins in any::<bool>()) {
        let file = if begins { [b"MZ", &bytes[..]].concat() } else { bytes };
        use_up(&inspect(&file, "x", &|_, _| None));
    }
}

#[test]
fn image_cut_off_anywhere_gives_a_report() {
    let file = driver();
    for length in 0..file.len() {
        use_up(&inspect(&file[..length], "x", &|_, _| None));
    }
}
