//! What drivers import: from one another, from nobody, and services that are seen only when a run ends.

mod scenario;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proves::proves;
use scenario::Run;
use test_image::{CODE, TestImage};

/// Writes an image that imports `imports`, exports its second function as `export`, and whose `DriverEntry` is made of
/// the distances from it to its imports.
fn written(name: &str, imports: &[(&str, &[&str])], export: &str, code: impl Fn(&[i32]) -> Vec<u8>) -> PathBuf {
    /// `mov eax, 0; ret`.
    const ANSWER: &[u8] = b"\xB8\0\0\0\0\xC3";
    let mut image = TestImage::new();
    let slots = image.imports(imports);
    image.entry = image.next();
    let distances: Vec<i32> = slots.iter().map(|&slot| slot as i32 - image.entry as i32).collect();
    let mut code = code(&distances);
    code.resize(code.len().next_multiple_of(16), 0xCC);
    let answer = image.entry + code.len() as u32;
    code.extend(ANSWER);
    image.section(".text", &code, CODE);
    image.exports(name, &[(export, answer)]);
    let file = scenario::folder("images").join(name);
    fs::write(&file, image.build()).expect("the image");
    file
}

/// `sub rsp, 40; call [slot]; add rsp, 40; ret`.
fn call_first(distances: &[i32]) -> Vec<u8> {
    [b"\x48\x83\xEC\x28\xFF\x15", &(distances[0] - 10).to_le_bytes()[..], b"\x48\x83\xC4\x28\xC3"].concat()
}

#[test]
fn drivers_that_import_from_one_another_run() {
    let first = written("first.sys", &[("second.sys", &["Second"])], "First", call_first);
    let second = written("second.sys", &[("first.sys", &["First"])], "Second", call_first);
    Run::of(first).arg(second).run().expect_clean();
}

#[test]
#[proves("K-208")]
fn call_of_a_missing_import_names_it_and_the_others_that_are_missing() {
    let image =
        written("calls.sys", &[("ntoskrnl.exe", &["KeNobodys"]), ("ndis.sys", &["NdisSend"])], "Any", call_first);
    let folder = scenario::folder("crash-file");
    let ran = Run::of(image).crash_folder(folder.clone()).run().expect("bugcheck", 2);
    let bugcheck = &ran.verdict["bugcheck"];
    assert_eq!((&bugcheck["code"], &bugcheck["driver"]), (&0xD0C0_0001_u32.into(), &"calls.sys".into()), "{ran:#?}");
    let message = bugcheck["message"].as_str().expect("a message");
    assert!(message.contains("called ntoskrnl.exe!KeNobodys"), "{message}");
    assert!(message.contains("calls.sys has 1 more that nobody implements: ndis.sys!NdisSend"), "{message}");
    assert!(bugcheck["offset"].as_u64().is_some_and(|offset| offset & 0xFFF == 10), "behind the call: {ran:#?}");
    let crash = ran.verdict["crash_file"].as_str().expect("a crash file");
    let crash = fs::read_to_string(crash).expect("the crash file");
    for text in [message, "ntoskrnl.exe!KeNobodys", "ndis.sys!NdisSend", "calls.sys"] {
        assert!(crash.contains(text), "{text} is not in: {crash}");
    }
}

#[test]
#[proves("K-208")]
fn read_of_a_missing_variable_names_it() {
    // mov rax, [slot]; mov eax, [rax]; ret.
    let read = |distances: &[i32]| [b"\x48\x8B\x05", &(distances[0] - 7).to_le_bytes()[..], b"\x8B\x00\xC3"].concat();
    let image = written("reads.sys", &[("ntoskrnl.exe", &["NobodysVariable"])], "Any", read);
    let ran = Run::of(image).run().expect("bugcheck", 2);
    let bugcheck = &ran.verdict["bugcheck"];
    assert_eq!(bugcheck["code"], 0xD0C0_0001_u32, "{ran:#?}");
    let message = bugcheck["message"].as_str().expect("a message");
    assert!(message.contains("read the variable ntoskrnl.exe!NobodysVariable"), "{message}");
    assert!(bugcheck["offset"].as_u64().is_some_and(|offset| offset & 0xFFF == 7), "{ran:#?}");
}

/// Compiles a driver as the samples are.
fn compiled(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/imports").join(name).with_extension("c");
    let image = scenario::folder("compiled").join(name);
    let made = Command::new("x86_64-w64-mingw32-gcc")
        .args(["-O2", "-ffreestanding", "-fno-stack-protector", "-mno-stack-arg-probe", "-shared", "-nostdlib"])
        .args(["-isystem", "/usr/share/mingw-w64/include/ddk", "-Wl,--subsystem,native", "-Wl,--entry,DriverEntry"])
        .args(["-Wl,--dynamicbase", "-Wl,--exclude-all-symbols", "-o"])
        .args([&image, &source])
        .arg("-lntoskrnl")
        .output()
        .expect("mingw-w64 (apt-get install gcc-mingw-w64-x86-64)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    image
}

#[test]
fn driver_that_stays_loaded_is_told_of_the_shutdown() {
    let ran = Run::of(compiled("stays.sys")).run().expect_clean();
    assert_eq!(ran.account.matches("told of the shutdown").count(), 1, "{}", ran.account);
}
