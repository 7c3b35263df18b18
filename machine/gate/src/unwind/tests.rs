//! Unwinding of functions made up here, in memory laid out like an image.
//!
//! A function is a random prolog that a small model executes on registers and a stack. From every place in it,
//! in its body and in its epilog, unwinding must find the caller's registers again.

use std::sync::{OnceLock, PoisonError};

use arena::Region;
use host_lock::{Mutex, MutexGuard};
use nt_abi::exception::Context;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Where the pieces of the image lie.
mod at {
    pub const CODE: u32 = 0x1000;
    pub const INFO: u32 = 0x2000;
    pub const TABLE: u32 = 0x3000;
    pub const STACK: u64 = 0x4000;
    pub const END: u64 = 0x8000;
}

const HANDLER: u32 = 0x1800;
const RETURN: u64 = 0x7777_0000_1111;
const NONVOLATILE: [u8; 8] = [3, 5, 6, 7, 12, 13, 14, 15];

/// One image for all tests of this file, which take turns.
struct Image {
    base: u64,
    image: &'static LoadedImage,
}

fn image() -> MutexGuard<'static, Image> {
    static IMAGE: OnceLock<Mutex<Image>> = OnceLock::new();
    let image = IMAGE.get_or_init(|| {
        crate::fault::install().expect("fault handlers");
        let region = Box::leak(Box::new(Region::reserve(0x3F00_0000_0000, at::END as usize).expect("a region")));
        region.commit(at::END).expect("memory");
        let base = region.base();
        let table = base + u64::from(at::TABLE);
        let text = base + u64::from(at::CODE)..base + u64::from(at::INFO);
        let image = LoadedImage::new("unwound.sys", base, at::STACK, vec![text], Vec::new());
        let image = image.with_functions(table..table + 0x1000);
        Mutex::new(Image { base, image: crate::image::register(image).expect("room for an image") })
    });
    image.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Image {
    fn put(&self, offset: u32, bytes: &[u8]) {
        memory::write(self.base + u64::from(offset), bytes).expect("image memory");
    }

    /// Lists functions; the rest of the table is empty.
    fn list(&self, functions: &[RuntimeFunction]) {
        let mut table = vec![0xFF; 0x1000];
        for (place, function) in table.chunks_exact_mut(12).zip(functions) {
            let words = [function.begin, function.end, function.unwind];
            place.copy_from_slice(words.map(u32::to_le_bytes).as_flattened());
        }
        self.put(at::TABLE, &table);
    }

    fn unwind(&self, pc: u64, context: &mut Context) -> Result<Unwound, Broken> {
        let function = function_at(self.image, pc).expect("a function");
        unwind(&function, pc, context, &mut NonvolatilePointers::default())
    }
}

/// A step of a prolog; each stands for an instruction of four bytes.
#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u8),
    Allocate(u32),
    /// The frame register becomes rsp plus 16 times this.
    SetFrame(u8, u8),
    /// Register and slot of 8 bytes, or of 16 for vectors.
    Save(u8, u16),
    SaveVector(u8, u16),
}

const STEP_BYTES: u32 = 4;

#[derive(Clone, Debug)]
struct Function {
    steps: Vec<Step>,
    far: bool,
    version: u8,
}

impl Function {
    fn frame(&self) -> Option<(u8, u8)> {
        self.steps
            .iter()
            .find_map(|step| if let Step::SetFrame(register, offset) = *step { Some((register, offset)) } else { None })
    }

    fn allocated(&self) -> u64 {
        self.steps.iter().map(|step| if let Step::Allocate(bytes) = *step { u64::from(bytes) } else { 0 }).sum()
    }

    /// The epilog's instructions one by one.
    fn epilog(&self) -> Vec<Vec<u8>> {
        let mut code = Vec::new();
        let allocated = self.allocated();
        match self.frame() {
            Some((register, offset)) => {
                let displacement = allocated as i64 - i64::from(offset) * 16;
                let mut lea = vec![0x48 | register >> 3, 0x8D, 0xA0 | register & 7];
                if register == 12 {
                    lea.push(0x24);
                }
                lea.extend((displacement as i32).to_le_bytes());
                code.push(lea);
            }
            None if allocated == 0 => {}
            None if allocated < 0x80 => code.push(vec![0x48, 0x83, 0xC4, allocated as u8]),
            None => code.push([&[0x48, 0x81, 0xC4][..], &(allocated as u32).to_le_bytes()].concat()),
        }
        for step in self.steps.iter().rev() {
            match *step {
                Step::Push(register) if register >= 8 => code.push(vec![0x41, 0x58 | register & 7]),
                Step::Push(register) => code.push(vec![0x58 | register]),
                _ => {}
            }
        }
        code.push(vec![0xC3]);
        code
    }

    /// Unwind information; version 2 lists one epilog, at the end.
    fn information(&self, epilog_bytes: u8, flags: u8) -> Vec<u8> {
        let prolog = self.steps.len() as u32 * STEP_BYTES;
        let mut codes: Vec<[u8; 2]> = Vec::new();
        if self.version == 2 {
            // One at the end; the place beside it only fills the pair.
            codes.extend([[epilog_bytes, 0x16], [0, 0x00]]);
        }
        for (index, step) in self.steps.iter().enumerate().rev() {
            let offset = ((index as u32 + 1) * STEP_BYTES) as u8;
            let mut code = |operation: UnwindOperation, info: u8| codes.push([offset, operation.0 | info << 4]);
            match *step {
                Step::Push(register) => code(UnwindOperation::PUSH_REGISTER, register),
                Step::Allocate(bytes) if bytes <= 128 && !self.far => {
                    code(UnwindOperation::ALLOCATE_SMALL, (bytes / 8 - 1) as u8);
                }
                Step::Allocate(bytes) if !self.far => {
                    code(UnwindOperation::ALLOCATE_LARGE, 0);
                    codes.push(((bytes / 8) as u16).to_le_bytes());
                }
                Step::Allocate(bytes) => {
                    code(UnwindOperation::ALLOCATE_LARGE, 1);
                    let [a, b, c, d] = bytes.to_le_bytes();
                    codes.extend([[a, b], [c, d]]);
                }
                Step::SetFrame(..) => code(UnwindOperation::SET_FRAME_REGISTER, 0),
                Step::Save(register, slot) | Step::SaveVector(register, slot) => {
                    let is_vector = matches!(step, Step::SaveVector(..));
                    let (near, far, unit) = if is_vector {
                        (UnwindOperation::SAVE_VECTOR, UnwindOperation::SAVE_VECTOR_FAR, 16)
                    } else {
                        (UnwindOperation::SAVE_REGISTER, UnwindOperation::SAVE_REGISTER_FAR, 8)
                    };
                    code(if self.far { far } else { near }, register);
                    let [a, b, c, d] = (u32::from(slot) * unit).to_le_bytes();
                    if self.far { codes.extend([[a, b], [c, d]]) } else { codes.push(slot.to_le_bytes()) }
                }
            }
        }
        let (register, offset) = self.frame().unwrap_or((0, 0));
        let mut bytes = vec![self.version | flags << 3, prolog as u8, codes.len() as u8, register | offset << 4];
        bytes.extend(codes.as_flattened());
        if !codes.len().is_multiple_of(2) {
            // Not zero, so that a reader who forgets the padding gets it wrong.
            bytes.extend([0xEE, 0xEE]);
        }
        bytes.extend(HANDLER.to_le_bytes());
        bytes
    }
}

fn function() -> impl Strategy<Value = Function> {
    let pushes = proptest::sample::subsequence(NONVOLATILE.to_vec(), 0..=8).prop_shuffle();
    let saved = proptest::sample::subsequence(NONVOLATILE.to_vec(), 0..=8).prop_shuffle();
    let vectors = proptest::sample::subsequence((6..16u8).collect::<Vec<_>>(), 0..=4).prop_shuffle();
    (pushes, saved, vectors, 0..200u32, any::<Option<u8>>(), any::<bool>(), any::<bool>(), 1..=2u8).prop_map(
        |(pushes, saved, vectors, words, frame, saves_last, far, version)| {
            let mut steps: Vec<Step> = pushes.iter().map(|&register| Step::Push(register)).collect();
            let saved: Vec<u8> = saved.into_iter().filter(|register| !pushes.contains(register)).collect();
            // Room for what is saved, and an even number of words, as compilers keep the stack aligned.
            let room = saved.len() as u32 + 2 * vectors.len() as u32 + 2;
            let bytes = (words.max(room) * 8).next_multiple_of(16);
            let has_stack = words != 0 || !saved.is_empty() || !vectors.is_empty();
            if has_stack {
                steps.push(Step::Allocate(bytes));
            }
            let mut saves: Vec<Step> = Vec::new();
            saves.extend(vectors.iter().enumerate().map(|(slot, &register)| Step::SaveVector(register, slot as u16)));
            let first = 2 * vectors.len();
            saves.extend(saved.iter().enumerate().map(|(slot, &register)| Step::Save(register, (first + slot) as u16)));
            // A frame register is one that was pushed.
            let frame = frame.filter(|_| !pushes.is_empty()).map(|choice| {
                let register = pushes[usize::from(choice) % pushes.len()];
                Step::SetFrame(register, (u32::from(choice >> 4)).min(if has_stack { bytes / 16 } else { 0 }) as u8)
            });
            let (early, late) = if saves_last { (frame, None) } else { (None, frame) };
            steps.extend(early.into_iter().chain(saves).chain(late));
            Function { steps, far, version }
        },
    )
}

/// The model: what the processor does.
fn execute(step: Step, context: &mut Context) {
    let stack = context.integer[RSP];
    match step {
        Step::Push(register) => {
            memory::write_value(stack - 8, context.integer[usize::from(register)]).expect("stack");
            context.integer[RSP] = stack - 8;
        }
        Step::Allocate(bytes) => context.integer[RSP] = stack - u64::from(bytes),
        Step::SetFrame(register, offset) => context.integer[usize::from(register)] = stack + u64::from(offset) * 16,
        Step::Save(register, slot) => {
            memory::write_value(stack + u64::from(slot) * 8, context.integer[usize::from(register)]).expect("stack");
        }
        Step::SaveVector(register, slot) => {
            let value = context.float_save[vector(usize::from(register))];
            memory::write_value(stack + u64::from(slot) * 16, value).expect("stack");
        }
    }
}

fn context() -> Context {
    // SAFETY: plain integers.
    unsafe { std::mem::zeroed() }
}

/// The caller's registers just behind its call, and those at the function's first instruction.
fn call(image: &Image) -> (Context, Context) {
    let mut caller = context();
    for register in NONVOLATILE {
        caller.integer[usize::from(register)] = 0xAAAA_0000 + u64::from(register);
    }
    for register in 6..16 {
        caller.float_save[vector(register)] = 0xBBBB_0000_0000_0000_0000 + register as u128;
    }
    caller.rip = RETURN;
    caller.integer[RSP] = image.base + at::END - 0x100;
    let mut callee = caller;
    callee.integer[RSP] -= 8;
    memory::write_value(callee.integer[RSP], RETURN).expect("stack");
    (caller, callee)
}

fn same(left: &Context, right: &Context) -> bool {
    left.rip == right.rip && left.integer == right.integer && left.float_save == right.float_save
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn caller_is_found_from_every_place_of_a_function(function in function(), alloca in 0..40u64) {
        let image = image();
        let (caller, mut registers) = call(&image);
        let prolog = function.steps.len() as u32 * STEP_BYTES;
        let epilog = function.epilog();
        let epilog_bytes = epilog.concat();
        let body = at::CODE + prolog;
        // The body is a call and the instruction behind it.
        let code = [&vec![0x90; prolog as usize][..], &[0xE8, 0, 0, 0, 0, 0x90], &epilog_bytes].concat();
        let end = at::CODE + code.len() as u32;
        image.put(at::CODE, &code);
        image.put(at::INFO, &function.information(epilog_bytes.len() as u8, unwind_flag::EXCEPTION_HANDLER));
        image.list(&[RuntimeFunction { begin: at::CODE, end, unwind: at::INFO }]);
        let pc = |offset: u32| image.base + u64::from(offset);

        for (index, &step) in function.steps.iter().enumerate() {
            let mut found = registers;
            let unwound = image.unwind(pc(at::CODE + index as u32 * STEP_BYTES), &mut found).unwrap();
            prop_assert!(same(&found, &caller), "at step {index}");
            prop_assert_eq!(unwound.handler, None);
            execute(step, &mut registers);
        }

        let fixed_stack = registers.integer[RSP];
        let frame_register = function.frame().map(|(register, _)| usize::from(register));
        let establisher = fixed_stack;
        let mut in_body = registers;
        if frame_register.is_some() {
            in_body.integer[RSP] -= alloca * 16;
        }
        for step in &function.steps {
            match *step {
                Step::Push(register) | Step::Save(register, _) if Some(usize::from(register)) != frame_register => {
                    in_body.integer[usize::from(register)] = 0xDEAD;
                }
                Step::SaveVector(register, _) => in_body.float_save[vector(usize::from(register))] = 0xDEAD,
                _ => {}
            }
        }
        let mut found = in_body;
        let unwound = image.unwind(pc(body + 5), &mut found).unwrap();
        prop_assert!(same(&found, &caller), "in the body");
        prop_assert_eq!(unwound.establisher, establisher);
        let handler = unwound.handler.expect("a handler in the body");
        prop_assert_eq!(handler.routine, pc(HANDLER));

        // What was saved by moves is restored by moves, in front of the epilog; pushed registers are still garbage.
        for step in &function.steps {
            match *step {
                Step::Save(register, _) => in_body.integer[usize::from(register)] = caller.integer[usize::from(register)],
                Step::SaveVector(register, _) => {
                    in_body.float_save[vector(usize::from(register))] = caller.float_save[vector(usize::from(register))];
                }
                _ => {}
            }
        }
        let mut at_epilog = body + 6;
        let pushes: Vec<u8> = function.steps.iter().filter_map(|step| if let Step::Push(register) = *step { Some(register) } else { None }).collect();
        let mut left = pushes.iter().rev();
        for (index, instruction) in epilog.iter().enumerate() {
            let mut found = in_body;
            let unwound = image.unwind(pc(at_epilog), &mut found).unwrap();
            prop_assert!(same(&found, &caller), "at epilog instruction {index}");
            prop_assert_eq!(unwound.handler, None);
            at_epilog += instruction.len() as u32;
            match instruction[..] {
                [0x48 | 0x49, ..] => in_body.integer[RSP] = fixed_stack + function.allocated(),
                [0xC3] => {}
                _ => {
                    let register = usize::from(*left.next().expect("a push for every pop"));
                    in_body.integer[register] = memory::read_value(in_body.integer[RSP]).unwrap();
                    in_body.integer[RSP] += 8;
                }
            }
        }
    }

    /// Whatever the information says, unwinding answers, and steps that succeed have read what they say.
    #[test]
    fn hostile_unwind_information_is_an_error_or_a_step(
        information in vec(any::<u8>(), 0..600),
        code in vec(prop_oneof![any::<u8>(), Just(0x48), Just(0x41), Just(0xC3), Just(0xE9), 0x58..0x60u8], 64),
        pc in 0..64u32,
        integer in vec(prop_oneof![any::<u64>(), Just(0), Just(8), Just(0x3F00_0000_4000)], 16),
        known_version in 1..3u8,
    ) {
        let image = image();
        let mut information = information;
        if let Some(first) = information.first_mut() {
            *first = *first & !7 | known_version;
        }
        image.put(at::INFO, &vec![0; 0x400]);
        image.put(at::INFO, &information);
        image.put(at::CODE, &code);
        image.list(&[RuntimeFunction { begin: at::CODE, end: at::CODE + 64, unwind: at::INFO }]);
        let mut registers = context();
        registers.integer.copy_from_slice(&integer);
        registers.integer[RSP] = image.base + at::STACK + integer[RSP] % 0x4000;
        let _ = image.unwind(image.base + u64::from(at::CODE + pc), &mut registers);
    }

    #[test]
    fn hostile_function_table_is_searched_within_bounds(table in vec(any::<u32>(), 0x400), pc in 0..at::STACK) {
        let image = image();
        image.put(at::TABLE, table.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>().as_slice());
        if let Some(function) = function_at(image.image, image.base + pc) {
            prop_assert_eq!(memory::read_value(function.entry), Ok(function.range));
            prop_assert_eq!(function.range.unwind & RuntimeFunction::INDIRECT, 0);
        }
    }
}

#[test]
fn part_of_a_function_is_unwound_through_its_beginning() {
    let image = image();
    let (caller, mut registers) = call(&image);
    // The function: push rbx; sub rsp, 48. Its part, moved elsewhere: mov [rsp + 32], rsi.
    let function = Function { steps: vec![Step::Push(3), Step::Allocate(48)], far: false, version: 1 };
    let part = Function { steps: vec![Step::Save(6, 4)], far: false, version: 1 };
    let whole = RuntimeFunction { begin: at::CODE, end: at::CODE + 0x40, unwind: at::INFO };
    let mut chained = part.information(0, unwind_flag::CHAINED);
    chained.truncate(chained.len() - 4);
    chained.extend([whole.begin, whole.end, whole.unwind].map(u32::to_le_bytes).as_flattened());
    image.put(at::CODE, &[0x90; 0x200]);
    image.put(at::INFO, &function.information(0, unwind_flag::TERMINATION_HANDLER));
    image.put(at::INFO + 0x100, &chained);
    let moved = RuntimeFunction { begin: at::CODE + 0x100, end: at::CODE + 0x140, unwind: at::INFO + 0x100 };
    image.list(&[whole, moved]);
    for &step in function.steps.iter().chain(&part.steps) {
        execute(step, &mut registers);
    }
    registers.integer[3] = 0xDEAD;
    registers.integer[6] = 0xDEAD;
    let place = image.base + u64::from(moved.begin);

    let mut found = registers;
    let unwound = image.unwind(place + 0x10, &mut found).unwrap();
    assert!(same(&found, &caller));
    assert_eq!(unwound.establisher, registers.integer[RSP]);
    assert_eq!(unwound.handler.map(|handler| handler.flags), Some(unwind_flag::TERMINATION_HANDLER));

    // A jump between the two is no epilog; a jump to another function is.
    for (target, is_epilog) in [(moved.begin + 0x20, false), (at::CODE + 0x200, true)] {
        let distance = target as i32 - (at::CODE as i32 + 0x25);
        image.put(at::CODE + 0x20, &[&[0xE9][..], &distance.to_le_bytes()].concat());
        registers.integer[6] = caller.integer[6];
        let (mut found, mut expected) = (registers, caller);
        if is_epilog {
            expected = registers;
            expected.rip = memory::read_value(registers.integer[RSP]).unwrap();
            expected.integer[RSP] += 8;
        }
        image.unwind(image.base + u64::from(at::CODE) + 0x20, &mut found).unwrap();
        assert!(same(&found, &expected), "jump to {target:#x}");
    }
}

#[test]
fn chain_that_leads_back_to_itself_is_an_error() {
    let image = image();
    let range = RuntimeFunction { begin: at::CODE, end: at::CODE + 0x40, unwind: at::INFO };
    let mut bytes = vec![1 | unwind_flag::CHAINED << 3, 0, 0, 0];
    bytes.extend([range.begin, range.end, range.unwind].map(u32::to_le_bytes).as_flattened());
    image.put(at::CODE, &[0x90; 0x40]);
    image.put(at::INFO, &bytes);
    image.list(&[range]);
    let (_, mut registers) = call(&image);
    assert_eq!(image.unwind(image.base + u64::from(at::CODE) + 8, &mut registers), Err(Broken::Chain));
    image.list(&[RuntimeFunction { unwind: at::TABLE | RuntimeFunction::INDIRECT, ..range }]);
    assert_eq!(function_at(image.image, image.base + u64::from(at::CODE)), None);
}

#[test]
fn machine_frame_leads_to_the_interrupted_code() {
    let image = image();
    let (mut caller, _) = call(&image);
    caller.rip = 0x1234_5678;
    for error_code in [0u8, 1] {
        let mut registers = caller;
        let stack = image.base + at::STACK + 0x1000;
        registers.integer[RSP] = stack - 16;
        // sub rsp, 16 above a machine frame, which may have an error code below it.
        let frame = stack + 8 * u64::from(error_code);
        memory::write(frame, [caller.rip, 0x33, 0x202, caller.integer[RSP], 0x2B].map(u64::to_le_bytes).as_flattened())
            .unwrap();
        image.put(at::CODE, &[0x90; 0x40]);
        image.put(at::INFO, &[1, 4, 2, 0, 4, 0x12, 0, 0x0A | error_code << 4]);
        image.list(&[RuntimeFunction { begin: at::CODE, end: at::CODE + 0x40, unwind: at::INFO }]);
        let unwound = image.unwind(image.base + u64::from(at::CODE) + 8, &mut registers).unwrap();
        assert!(same(&registers, &caller));
        assert_eq!(unwound.establisher, stack - 16);
    }
}

#[test]
fn second_epilog_of_version_2_is_found_by_its_distance_from_the_end() {
    let image = image();
    let function = Function { steps: vec![Step::Push(3)], far: false, version: 1 };
    let (caller, mut registers) = call(&image);
    execute(Step::Push(3), &mut registers);
    registers.integer[3] = 0xDEAD;
    // Two epilogs, pop rbx; ret: one ends 0x20 bytes before the end, one at the end. Decoding alone would also
    // take the bytes at 0x10 for one.
    let mut code = [0x90; 0x40];
    for place in [0x10, 0x1E, 0x3E] {
        code[place..place + 2].copy_from_slice(&[0x5B, 0xC3]);
    }
    let mut bytes = function.information(0, 0);
    bytes[0] = 2;
    bytes[2] += 2;
    bytes.splice(4..4, [2, 0x16, 0x22, 0x06]);
    image.put(at::CODE, &code);
    image.put(at::INFO, &bytes);
    image.list(&[RuntimeFunction { begin: at::CODE, end: at::CODE + 0x40, unwind: at::INFO }]);
    for (offset, is_epilog) in
        [(0x10, false), (0x11, false), (0x1E, true), (0x1F, true), (0x20, false), (0x3E, true), (0x3F, true)]
    {
        let mut registers = registers;
        let (mut expected, is_at_return) = (caller, matches!(offset, 0x11 | 0x1F | 0x3F));
        if is_at_return && is_epilog {
            registers.integer[3] = caller.integer[3];
            registers.integer[RSP] += 8;
        }
        expected.integer[3] = caller.integer[3];
        image.unwind(image.base + u64::from(at::CODE) + offset, &mut registers).unwrap();
        assert!(same(&registers, &expected), "at {offset:#x}");
    }
}

#[test]
fn leaf_function_returns_to_the_word_at_its_stack_pointer() {
    let image = image();
    let (caller, mut registers) = call(&image);
    leave(&mut registers).unwrap();
    assert!(same(&registers, &caller));
    registers.integer[RSP] = 16;
    assert_eq!(leave(&mut registers), Err(Broken::Unreadable(16)));
}
