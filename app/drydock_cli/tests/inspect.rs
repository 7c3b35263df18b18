//! `drydock inspect` on the sample drivers and on what is no driver.

mod scenario;

use std::path::Path;
use std::process::{Command, Output};

use scenario::sample;
use serde_json::Value;

fn inspect(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_drydock")).arg("inspect").args(arguments).output().expect("drydock can be started")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn sample_client_can_be_run_and_its_tdi_is_mapped_to_wsk() {
    let output = inspect(&[&sample("tdi_client.sys")]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in [
        "tdi_client.sys: x86-64, native (driver)",
        "implements everything it imports",
        r"\Device\Tcp",
        "TDI_CONNECT",
        "WSK:  WskConnect",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn missing_import_is_named_with_the_offset_of_its_call() {
    let output = inspect(&[&sample("crashing.sys"), Path::new("--json")]);
    assert_eq!(output.status.code(), Some(1));
    let reports: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(reports[0]["verdict"]["outcome"], "stops");
    let imports = reports[0]["imports"][0]["imports"].as_array().expect("imports");
    let missing = imports.iter().find(|import| import["name"] == "RtlRoutineThatNoKernelHas").expect("the import");
    assert_eq!(missing["state"]["state"], "missing");
    assert_eq!((&missing["site_count"], &missing["is_called"]), (&1.into(), &true.into()));
}

#[test]
fn what_is_no_image_is_explained_and_what_is_no_file_is_an_error() {
    let output = inspect(&[Path::new(env!("CARGO_BIN_EXE_drydock"))]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("not a Windows image"), "{}", text(&output));
    for path in ["no-such-driver.sys", "/", "/dev/zero"] {
        let output = inspect(&[Path::new(path)]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{path}");
        assert!(error.contains(path) && error.contains("cannot read"), "{error}");
    }
}

#[test]
fn names_in_an_image_steer_no_terminal() {
    let folder = scenario::folder("hostile-names");
    let mut image = std::fs::read(sample("crashing.sys")).expect("the sample");
    let name = b"RtlRoutineThatNoKernelHas";
    let place = image.windows(name.len()).position(|bytes| bytes == name).expect("the import's name");
    image[place..place + 8].copy_from_slice(b"\x1b[2J\nabc");
    let path = folder.join("a\x1b[2J\n.sys");
    std::fs::write(&path, image).expect("a driver");
    let text = text(&inspect(&[&path]));
    assert!(text.contains(r"\u{1b}[2J\nabc") && text.contains(r"a\u{1b}[2J\n.sys: "), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}
