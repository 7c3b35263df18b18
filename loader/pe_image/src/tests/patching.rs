//! Rewritten instructions do what they did; what is not certain is left alone.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use gate::shared_page;
use gate::thread::Block;
use nt_abi::Irql;
use proves::proves;
use test_image::{CODE, CONSTANTS, TestImage, UNWIND_NOTHING};

use super::load_image;
use crate::{Image, PatchCounts};

/// Runs `test` on a thread that can run driver code, with faults handled as in a run.
fn in_the_kernel(test: impl FnOnce() + Send) {
    static FAULTS: Once = Once::new();
    FAULTS.call_once(|| gate::fault::install().expect("fault handlers"));
    std::thread::scope(|scope| {
        let run = || {
            let stack = gate::thread::host_stack().expect("a stack");
            Block::new(stack, 0, 0, 0).expect("a block").install();
            test();
        };
        scope.spawn(run).join().expect("the test's thread");
    });
}

/// An image with this code as its only function, ready to run.
fn image_of(code: &[u8]) -> Image {
    let mut image = image_with(code, UNWIND_NOTHING, |_, _| {});
    image.register().expect("room for an image");
    image
}

/// Loads an image with this code as its only function, with this unwind information, and whatever `more` adds, which
/// is told where the code lies.
fn image_with(code: &[u8], unwind: &[u8], more: impl FnOnce(&mut TestImage, u32)) -> Image {
    let mut image = TestImage::new();
    // Not at the beginning of the section, where no section header says what is in front of it.
    let text = image.next() + 16;
    image.entry = text;
    image.section(".text", &[&[0xCC; 16], code].concat(), CODE);
    image.functions(&[(text, text + code.len() as u32, unwind)]);
    more(&mut image, text);
    load_image(&image).expect("a valid image")
}

/// Calls the code with up to two arguments.
fn call(image: &Image, arguments: [u64; 2]) -> u64 {
    // SAFETY: code of this file, which takes two integers and touches nothing else.
    unsafe { gate::call::driver(image.entry(), arguments) }
}

fn counts(image: &Image) -> (u32, u32) {
    (image.patches().irql, image.patches().irql_emulated)
}

#[test]
#[proves("K-005")]
fn irql_is_read_and_written_through_every_register() {
    in_the_kernel(|| {
        for register in (0..16u8).filter(|register| *register != 4) {
            let rex_b = register >> 3;
            let low = register & 7;
            // push r; mov r, cr8; mov rax, r; pop r; ret, where rax itself must not be popped.
            let save = [0x40 | rex_b, 0x50 | low];
            let restore = [0x40 | rex_b, 0x58 | low];
            let read = [0x44 | rex_b, 0x0F, 0x20, 0xC0 | low];
            let to_rax = [0x48 | rex_b << 2, 0x89, 0xC0 | low << 3];
            let code = match register {
                0 => [&read[..], b"\xC3"].concat(),
                _ => [&save[..], &read, &to_rax, &restore, b"\xC3"].concat(),
            };
            let image = image_of(&code);
            assert_eq!(counts(&image), (1, 0), "register {register}");
            gate::set_irql(Irql::DISPATCH);
            assert_eq!(call(&image, [0, 0]), 2, "register {register}");
            gate::set_irql(Irql::PASSIVE);

            // push r; mov r, rcx; mov cr8, r; pop r; ret.
            let from_rcx = [0x48 | rex_b, 0x89, 0xC8 | low];
            let write = [0x44 | rex_b, 0x0F, 0x22, 0xC0 | low];
            let image = image_of(&[&save[..], &from_rcx, &write, &restore, b"\xC3"].concat());
            assert_eq!(counts(&image), (1, 0), "register {register}");
            let level = irql_after(&image, [2, 0]);
            assert_eq!(level, Irql::DISPATCH, "register {register}");
        }
    });
}

/// The IRQL that the code leaves behind. Calls it directly, since a change of the level is a finding.
fn irql_after(image: &Image, arguments: [u64; 2]) -> Irql {
    // SAFETY: as in `call`; an address of executable code.
    let routine: extern "win64" fn(u64, u64) -> u64 = unsafe { std::mem::transmute(image.entry()) };
    routine(arguments[0], arguments[1]);
    let level = gate::irql();
    gate::set_irql(Irql::PASSIVE);
    level
}

/// How often the calling thread's DPCs are run by a call of `image` with the level to write, at DISPATCH_LEVEL.
fn runs_of_deferred(image: &Image, level: u64) -> u64 {
    fn hook() {
        // SAFETY: the calling thread's block.
        unsafe { (*gate::current()).deferred.store(0, Ordering::Relaxed) };
        RUNS.fetch_add(1, Ordering::Relaxed);
    }
    static RUNS: AtomicU64 = AtomicU64::new(0);
    gate::lowering::set_hook(hook);
    // SAFETY: the calling thread's block.
    unsafe { (*gate::current()).deferred.store(1, Ordering::Relaxed) };
    gate::set_irql(Irql::DISPATCH);
    let (before, mut place) = (RUNS.load(Ordering::Relaxed), 0u32);
    let after = irql_after(image, [level, &raw mut place as u64]);
    assert_eq!((u64::from(after.0), place), (level, 1), "the level is written, and the flags are as they were");
    // SAFETY: as above.
    unsafe { (*gate::current()).deferred.store(0, Ordering::Relaxed) };
    RUNS.load(Ordering::Relaxed) - before
}

#[test]
#[proves("K-131")]
fn dpcs_that_wait_for_a_level_run_right_behind_the_write_that_lowers_it() {
    in_the_kernel(|| {
        // xor eax, eax; cmp ecx, ecx; mov cr8, rcx; sete al; mov [rdx], eax; ret
        let rewritten = image_of(b"\x31\xC0\x39\xC9\x44\x0F\x22\xC1\x0F\x94\xC0\x89\x02\xC3");
        assert_eq!(counts(&rewritten), (1, 0));
        // xor eax, eax; cmp ecx, ecx; mov [rdx], eax; mov cr8, rcx; mov [rdx], eax; sete [rdx]; ret
        let emulated = image_of(b"\x31\xC0\x39\xC9\x89\x02\x44\x0F\x22\xC1\x89\x02\x0F\x94\x02\xC3");
        assert_eq!(counts(&emulated), (0, 1));
        for image in [rewritten, emulated] {
            assert_eq!(runs_of_deferred(&image, 0), 1);
            assert_eq!(runs_of_deferred(&image, 1), 1, "APC_LEVEL is low enough");
            assert_eq!(runs_of_deferred(&image, 2), 0, "DISPATCH_LEVEL is not");
        }
    });
}

#[test]
fn raise_and_lower_beside_each_other_are_both_rewritten() {
    in_the_kernel(|| {
        // mov rax, cr8; mov cr8, rcx; mov rdx, cr8; mov cr8, rax; lea rax, [rax + rdx]; ret
        let code = b"\x44\x0F\x20\xC0\x44\x0F\x22\xC1\x44\x0F\x20\xC2\x44\x0F\x22\xC0\x48\x8D\x04\x10\xC3";
        let image = image_of(code);
        assert_eq!(counts(&image), (4, 0));
        gate::set_irql(Irql::APC);
        assert_eq!(call(&image, [2, 0]), 3, "the old level and the raised one");
        gate::set_irql(Irql::PASSIVE);
    });
}

#[test]
fn neighbour_in_front_is_taken_when_the_one_behind_cannot_move() {
    in_the_kernel(|| {
        // mov ecx, 2; mov cr8, rcx; mov [rdx], ecx; ret: the store may fault, so it stays where it is.
        let image = image_of(b"\xB9\x02\0\0\0\x44\x0F\x22\xC1\x89\x0A\xC3");
        assert_eq!(counts(&image), (1, 0));
        let mut place = 0u32;
        assert_eq!(irql_after(&image, [0, &raw mut place as u64]), Irql::DISPATCH);
        assert_eq!(place, 2);
    });
}

#[test]
fn neighbour_that_reads_from_the_image_reads_the_same_place() {
    in_the_kernel(|| {
        // mov rcx, cr8; mov rax, [rip + 4]; add rax, rcx; ret; the word.
        let code = b"\x44\x0F\x20\xC1\x48\x8B\x05\x04\0\0\0\x48\x01\xC8\xC3\x11\x22\x33\x44\0\0\0\0";
        let image = image_of(code);
        assert_eq!(counts(&image), (1, 0));
        gate::set_irql(Irql::APC);
        assert_eq!(call(&image, [0, 0]), 0x4433_2212);
        gate::set_irql(Irql::PASSIVE);
    });
}

#[test]
fn neighbour_that_branches_goes_to_the_same_place() {
    in_the_kernel(|| {
        // test ecx, ecx; mov rax, cr8; je +4; add eax, 16; nop; ret
        let image = image_of(b"\x85\xC9\x44\x0F\x20\xC0\x74\x04\x83\xC0\x10\x90\xC3");
        assert_eq!(counts(&image), (1, 0));
        gate::set_irql(Irql::APC);
        assert_eq!([call(&image, [0, 0]), call(&image, [1, 0])], [1, 17]);
        gate::set_irql(Irql::PASSIVE);
    });
}

#[test]
#[proves("K-006")]
fn access_whose_neighbours_are_branch_targets_is_emulated() {
    in_the_kernel(|| {
        // jrcxz +5; nop; mov rax, cr8; ret: the branch leads to the ret, and the nop follows a branch that cannot
        // be one of a pair with it.
        let code = b"\xE3\x05\x90\x44\x0F\x20\xC0\xC3";
        assert_eq!(counts(&image_of(code)), (1, 0), "nop and access");
        // jrcxz +4; mov rax, cr8; ret
        let image = image_of(b"\xE3\x04\x44\x0F\x20\xC0\xC3");
        assert_eq!(counts(&image), (0, 1), "a loop instruction in front, a target behind");
        gate::set_irql(Irql::APC);
        assert_eq!(call(&image, [1, 0]), 1);
        gate::set_irql(Irql::PASSIVE);
    });
}

#[test]
fn access_between_stores_that_may_fault_is_emulated() {
    in_the_kernel(|| {
        // mov [rcx], edx; mov rax, cr8; mov [rcx], eax; ret
        let image = image_of(b"\x89\x11\x44\x0F\x20\xC0\x89\x01\xC3");
        assert_eq!(counts(&image), (0, 1));
        gate::set_irql(Irql::APC);
        let mut place = 7u32;
        assert_eq!(call(&image, [&raw mut place as u64, 0]), 1);
        gate::set_irql(Irql::PASSIVE);
        assert_eq!(place, 1);
    });
}

#[test]
fn function_with_a_computed_jump_is_left_to_emulation() {
    in_the_kernel(|| {
        // lea rdx, [rip + 7]; mov rax, cr8; nop; jmp rdx; ret: nobody knows where the jump leads.
        let image = image_of(b"\x48\x8D\x15\x07\0\0\0\x44\x0F\x20\xC0\x90\xFF\xE2\xC3");
        assert_eq!(counts(&image), (0, 1));
        gate::set_irql(Irql::APC);
        assert_eq!(call(&image, [0, 0]), 1);
        gate::set_irql(Irql::PASSIVE);
    });
}

#[test]
fn computed_jump_in_a_part_of_a_function_that_lies_elsewhere_counts_too() {
    let mut image = TestImage::new();
    let text = image.next();
    image.entry = text;
    // mov rax, cr8; nop; ret ... jmp rdx
    image.section(".text", b"\x44\x0F\x20\xC0\x90\xC3\xCC\xCC\xFF\xE2", CODE);
    let chained = |begin: u32, end: u32, unwind: u32| {
        [&[0x21, 0, 0, 0][..], &begin.to_le_bytes(), &end.to_le_bytes(), &unwind.to_le_bytes()].concat()
    };
    let unwind = chained(text, text + 6, image.next());
    image.functions(&[(text, text + 6, UNWIND_NOTHING), (text + 8, text + 10, &unwind)]);
    assert_eq!(counts(&load_image(&image).expect("a valid image")), (0, 1));
}

#[test]
fn place_that_a_table_of_handlers_names_is_not_written_over() {
    // push rax; mov rax, cr8; pop rcx; ret
    let code = b"\x50\x44\x0F\x20\xC0\x59\xC3";
    // A function with a handler of exceptions, whose table names places in it.
    let with_handlers = |places: [u32; 2]| {
        let mut unwind = vec![0x09, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        unwind.extend(places.into_iter().flat_map(u32::to_le_bytes));
        image_with(code, &unwind, |_, _| {})
    };
    let text = 0x1010;
    assert_eq!(counts(&with_handlers([text, text + 7])), (1, 0), "the function's ends");
    assert_eq!(counts(&with_handlers([text + 5, text])), (1, 0), "the neighbour behind, so the one in front");
    assert_eq!(counts(&with_handlers([text + 5, text + 1])), (0, 1), "both");
}

#[test]
fn place_that_an_address_in_the_image_leads_to_is_not_written_over() {
    let code = b"\x50\x44\x0F\x20\xC0\x59\xC3";
    let named = |place: u32| {
        image_with(code, UNWIND_NOTHING, |image, text| {
            // Two words, so that neither alone is an offset in the image.
            let address = image.base + u64::from(text + place);
            let at = image.section(".rdata", &[&[0; 2][..], &address.to_le_bytes()].concat(), CONSTANTS);
            image.relocations(&[at + 2]);
        })
    };
    assert_eq!(counts(&named(0)), (1, 0), "the function itself");
    assert_eq!(counts(&named(5)), (1, 0), "the neighbour behind, so the one in front");
    assert_eq!(counts(&named(6)), (1, 0), "neither");
}

#[test]
fn function_with_bytes_that_are_no_instruction_is_left_alone() {
    // mov rax, cr8; nop; ret; and a byte that no x86-64 instruction begins with.
    assert_eq!(counts(&image_of(b"\x44\x0F\x20\xC0\x90\xC3\x06")), (0, 1));
}

#[test]
fn data_between_functions_is_left_alone() {
    let looks_like_code = b"\x44\x0F\x20\xC0\xC3\x48\xB8\x14\0\0\0\x80\xF7\xFF\xFF";
    let mut image = TestImage::new();
    let text = image.next();
    image.entry = text;
    image.section(".text", &[b"\xC3\xCC\xCC\xCC", &looks_like_code[..]].concat(), CODE);
    image.functions(&[(text, text + 1, UNWIND_NOTHING)]);
    let image = load_image(&image).expect("a valid image");
    assert_eq!(image.patches(), PatchCounts::default());
    let mut bytes = [0; 15];
    gate::memory::read(image.entry() + 4, &mut bytes).expect("code can be read");
    assert_eq!(&bytes, looks_like_code);
}

#[test]
fn function_that_only_a_call_leads_to_is_rewritten() {
    in_the_kernel(|| {
        let mut image = TestImage::new();
        // sub rsp, 40; call +5; add rsp, 40; ret | mov rax, cr8; ret: a leaf has no unwind information.
        let code = b"\x48\x83\xEC\x28\xE8\x05\0\0\0\x48\x83\xC4\x28\xC3\x44\x0F\x20\xC0\xC3";
        let text = image.section(".text", code, CODE);
        image.entry = text;
        image.functions(&[(text, text + 14, UNWIND_NOTHING)]);
        let mut image = load_image(&image).expect("a valid image");
        image.register().expect("room for an image");
        assert_eq!(counts(&image), (1, 0));
        gate::set_irql(Irql::APC);
        assert_eq!(call(&image, [0, 0]), 1);
        gate::set_irql(Irql::PASSIVE);
    });
}

#[test]
#[proves("K-009", "K-010", "K-012")]
fn shared_page_is_read_by_immediate_by_address_and_by_computation() {
    in_the_kernel(|| {
        shared_page::set_times(0x1122_3344_5566, 0, 0);
        // mov rax, 0xFFFFF780'00000000; mov rax, [rax + 0x14]; ret
        let immediate = image_of(b"\x48\xB8\0\0\0\0\x80\xF7\xFF\xFF\x48\x8B\x40\x14\xC3");
        // mov rax, [0xFFFFF780'00000014]; ret
        let absolute = image_of(b"\x48\xA1\x14\0\0\0\x80\xF7\xFF\xFF\xC3");
        for image in [immediate, absolute] {
            assert_eq!(image.patches(), PatchCounts { shared_page: 1, ..PatchCounts::default() });
            assert_eq!(call(&image, [0, 0]), 0x1122_3344_5566);
        }
        // mov eax, 0xFFFFF780; shl rax, 32; mov rax, [rax + 0x14]; ret
        let computed = image_of(b"\xB8\x80\xF7\xFF\xFF\x48\xC1\xE0\x20\x48\x8B\x40\x14\xC3");
        assert_eq!(computed.patches(), PatchCounts::default());
        assert_eq!(call(&computed, [0, 0]), 0x1122_3344_5566);
    });
}

#[test]
fn constant_that_the_linker_fills_in_is_no_address_of_the_shared_page() {
    let code = b"\x48\xB8\0\0\0\0\x80\xF7\xFF\xFF\xC3";
    let image = image_with(code, UNWIND_NOTHING, |image, text| image.relocations(&[text + 2]));
    assert_eq!(image.patches(), PatchCounts::default());
}

#[test]
fn moved_instructions_are_known_by_where_they_were() {
    // nop; mov rax, cr8; ret
    let mut image = image_of(b"\x90\x44\x0F\x20\xC0\xC3");
    let entry = image.entry();
    let loaded = image.register().expect("room for an image");
    let now: Vec<_> = loaded.moved.iter().map(|moved| moved.now).collect();
    assert!(now.is_sorted() && now.iter().all(|&now| loaded.contains(now) && loaded.is_code(now)));
    let was: Vec<_> = loaded.moved.iter().map(|moved| moved.was - entry).collect();
    assert_eq!(was, [1, 5, 6], "access, neighbour, and where they go on");
    assert_eq!(gate::image::place(now[1]).map(|(_, offset)| offset), Some(entry - loaded.base + 5));
}
