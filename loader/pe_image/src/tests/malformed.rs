//! Images with one lie in them each: refused with a reason, never a crash.

use test_image::{CODE, DATA, OPTIONAL_HEADER, PE_HEADER, TestImage};

use super::{RETURN_ZERO, driver, load_file, load_image};
use crate::ImageError;

#[track_caller]
fn reason(file: &[u8]) -> String {
    let error = load_file(file).expect_err("the image is damaged");
    let text = error.to_string();
    // Every message says what is the matter in words that fit behind "x.sys: ".
    assert!(text.len() > 20 && !text.ends_with('.'), "{text}");
    text
}

/// A driver whose bytes at an offset of the file are others.
fn with_bytes(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = driver().build();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn valid_driver_is_loaded() {
    let image = load_image(&driver()).expect("the tests below change one thing in this");
    assert_eq!(image.missing().len(), 2);
    assert_eq!(image.patches().irql, 1);
}

#[test]
fn file_cut_off_anywhere_is_refused() {
    let file = driver().build();
    // What fills the last section up to its alignment in the file is not needed.
    let end = file.iter().rposition(|&byte| byte != 0).expect("a byte") + 1;
    for length in 0..end {
        reason(&file[..length]);
    }
    assert!(matches!(load_file(&file[..0x30]), Err(ImageError::Truncated { what: "MZ header", .. })));
    assert!(matches!(load_file(&file[..0x50]), Err(ImageError::Truncated { what: "PE header", .. })));
    assert!(matches!(load_file(&file[..0x90]), Err(ImageError::Truncated { what: "optional header", .. })));
    assert!(matches!(load_file(&file[..0x180]), Err(ImageError::Truncated { what: "section table", .. })));
    assert!(matches!(load_file(&file[..end - 1]), Err(ImageError::Truncated { what: "sections", .. })));
}

#[test]
fn other_files_are_told_from_images() {
    assert!(matches!(load_file(b""), Err(ImageError::NotExecutable)));
    assert!(matches!(load_file(b"\x7FELF and so on"), Err(ImageError::NotExecutable)));
    assert!(matches!(load_file(b"PK\x03\x04"), Err(ImageError::NotExecutable)));
    assert!(matches!(load_file(&with_bytes(PE_HEADER, b"NE")), Err(ImageError::NotPortableExecutable)));
}

#[test]
fn images_for_other_processors_are_named() {
    for (machine, is_64_bit, words) in [
        (0x014C, false, "32-bit (x86)"),
        (0xAA64, true, "ARM64"),
        (0x01C4, false, "32-bit ARM"),
        (0x5064, true, "0x5064"),
    ] {
        let mut image = driver();
        (image.machine, image.is_64_bit) = (machine, is_64_bit);
        let text = reason(&image.build());
        assert!(text.contains(words) && text.contains("use the x64 build"), "{text}");
    }
}

#[test]
fn header_of_the_wrong_kind_is_refused() {
    let mut image = driver();
    image.is_64_bit = false;
    assert!(matches!(load_image(&image), Err(ImageError::Not64Bit)));
    assert!(matches!(load_file(&with_bytes(OPTIONAL_HEADER, &[7, 1])), Err(ImageError::BadHeader(_))), "a ROM image");
    let size_of_optional_header = PE_HEADER + 20;
    assert!(matches!(load_file(&with_bytes(size_of_optional_header, &[8, 0])), Err(ImageError::BadHeader(_))));
    assert!(matches!(load_file(&with_bytes(size_of_optional_header, &[0, 0])), Err(ImageError::BadHeader(_))));
    assert!(matches!(load_file(&with_bytes(size_of_optional_header, &[0xFF; 2])), Err(ImageError::Truncated { .. })));
    assert!(
        matches!(load_file(&with_bytes(0x3C, &[0xFF; 4])), Err(ImageError::Truncated { .. })),
        "no PE header there"
    );
}

#[test]
fn object_file_is_refused() {
    let mut image = driver();
    image.characteristics = 0;
    assert!(matches!(load_image(&image), Err(ImageError::NotLinked)));
}

#[test]
fn sizes_that_contradict_each_other_are_refused() {
    for (size, what) in [(0, "nothing"), (0x200, "less than the headers")] {
        let mut image = driver();
        image.size = Some(size);
        assert!(matches!(load_image(&image), Err(ImageError::BadHeader(_))), "{what}");
    }
    let mut image = driver();
    image.size = Some(image.next() - 0x1000);
    assert!(matches!(load_image(&image), Err(ImageError::BadSection(_))), "the last section does not fit");
    image.size = Some(u32::MAX);
    assert!(matches!(load_image(&image), Err(ImageError::TooLarge(_))));
    let size_of_headers = OPTIONAL_HEADER + 60;
    assert!(matches!(load_file(&with_bytes(size_of_headers, &[0xFF, 0xFF, 0xFF, 0])), Err(ImageError::BadHeader(_))));
}

#[test]
fn large_image_takes_no_memory_for_what_the_file_does_not_fill() {
    let mut image = TestImage::new();
    image.entry = image.section(".text", RETURN_ZERO, CODE);
    let next = image.next();
    image.section_at(next, ".bss", &[], 500 << 20, DATA);
    let loaded = load_image(&image).expect("a valid image");
    assert_eq!(loaded.size(), next + (500 << 20));
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("a list of mappings");
    let start = format!("{:x}-", loaded.base() + u64::from(next));
    let mapping = maps.lines().skip_while(|line| !line.starts_with(&start));
    let resident = mapping.into_iter().find(|line| line.starts_with("Rss:")).expect("the section's mapping");
    assert_eq!(resident.split_whitespace().nth(1), Some("0"), "{resident}");
}

#[test]
fn sections_over_each_other_or_outside_are_refused() {
    let cases: [(&str, u32, u32); 4] = [
        ("over the section in front", 0x1000, 0x1000),
        ("over the headers", 0x200, 0x100),
        ("behind the end", 0x10_0000, 0x1000),
        ("an end that overflows", 0xFFFF_F000, 0x2000),
    ];
    for (what, offset, size) in cases {
        let mut image = TestImage::new();
        image.entry = image.section(".text", &[0xC3; 0x1800], CODE);
        image.section_at(offset, ".evil", b"x", size, DATA);
        image.size = Some(0x4000);
        let text = reason(&image.build());
        assert!(text.contains("\".evil\""), "{what}: {text}");
    }
}

#[test]
fn section_that_the_file_does_not_hold_is_refused() {
    let image = driver();
    let mut file = image.build();
    let pointer_to_raw_data = image.section_header(0) + 20;
    file[pointer_to_raw_data..pointer_to_raw_data + 4].copy_from_slice(&[0xF0, 0xFF, 0xFF, 0xFF]);
    assert!(matches!(load_file(&file), Err(ImageError::Truncated { what: "sections", .. })));
}

#[test]
fn more_sections_than_windows_takes_are_refused() {
    let number_of_sections = PE_HEADER + 6;
    assert!(matches!(load_file(&with_bytes(number_of_sections, &[97, 0])), Err(ImageError::BadHeader(_))));
}

#[test]
fn entry_outside_of_code_is_refused() {
    for entry in [0, 0x10, 0x1000, 0xFFFF_FFFF] {
        let mut image = driver();
        image.entry = entry;
        assert!(matches!(load_image(&image), Err(ImageError::NoEntryPoint)), "{entry:#x}");
    }
}

#[test]
fn image_that_cannot_be_moved_is_refused_with_what_to_do() {
    let mut image = driver();
    image.characteristics |= 1;
    let text = reason(&image.build());
    assert!(text.contains("--dynamicbase") && text.contains("/FIXED:NO"), "{text}");
}

/// A driver with a table of relocations made of these words.
fn with_relocations(table: &[u32]) -> Vec<u8> {
    let mut image = TestImage::new();
    image.entry = image.section(".text", RETURN_ZERO, CODE);
    let table: Vec<_> = table.iter().flat_map(|word| word.to_le_bytes()).collect();
    let start = image.section(".rel2", &table, DATA);
    image.directory(5, start, table.len() as u32);
    image.build()
}

#[test]
fn relocation_blocks_of_a_wrong_size_are_refused() {
    for size in [1, 7, 0, 9, 0x1000, u32::MAX] {
        let file = with_relocations(&[0x1000, size, 0]);
        assert!(matches!(load_file(&file), Err(ImageError::BadTable("relocation table"))), "{size}");
    }
    assert!(load_file(&with_relocations(&[0, 0, 0, 0])).is_ok(), "zeros fill the table up");
    assert!(load_file(&with_relocations(&[0x1000, 8])).is_ok(), "an empty block");
}

#[test]
fn relocations_of_a_wrong_kind_or_place_are_refused() {
    let cases = [(0x1000, 0x3000), (0x1000, 0x1000), (0x1000, 0xF000), (0xFFFF_F000, 0xAFFF), (0x7FFF_F000, 0xA000)];
    for (page, entry) in cases {
        let file = with_relocations(&[page, 12, entry]);
        assert!(matches!(load_file(&file), Err(ImageError::BadRelocation { .. })), "{page:#x} {entry:#x}");
    }
}

#[test]
fn tables_outside_of_the_image_are_refused() {
    for table in [0, 1, 3, 5, 10] {
        for (offset, size) in [(0xFFFF_FFF0, 0x100), (0x10_0000, 0x10), (0x7FFF_FFFF, u32::MAX)] {
            let mut image = driver();
            image.directory(table, offset, size);
            let text = reason(&image.build());
            assert!(text.contains("cannot be read"), "table {table}: {text}");
        }
    }
}

/// A driver whose table of imports, otherwise valid, has another word in it.
fn with_import_word(at: usize, word: u32) -> Vec<u8> {
    let mut image = TestImage::new();
    image.imports(&[("ntoskrnl.exe", &["Answer"])]);
    image.entry = image.section(".text", RETURN_ZERO, CODE);
    let mut file = image.build();
    let at = test_image::HEADERS as usize + at;
    file[at..at + 4].copy_from_slice(&word.to_le_bytes());
    file
}

#[test]
fn imports_that_lead_outside_are_refused() {
    for (what, at) in [("names", 0), ("module", 12), ("slots", 16), ("name", 40)] {
        for word in [0x10_0000, 0x7FFF_FFF0, 0xFFFF_FFFF] {
            let result = load_file(&with_import_word(at, word));
            assert!(matches!(result, Err(ImageError::BadTable("import table"))), "{what} at {word:#x}: {result:?}");
        }
    }
}

#[test]
fn import_name_without_an_end_is_refused() {
    let mut image = TestImage::new();
    let name = "A".repeat(600);
    image.imports(&[("ntoskrnl.exe", &[&name])]);
    image.entry = image.section(".text", RETURN_ZERO, CODE);
    assert!(matches!(load_image(&image), Err(ImageError::BadTable("import table"))));
}

#[test]
fn more_imports_than_a_run_can_have_are_refused() {
    let mut image = TestImage::new();
    // A list of 70,000 times the same ordinal.
    let start = image.next();
    let mut table = vec![0; 40];
    let list = start + 48;
    table[..4].copy_from_slice(&list.to_le_bytes());
    table[12..16].copy_from_slice(&(start + 40).to_le_bytes());
    table[16..20].copy_from_slice(&list.to_le_bytes());
    table.extend(b"hal.dll\0");
    table.extend((1u64 << 63 | 5).to_le_bytes().repeat(70_000));
    table.extend([0; 8]);
    image.section(".idata", &table, DATA);
    image.directory(1, start, 40);
    image.entry = image.section(".text", RETURN_ZERO, CODE);
    assert!(matches!(load_image(&image), Err(ImageError::TooManyImports)));
}

#[test]
fn exports_that_lead_outside_are_refused() {
    for at in (0x14..0x28).step_by(4) {
        let mut image = TestImage::new();
        let text = image.section(".text", RETURN_ZERO, CODE);
        image.entry = text;
        image.exports("test.sys", &[("Here", text)]);
        let mut file = image.build();
        let table = test_image::HEADERS as usize + 0x200;
        file[table + at..table + at + 4].copy_from_slice(&0xFFF_FFF0u32.to_le_bytes());
        assert!(matches!(load_file(&file), Err(ImageError::BadTable("export table"))), "{at:#x}");
    }
}

#[test]
fn cookie_outside_of_the_image_is_refused() {
    let mut image = driver();
    let named_at = image.load_configuration(0x10_0000);
    image.relocations(&[named_at]);
    assert!(matches!(load_image(&image), Err(ImageError::BadTable("security cookie"))));
}

#[test]
fn functions_over_each_other_are_left_out() {
    let mut image = TestImage::new();
    let text = image.section(".text", &[0x90; 64], CODE);
    image.entry = text;
    let nothing = test_image::UNWIND_NOTHING;
    // Backwards, over another, and far outside.
    let ranges = [(text + 9, text), (text, text + 20), (text + 10, text + 30), (text, 0xFFFF_FFFF)];
    image.functions(&ranges.map(|(begin, end)| (begin, end, nothing)));
    assert!(load_image(&image).is_ok());
}
