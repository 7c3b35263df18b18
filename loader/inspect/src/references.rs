//! Which code of an image uses which import, and what can be reached from the entry point.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use iced_x86::{FlowControl, Instruction, OpKind};
use pe_image::Code;

/// Uses of imports and calls between functions.
#[derive(Debug, Default)]
pub struct References {
    /// Offsets of the instructions that use a slot of the import table.
    sites: BTreeMap<u32, Vec<u32>>,
    /// The slots that are called or jumped through.
    called: BTreeSet<u32>,
    /// Functions that direct calls and jumps lead to from the entry point, by [`Code::owner`].
    starting: BTreeSet<u32>,
}

impl References {
    /// The references of an image. `slots` are those of its imports, `entry` is its entry point.
    pub fn of(code: &Code<'_>, slots: &BTreeSet<u32>, entry: u32) -> Self {
        let thunks = thunks(code, slots);
        let mut sites: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut calls: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut called = BTreeSet::new();
        for (offset, instruction) in code.instructions() {
            let slot = match target(&instruction) {
                Some(Target::Code(to)) => {
                    let slot = thunks.get(&to).copied();
                    if slot.is_none() {
                        calls.entry(code.owner(offset)).or_default().push(code.owner(to));
                    }
                    slot
                }
                Some(Target::Memory(at)) => slots.contains(&at).then_some(at),
                None => None,
            };
            if let Some(slot) = slot
                && !thunks.contains_key(&offset)
            {
                sites.entry(slot).or_default().push(offset);
                if instruction.flow_control() != FlowControl::Next {
                    called.insert(slot);
                }
            }
        }
        Self { sites, called, starting: reachable(&calls, code.owner(entry)) }
    }

    /// Where the import with this slot is used.
    pub fn sites(&self, slot: u32) -> &[u32] {
        self.sites.get(&slot).map_or(&[], Vec::as_slice)
    }

    /// Whether the import with this slot is called, and not only read.
    pub fn is_called(&self, slot: u32) -> bool {
        self.called.contains(&slot)
    }

    /// Whether an instruction lies in code that direct calls lead to from the entry point.
    pub fn is_starting(&self, code: &Code<'_>, offset: u32) -> bool {
        self.starting.contains(&code.owner(offset))
    }
}

/// What an instruction leads to or touches at a fixed place.
enum Target {
    Code(u32),
    Memory(u32),
}

fn target(instruction: &Instruction) -> Option<Target> {
    if instruction.op0_kind() == OpKind::NearBranch64 {
        return u32::try_from(instruction.near_branch_target()).ok().map(Target::Code);
    }
    if instruction.is_ip_rel_memory_operand() {
        return u32::try_from(instruction.ip_rel_memory_address()).ok().map(Target::Memory);
    }
    None
}

/// Jumps through a slot that linkers put in between, by their offset: a call of one is a call of the import. Only
/// those that something calls, since a function may end with such a jump too.
fn thunks(code: &Code<'_>, slots: &BTreeSet<u32>) -> HashMap<u32, u32> {
    let called: BTreeSet<_> = code
        .instructions()
        .filter_map(|(_, instruction)| match target(&instruction) {
            Some(Target::Code(to)) => Some(to),
            _ => None,
        })
        .collect();
    let jumps = code.instructions().filter_map(|(offset, instruction)| match target(&instruction) {
        Some(Target::Memory(slot)) if instruction.flow_control() == FlowControl::IndirectBranch => Some((offset, slot)),
        _ => None,
    });
    jumps.filter(|(offset, slot)| called.contains(offset) && slots.contains(slot)).collect()
}

fn reachable(calls: &HashMap<u32, Vec<u32>>, from: u32) -> BTreeSet<u32> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(function) = next.pop() {
        if reached.insert(function) {
            next.extend(calls.get(&function).into_iter().flatten());
        }
    }
    reached
}
