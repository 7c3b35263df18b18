//! Where images lie: alone in its process, so that nothing else loads meanwhile.

use arena::plan;
use pe_image::{Image, LoadOptions, load};
use test_image::{CODE, DATA, TestImage};

fn driver(bytes: u32) -> Image {
    let mut image = TestImage::new();
    image.entry = image.section(".text", b"\xC3", CODE);
    image.section_at(image.next(), ".bss", &[], bytes, DATA);
    load(&image.build(), "driver.sys", &LoadOptions::new(&|_, _| None)).expect("a valid image")
}

#[test]
fn images_lie_at_places_that_only_the_order_of_loading_decides() {
    let mut first = driver(0x1000);
    let second = driver(3 << 20);
    let third = driver(0x1000);
    assert_eq!(first.base(), plan::IMAGES);
    assert_eq!(second.base(), plan::IMAGES + (1 << 20));
    assert_eq!(third.base(), plan::IMAGES + (5 << 20), "behind three megabytes and the code for them");

    // A place where nothing ran is used again, as if nothing had been there.
    drop(third);
    drop(second);
    first.register().expect("room for an image");
    first.retire().expect("access can be taken away");
    drop(first);
    assert_eq!(driver(0x1000).base(), plan::IMAGES + (1 << 20), "but not one where code may have run");
}
