//! The sample drivers, as mingw-w64 compiles and links them, and those with bytes changed at random.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use pe_image::{Image, ImageError, LoadOptions, load};
use proptest::prelude::*;

const DRIVERS: &[&str] = &["hello.sys", "tdi_client.sys", "leaky.sys", "crashing.sys", "two_threads.sys"];

static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("samples");
    let made = Command::new("make").arg("-s").arg("-C").arg(root).arg(format!("OUT={}", out.display())).output();
    let made = made.expect("make can be started (apt-get install make)");
    assert!(
        made.status.success(),
        "the samples cannot be built (apt-get install gcc-mingw-w64-x86-64): {}",
        String::from_utf8_lossy(&made.stderr)
    );
    DRIVERS.iter().map(|name| fs::read(out.join(name)).expect("a built sample")).collect()
});

fn load_sample(number: usize, file: &[u8]) -> Result<Image, ImageError> {
    load(file, DRIVERS[number], &LoadOptions::new(&|_, _| None))
}

fn sample(name: &str) -> Image {
    let number = DRIVERS.iter().position(|driver| *driver == name).expect("a sample");
    load_sample(number, &FILES[number]).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn samples_are_loaded_without_a_warning_and_with_no_access_to_the_irql_left_to_emulation() {
    for name in DRIVERS {
        let image = sample(name);
        assert_eq!(image.warnings(), [], "{name}");
        assert_eq!(image.patches().irql_emulated, 0, "{name}: {:?}", image.patches());
        assert!((image.base()..image.base() + u64::from(image.size())).contains(&image.entry()), "{name}");
    }
}

#[test]
fn imports_of_samples_are_those_that_their_sources_call() {
    let image = sample("tdi_client.sys");
    let names: Vec<_> = image.missing().iter().map(|import| (import.module.as_str(), import.name.as_str())).collect();
    for name in ["ZwCreateFile", "IofCallDriver", "KeWaitForSingleObject", "ObfDereferenceObject"] {
        assert!(names.contains(&("ntoskrnl.exe", name)), "{name} is not among {names:?}");
    }
    let missing = sample("crashing.sys");
    assert!(
        missing.missing().iter().any(|import| import.name == "RtlRoutineThatNoKernelHas"),
        "{:?}",
        missing.missing()
    );
}

proptest! {
    #[test]
    fn sample_with_changed_bytes_is_refused_or_loaded(
        number in 0..DRIVERS.len(),
        changes in proptest::collection::vec((0.0..1.0_f64, any::<u8>(), any::<bool>()), 1..20),
    ) {
        let mut file = FILES[number].clone();
        for (place, byte, in_headers) in changes {
            // Half of them where the headers are.
            let end = if in_headers { 0x400.min(file.len()) } else { file.len() };
            file[(end as f64 * place) as usize] = byte;
        }
        let _ = load_sample(number, &file);
    }
}
