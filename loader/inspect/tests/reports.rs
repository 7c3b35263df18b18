//! Reports about images written by [`test_image`].

use inspect::{
    Blocks, Checksum, ExportInfo, ImportReport, ImportState, NameKind, Report, Signature, Treatment, Verdict, inspect,
};
use test_image::{CODE, CONSTANTS, DATA, TestImage, UNWIND_NOTHING};

/// A kernel with two exports.
fn kernel(module: &str, name: &str) -> Option<ExportInfo> {
    let is_known = module.eq_ignore_ascii_case("ntoskrnl.exe") && matches!(name, "DbgPrint" | "__C_specific_handler");
    is_known.then(|| ExportInfo { signature: "(...) -> u32".to_owned(), rules: "K-180".to_owned() })
}

fn report(image: &TestImage) -> Report {
    inspect(&image.build(), "test.sys", &kernel)
}

fn import<'a>(report: &'a Report, name: &str) -> &'a ImportReport {
    let mut imports = report.imports.iter().flat_map(|module| &module.imports);
    imports.find(|import| import.name == name).unwrap_or_else(|| panic!("{name} is not imported"))
}

fn technology<'a>(report: &'a Report, name: &str) -> &'a str {
    let found = report.technologies.iter().find(|technology| technology.name == name);
    found
        .map(|technology| technology.meaning.as_str())
        .unwrap_or_else(|| panic!("{name} is not among {:?}", report.technologies))
}

/// An image that imports these names and does nothing.
fn importing(modules: &[(&str, &[&str])]) -> TestImage {
    let mut image = TestImage::new();
    image.imports(modules);
    image.entry = image.section(".text", b"\x31\xC0\xC3", CODE);
    image
}

/// The distance from behind an instruction at `at` that takes `length` bytes.
fn distance(to: u32, at: u32, length: u32) -> [u8; 4] {
    to.wrapping_sub(at + length).to_le_bytes()
}

#[test]
fn missing_imports_are_told_by_whether_the_start_needs_them() {
    let mut image = TestImage::new();
    let names = ["DbgPrint", "NeededAtOnce", "NeededThroughAJump", "NeededLater", "NeededNever", "Variable"];
    let slots = image.imports(&[("ntoskrnl.exe", &names)]);
    let text = image.next();
    image.entry = text;
    // call next function; ret
    let entry = [b"\xE8".to_vec(), distance(text + 16, text, 5).to_vec(), b"\xC3".to_vec()].concat();
    // call [NeededAtOnce]; call thunk; mov rax, [Variable]; ret
    let started = [
        [b"\xFF\x15".to_vec(), distance(slots[1], text + 16, 6).to_vec()].concat(),
        [b"\xE8".to_vec(), distance(text + 64, text + 22, 5).to_vec()].concat(),
        [b"\x48\x8B\x05".to_vec(), distance(slots[5], text + 27, 7).to_vec(), b"\xC3".to_vec()].concat(),
    ];
    // call [NeededLater]; ret
    let later = [b"\xFF\x15".to_vec(), distance(slots[3], text + 48, 6).to_vec(), b"\xC3".to_vec()].concat();
    // jmp [NeededThroughAJump]
    let thunk = [b"\xFF\x25".to_vec(), distance(slots[2], text + 64, 6).to_vec()].concat();
    let mut code = vec![0xCC; 80];
    for (at, piece) in [(0, entry), (16, started.concat()), (48, later), (64, thunk)] {
        code[at..at + piece.len()].copy_from_slice(&piece);
    }
    image.section(".text", &code, CODE);
    let function = |begin: u32, end: u32| (text + begin, text + end, UNWIND_NOTHING);
    image.functions(&[function(0, 6), function(16, 35), function(48, 55)]);

    let report = report(&image);
    let blocks = |name: &str| match import(&report, name).state {
        ImportState::Missing { blocks } => blocks,
        ImportState::Implemented { .. } => panic!("{name} is there"),
    };
    assert_eq!(blocks("NeededAtOnce"), Blocks::Starting);
    assert_eq!(blocks("NeededThroughAJump"), Blocks::Starting);
    assert_eq!(import(&report, "NeededThroughAJump").sites, [text + 22], "the call and not the jump");
    assert_eq!(blocks("NeededLater"), Blocks::Later);
    assert_eq!(blocks("NeededNever"), Blocks::NothingSeen);
    assert!(import(&report, "NeededLater").is_called && !import(&report, "Variable").is_called);
    assert!(matches!(&import(&report, "DbgPrint").state, ImportState::Implemented { rules, .. } if rules == "K-180"));
    assert_eq!(report.verdict, Verdict::Stops { missing: 5, while_starting: true });
    let text = report.to_string();
    assert!(text.contains("5 imports are missing") && text.contains("most likely while it starts"), "{text}");
    assert!(text.contains("NeededLater (+0x2030)"), "{text}");
}

#[test]
fn image_with_everything_it_imports_runs() {
    let report = report(&importing(&[("NTOSKRNL.exe", &["DbgPrint"])]));
    assert_eq!(report.verdict, Verdict::Runs);
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}

#[test]
fn images_for_other_processors_are_described_with_their_imports() {
    for (machine, is_64_bit, words) in [(0x014C, false, "32-bit (x86)"), (0xAA64, true, "ARM64")] {
        let mut image = TestImage::new();
        (image.machine, image.is_64_bit) = (machine, is_64_bit);
        image.imports(&[("ntoskrnl.exe", &["DbgPrint", "Other"]), ("ndis.sys", &["NdisFRegisterFilterDriver"])]);
        image.section(".rdata", b"\\Device\\Tcp\0", CONSTANTS);
        let report = report(&image);
        let Verdict::Refused { reason } = &report.verdict else { panic!("{:?}", report.verdict) };
        assert!(reason.contains(words) && reason.contains("use the x64 build"), "{reason}");
        assert_eq!(import(&report, "Other").state, ImportState::Missing { blocks: Blocks::Unknown });
        assert!(technology(&report, "NDIS").contains("filter below the protocols"));
        assert!(technology(&report, "TDI").contains("deprecated"));
        assert!(report.instructions.is_empty());
        assert!(report.to_string().contains(words));
    }
}

#[test]
fn files_that_are_no_images_get_a_reason() {
    for (file, words) in [(&b""[..], "MZ"), (b"\x7FELF", "MZ"), (b"MZ", "cut off"), (&[0xFF; 300], "MZ")] {
        let report = inspect(file, "x", &kernel);
        let Verdict::Refused { reason } = &report.verdict else { panic!("{:?}", report.verdict) };
        assert!(reason.contains(words) && report.image.is_none(), "{reason}");
        assert!(report.to_string().starts_with("x: "));
    }
}

#[test]
fn damaged_image_is_described_as_far_as_its_headers_go() {
    let mut image = importing(&[("ntoskrnl.exe", &["DbgPrint"])]);
    image.section_at(0x10_0000, ".evil", b"x", 0x1000, DATA);
    image.size = Some(0x4000);
    let report = report(&image);
    assert_eq!(report.image.as_ref().map(|image| image.machine.as_str()), Some("x86-64"));
    assert!(matches!(&report.verdict, Verdict::Refused { reason } if reason.contains(".evil")));
}

#[test]
fn libraries_say_what_an_image_is_built_on() {
    let meaning = |module: &str, names: &[&str], name: &str| {
        let report = report(&importing(&[(module, names)]));
        technology(&report, name).to_owned()
    };
    assert!(meaning("WDFLDR.SYS", &["WdfVersionBind"], "KMDF").contains("has no such runtime"));
    assert!(meaning("NDIS.SYS", &["NdisMRegisterMiniportDriver"], "NDIS").contains("miniport"));
    assert!(meaning("ndis.sys", &["NdisRegisterProtocolDriver"], "NDIS").contains("protocol"));
    assert!(meaning("ndis.sys", &["NdisQueryBuffer"], "NDIS").contains("1 of its 1 imports from there are missing"));
    assert!(meaning("NETIO.SYS", &["WskRegister"], "WSK").contains("Winsock Kernel"));
    assert!(meaning("fwpkclnt.sys", &["FwpsCalloutRegister0"], "WFP").contains("never called"));
    assert!(meaning("KERNEL32.dll", &["CreateFileW"], "user mode").contains("no driver"));
    assert!(meaning("tdi.sys", &["TdiRegisterPnPHandlers"], "TDI").contains("D-329"));
}

#[test]
fn handlers_of_exceptions_are_named_by_the_import_they_lead_to() {
    let mut image = TestImage::new();
    let slots = image.imports(&[("ntoskrnl.exe", &["__C_specific_handler"])]);
    let text = image.next();
    image.entry = text;
    // ret ... jmp [slot]
    let code =
        [b"\xC3".to_vec(), vec![0xCC; 15], b"\xFF\x25".to_vec(), distance(slots[0], text + 16, 6).to_vec()].concat();
    image.section(".text", &code, CODE);
    let unwind = [&[0x09, 0, 0, 0][..], &(text + 16).to_le_bytes(), &[0; 4]].concat();
    image.functions(&[(text, text + 1, &unwind)]);
    let report = report(&image);
    let exceptions = report.exceptions.as_ref().expect("a table of functions");
    assert_eq!((exceptions.functions, exceptions.with_handler), (1, 1));
    assert_eq!(exceptions.handlers, ["__C_specific_handler"]);
    assert!(technology(&report, "SEH").contains("1 of its 1 functions"));
}

#[test]
fn instructions_are_told_by_what_becomes_of_them() {
    let mut image = TestImage::new();
    let code = [
        &b"\x44\x0F\x20\xC0\x90"[..],            // mov rax, cr8; nop
        b"\xFA",                                 // cli
        b"\x0F\x30",                             // wrmsr
        b"\x0F\x22\xD8",                         // mov cr3, rax
        b"\xCD\x2C",                             // int 2Ch
        b"\x0F\xC7\xF0",                         // rdrand eax
        b"\x65\x48\x8B\x04\x25\x88\x01\0\0",     // mov rax, gs:[188h]
        b"\x65\x48\x8B\x04\x25\x10\0\0\0",       // mov rax, gs:[10h]
        b"\x48\xB8\x20\x03\0\0\x80\xF7\xFF\xFF", // mov rax, 0xFFFFF78000000320
        b"\xC3",
    ]
    .concat();
    let text = image.section(".text", &code, CODE);
    image.entry = text;
    image.functions(&[(text, text + code.len() as u32, UNWIND_NOTHING)]);
    let report = report(&image);
    let found: Vec<_> = report.instructions.iter().map(|found| (found.text.as_str(), found.treatment)).collect();
    assert_eq!(
        found,
        [
            ("mov rax,cr8", Treatment::Rewritten),
            ("cli", Treatment::Emulated),
            ("wrmsr", Treatment::Exception),
            ("mov cr3,rax", Treatment::Exception),
            ("int 2Ch", Treatment::Exception),
            ("rdrand eax", Treatment::Executed),
            ("mov rax,gs:[10h]", Treatment::Executed),
            ("mov rax,0FFFFF78000000320h", Treatment::Rewritten),
        ]
    );
}

#[test]
fn checksum_is_compared_with_the_files() {
    let image = importing(&[]);
    let mut file = image.build();
    let state = |file: &[u8]| inspect(file, "x", &kernel).image.expect("an image").checksum;
    assert_eq!(state(&file), Checksum::Absent);
    let at = test_image::OPTIONAL_HEADER + 64;
    file[at..at + 4].copy_from_slice(&1u32.to_le_bytes());
    let Checksum::Wrong { stored: 1, computed } = state(&file) else { panic!("{:?}", state(&file)) };
    file[at..at + 4].copy_from_slice(&computed.to_le_bytes());
    assert_eq!(state(&file), Checksum::Right);
    // Any other change is seen.
    *file.last_mut().expect("a byte") ^= 1;
    assert!(matches!(state(&file), Checksum::Wrong { .. }));
}

#[test]
fn signature_is_looked_for_where_the_header_says() {
    let mut image = importing(&[]);
    let end = image.build().len() as u32;
    let state = |file: &[u8]| inspect(file, "x", &kernel).image.expect("an image").signature;
    assert_eq!(state(&image.build()), Signature::Absent);
    image.directory(4, end, 16);
    assert_eq!(state(&image.build()), Signature::Damaged, "cut off");
    let signed = [image.build(), 16u32.to_le_bytes().to_vec(), b"\0\x02\x02\0".to_vec(), vec![0; 8]].concat();
    assert_eq!(state(&signed), Signature::Present { bytes: 16 });
    let wrong = [image.build(), 400u32.to_le_bytes().to_vec(), vec![0; 12]].concat();
    assert_eq!(state(&wrong), Signature::Damaged, "longer than its table");
}

#[test]
fn program_is_told_from_a_driver() {
    let mut image = importing(&[]);
    image.subsystem = 3;
    let report = report(&image);
    assert!(report.notes[0].contains("a program will not run here"), "{:?}", report.notes);
}

#[test]
fn names_are_part_of_the_report() {
    let mut image = importing(&[]);
    let at = image.section(".rdata", b"\\Registry\\Machine\\x\0\\DosDevices\\y\0", CONSTANTS);
    let report = report(&image);
    let found: Vec<_> = report.names.iter().map(|name| (name.kind, name.offset)).collect();
    assert_eq!(found, [(NameKind::Link, at + 20), (NameKind::Registry, at)]);
    assert!(report.to_string().contains("\\DosDevices\\y"));
}

#[test]
fn report_is_serialised_with_its_states_by_name() {
    let report = report(&importing(&[("ntoskrnl.exe", &["DbgPrint", "Other"])]));
    let json = serde_json::to_value(&report).expect("a report can be serialised");
    assert_eq!(json["verdict"]["outcome"], "stops");
    assert_eq!(json["image"]["checksum"]["state"], "absent");
    assert_eq!(json["imports"][0]["imports"][1]["state"]["blocks"], "nothing_seen");
    assert_eq!(json["imports"][0]["imports"][0]["state"]["state"], "implemented");
}
