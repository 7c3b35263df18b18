//! What becomes of a valid image.

use std::fs;

use gate::export::ExportKind;
use proves::proves;
use test_image::{CODE, DATA, TestImage};

use super::{RETURN_ZERO, TABLE, driver, load_file, load_image, word};
use crate::{Forwarder, LoadOptions, MissingImport, Warning, load, map};

/// The access that the kernel says a page has, such as `r-xp`.
fn access(address: u64) -> String {
    let maps = fs::read_to_string("/proc/self/maps").expect("a list of mappings");
    let line = maps.lines().find(|line| {
        let (start, end) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')).expect("a range");
        let hex = |text| u64::from_str_radix(text, 16).expect("an address");
        (hex(start)..hex(end)).contains(&address)
    });
    line.and_then(|line| line.split(' ').nth(1)).unwrap_or("----").to_owned()
}

#[test]
fn pages_get_the_access_that_their_sections_ask_for_and_generated_code_cannot_be_written() {
    let mut image = TestImage::new();
    let slots = image.imports(&[("ntoskrnl.exe", &["Answer"])]);
    let data = image.section(".data", b"data", DATA);
    image.entry = image.section(".text", RETURN_ZERO, CODE);
    let file = image.build();
    let image = load_file(&file).expect("a valid image");
    assert_eq!(access(image.base()), "r--p", "headers");
    assert_eq!(access(image.base() + u64::from(data)), "rw-p", "data");
    assert_eq!(access(image.entry()), "r-xp", "code");
    assert_eq!(access(word(image.base() + u64::from(slots[0]))), "r-xp", "stubs");
}

#[test]
fn addresses_are_relocated_to_where_the_image_lies() {
    let mut image = TestImage::new();
    let at = image.section(".data", &(image.base + 0x1008).to_le_bytes(), DATA);
    image.relocations(&[at]);
    image.entry = image.section(".text", RETURN_ZERO, CODE);
    let loaded = load_image(&image).expect("a valid image");
    assert_ne!(loaded.base(), image.base, "the test would show nothing");
    assert_eq!(word(loaded.base() + u64::from(at)), loaded.base() + 0x1008);
}

#[test]
#[proves("K-208")]
fn imports_are_bound_to_stubs_cells_other_drivers_and_names_nobody_has_to_places_of_their_own() {
    let mut image = TestImage::new();
    let slots = image.imports(&[
        ("NTOSKRNL.EXE", &["Answer", "Cell", "IoNobodyHasThis"]),
        ("helper.sys", &["HelperCall"]),
        ("HAL.dll", &["#3"]),
    ]);
    image.entry = image.section(".text", RETURN_ZERO, CODE);
    let file = image.build();
    let drivers = |module: &str, name: &str| (module == "helper.sys" && name == "HelperCall").then_some(0x1234_5678);
    let options = LoadOptions { drivers: &drivers, ..LoadOptions::new(&super::kernel) };
    let image = load(&file, "bound.sys", &options).expect("a valid image");
    let [answer, cell, nobody, helper, ordinal] = slots[..] else { panic!("five slots") };
    let bound = |slot: u32| word(image.base() + u64::from(slot));
    let generated = image.base() + u64::from(image.size())..image.base() + image.mapping.size();
    assert!(generated.contains(&bound(answer)), "a stub behind the image");
    assert_eq!((access(bound(nobody)), access(bound(ordinal))), ("---p".to_owned(), "---p".to_owned()));
    assert_ne!(bound(nobody), bound(ordinal));
    let ExportKind::Data(cell_of) = TABLE[1].kind else { panic!("a cell") };
    assert_eq!(bound(cell), cell_of());
    assert_eq!(bound(helper), 0x1234_5678);
    let missing = |module: &str, name: &str| MissingImport { module: module.to_owned(), name: name.to_owned() };
    assert_eq!(image.missing(), [missing("NTOSKRNL.EXE", "IoNobodyHasThis"), missing("HAL.dll", "#3")]);
}

#[test]
fn exports_are_found_by_name_and_ordinal_and_forwarded_ones_say_where() {
    let mut image = TestImage::new();
    let text = image.section(".text", RETURN_ZERO, CODE);
    image.entry = text;
    // An offset inside the export table means "look elsewhere": to what the module's name is written as here, and to
    // what cannot be read.
    let module = image.next() + 40 + 3 * 10;
    image.exports("helper.There", &[("Here", text), ("Elsewhere", module), ("Nowhere", module + 7)]);
    let mapped = map(&image.build(), "test.sys", None).expect("a valid image");
    let forwarder = Forwarder { module: "helper".into(), name: "There".into() };
    let forwarded = [("#1".to_owned(), forwarder.clone()), ("Elsewhere".to_owned(), forwarder)];
    assert_eq!(mapped.exports().forwarded, forwarded.into());
    assert_eq!(mapped.base() + u64::from(mapped.exports().named["Here"]), mapped.base() + u64::from(text));
    drop(mapped);
    let image = load_image(&image).expect("a valid image");
    assert_eq!(image.export("Here"), Some(image.entry()));
    assert_eq!(image.export("#2"), Some(image.entry()), "ordinals begin at 1 here");
    assert_eq!(image.export("Elsewhere"), None);
    assert_eq!(image.export("Nowhere"), None);
    assert_eq!(image.export_names().collect::<Vec<_>>(), ["Here"]);
}

#[test]
fn images_are_mapped_before_they_are_bound_so_two_can_import_from_one_another() {
    let one = |own: &str, other: (&str, &str)| {
        let mut image = TestImage::new();
        let slots = image.imports(&[(other.0, &[other.1])]);
        image.entry = image.section(".text", RETURN_ZERO, CODE);
        image.exports("any", &[(own, image.entry)]);
        (image.build(), slots[0])
    };
    let (first, first_slot) = one("First", ("second.sys", "Second"));
    let (second, second_slot) = one("Second", ("first.sys", "First"));
    let first = map(&first, "first.sys", None).expect("a valid image");
    let second = map(&second, "second.sys", None).expect("a valid image");
    let exported: Vec<_> =
        [&first, &second].map(|image| (image.name(), image.base(), image.exports().clone())).into_iter().collect();
    let drivers = |module: &str, name: &str| {
        let (_, base, exports) = exported.iter().find(|(image, _, _)| *image == module)?;
        exports.get(name).map(|offset| base + u64::from(offset))
    };
    let options = LoadOptions { drivers: &drivers, ..LoadOptions::new(&super::kernel) };
    let first = first.bind(&options).expect("room");
    let second = second.bind(&options).expect("room");
    assert_eq!(word(first.base() + u64::from(first_slot)), second.entry());
    assert_eq!(word(second.base() + u64::from(second_slot)), first.entry());
    assert_eq!((first.missing(), second.missing()), (&[][..], &[][..]));
}

#[test]
fn thread_local_storage_and_delayed_imports_are_warned_of_and_left_alone() {
    let mut image = TestImage::new();
    image.entry = image.section(".text", RETURN_ZERO, CODE);
    let data = image.section(".data", &[0xEE; 64], DATA);
    image.directory(9, data, 40);
    image.directory(13, data, 32);
    let image = load_image(&image).expect("a valid image");
    assert_eq!(image.warnings(), [Warning::ThreadLocalStorage, Warning::DelayedImports]);
    assert_eq!(word(image.base() + u64::from(data)), 0xEEEE_EEEE_EEEE_EEEE);
}

fn with_cookie(value: u64) -> (Vec<u8>, u32) {
    let mut image = TestImage::new();
    let cookie = image.section(".data", &value.to_le_bytes(), DATA);
    let named_at = image.load_configuration(cookie);
    image.relocations(&[named_at]);
    image.entry = image.section(".text", RETURN_ZERO, CODE);
    (image.build(), cookie)
}

#[test]
#[proves("K-011")]
fn security_cookie_with_its_default_gets_a_value_and_another_is_kept() {
    for (value, is_default) in [(0x0000_2B99_2DDF_A232, true), (0, true), (0x1234, false)] {
        let (file, cookie) = with_cookie(value);
        let image = load_file(&file).expect("a valid image");
        let now = word(image.base() + u64::from(cookie));
        assert_eq!(now != value, is_default, "{value:#x} became {now:#x}");
        assert_eq!(now >> 48, 0, "cookies have 48 bits");
    }
}

#[test]
#[proves("K-011")]
fn security_cookie_is_repeated_with_a_seed_and_random_without() {
    let (file, cookie) = with_cookie(0);
    let value = |seed| {
        let image = load(&file, "c.sys", &LoadOptions { seed, ..LoadOptions::new(&super::kernel) }).expect("valid");
        word(image.base() + u64::from(cookie))
    };
    assert_eq!(value(Some(7)), value(Some(7)));
    assert_ne!(value(Some(7)), value(Some(8)));
    assert_ne!(value(None), value(None));
}

#[test]
fn image_of_another_subsystem_is_loaded_with_a_warning() {
    let mut image = driver();
    image.subsystem = 3;
    let image = load_image(&image).expect("a valid image");
    assert_eq!(image.warnings(), [Warning::NotNative(3)]);
}

#[test]
fn dll_and_large_address_flags_do_not_matter() {
    let mut image = driver();
    image.characteristics |= 0x2000 | 0x20;
    assert_eq!(load_image(&image).expect("a valid image").warnings(), []);
}

#[test]
fn image_without_relocations_that_says_it_has_none_to_make_is_loaded() {
    let mut image = TestImage::new();
    image.entry = image.section(".text", RETURN_ZERO, CODE);
    assert!(load_image(&image).is_ok());
}

#[test]
fn slice_of_a_file_need_not_be_aligned() {
    let file = [&[0], &driver().build()[..]].concat();
    assert!(load_file(&file[1..]).is_ok());
}
