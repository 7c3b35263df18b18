//! How an image handles exceptions.

use std::collections::BTreeSet;

use iced_x86::FlowControl;
use pe_image::{Code, Function, Import};

use crate::report::Exceptions;

/// The handlers of an image's functions; `None` if it lists no functions.
pub fn exceptions(functions: &[Function], code: &Code<'_>, imports: &[Import]) -> Option<Exceptions> {
    if functions.is_empty() {
        return None;
    }
    let with_handler: Vec<_> = functions.iter().filter_map(|function| function.handler).collect();
    let handlers: BTreeSet<_> = with_handler.iter().copied().collect();
    let handlers = handlers.into_iter().map(|handler| name(handler, code, imports)).collect();
    Some(Exceptions { functions: functions.len(), with_handler: with_handler.len(), handlers })
}

/// The name of the import that a handler is a jump to, or its offset.
fn name(handler: u32, code: &Code<'_>, imports: &[Import]) -> String {
    let jump = code.instruction(handler).filter(|instruction| {
        instruction.flow_control() == FlowControl::IndirectBranch && instruction.is_ip_rel_memory_operand()
    });
    let slot = jump.map(|jump| jump.ip_rel_memory_address());
    let import = imports.iter().find(|import| Some(u64::from(import.slot)) == slot);
    import.map_or_else(|| format!("+{handler:#x}"), |import| import.name.clone())
}
