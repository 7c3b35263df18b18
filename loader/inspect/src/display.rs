//! A report as text. What an image says of itself is written without what steers a terminal.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use trace::printable;

use crate::report::{
    Blocks, Checksum, Facts, Import, ImportState, Instruction, Module, Name, NameKind, Report, Signature, Treatment,
    Verdict,
};
use crate::tdi::TdiUse;

/// How many entries of a list are printed; JSON has all.
const PRINTED_MAX: usize = 40;
/// How many offsets are printed for instructions that do the same.
const OFFSETS_MAX: usize = 6;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.image {
            Some(image) => writeln!(f, "{}: {image}", printable(&self.name))?,
            None => writeln!(f, "{}: {} bytes", printable(&self.name), self.file_size)?,
        }
        writeln!(f, "  {}", self.verdict)?;
        for note in &self.notes {
            writeln!(f, "  {}", printable(note))?;
        }
        for technology in &self.technologies {
            writeln!(f, "\n{}: {}", technology.name, printable(&technology.meaning))?;
            if !technology.evidence.is_empty() {
                writeln!(f, "  seen: {}", printable(&technology.evidence.join(", ")))?;
            }
        }
        imports(f, &self.imports)?;
        names(f, &self.names)?;
        instructions(f, &self.instructions, self.instructions_left_out)?;
        if !self.exports.is_empty() {
            writeln!(f, "\nIt exports {}.", first(&self.exports))?;
        }
        uses(f, &self.tdi)
    }
}

impl Display for Facts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {} KiB in memory", self.machine, self.subsystem, u64::from(self.image_size).div_ceil(1024))?;
        match self.signature {
            Signature::Absent => f.write_str(", not signed")?,
            Signature::Present { .. } => f.write_str(", signed (not verified)")?,
            Signature::Damaged => f.write_str(", signature damaged")?,
        }
        match self.checksum {
            Checksum::Absent => f.write_str(", no checksum")?,
            Checksum::Right => f.write_str(", checksum right")?,
            Checksum::Wrong { .. } => f.write_str(", checksum wrong")?,
        }
        f.write_str(if self.has_security_cookie { ", stack cookie" } else { "" })
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs => f.write_str("Drydock loads it, and implements everything it imports."),
            Self::Stops { missing, while_starting } => {
                let imports = if *missing == 1 { "1 import is".to_owned() } else { format!("{missing} imports are") };
                write!(f, "Drydock loads it, but {imports} missing: a call of one stops the driver, by name")?;
                f.write_str(if *while_starting { ", most likely while it starts." } else { "." })
            }
            Self::Refused { reason } => write!(f, "Drydock cannot run it: {}.", printable(reason)),
        }
    }
}

impl Display for Blocks {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "missing, and used by code that direct calls lead to from the entry point",
            Self::Later => "missing, and used by other code",
            Self::NothingSeen => "missing, and no use was found",
            Self::Unknown => "missing",
        })
    }
}

fn imports(f: &mut Formatter<'_>, modules: &[Module]) -> fmt::Result {
    if modules.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nImports")?;
    for module in modules {
        let mut missing: BTreeMap<Blocks, Vec<&Import>> = BTreeMap::new();
        for import in &module.imports {
            if let ImportState::Missing { blocks } = import.state {
                missing.entry(blocks).or_default().push(import);
            }
        }
        let (total, left) = (module.imports.len(), missing.values().map(Vec::len).sum::<usize>());
        writeln!(f, "  {}: {} of {total} are implemented", printable(&module.name), total - left)?;
        for (blocks, imports) in missing {
            writeln!(f, "    {blocks}:")?;
            for import in imports.iter().take(PRINTED_MAX) {
                missing_import(f, import)?;
            }
            left_out(f, imports.len())?;
        }
    }
    Ok(())
}

fn missing_import(f: &mut Formatter<'_>, import: &Import) -> fmt::Result {
    write!(f, "      {}", printable(&import.name))?;
    if import.site_count != 0 {
        write!(f, " ({})", offsets(&import.sites, import.site_count))?;
    }
    let is_read = import.site_count != 0 && !import.is_called;
    writeln!(
        f,
        "{}",
        if is_read { "; it is read and not called here: a variable, or called through a pointer" } else { "" }
    )
}

fn names(f: &mut Formatter<'_>, names: &[Name]) -> fmt::Result {
    let kinds = [
        (NameKind::Device, "Devices its strings name"),
        (NameKind::Link, "Links its strings name"),
        (NameKind::Driver, "Drivers its strings name"),
        (NameKind::Registry, "Registry keys its strings name"),
    ];
    for (kind, title) in kinds {
        let of_kind: Vec<_> = names.iter().filter(|name| name.kind == kind).collect();
        if !of_kind.is_empty() {
            writeln!(f, "\n{title}")?;
            for name in of_kind.iter().take(PRINTED_MAX) {
                // A name that ends like that is only the beginning of one.
                let rest = if name.text.ends_with('\\') { "...: the rest is put together at run time" } else { "" };
                writeln!(f, "  {}{rest} (+{:#x})", name.text, name.offset)?;
            }
            left_out(f, of_kind.len())?;
        }
    }
    Ok(())
}

fn instructions(f: &mut Formatter<'_>, instructions: &[Instruction], left_out: usize) -> fmt::Result {
    if instructions.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nInstructions that a process cannot execute, or that mean something else there")?;
    // Those that do the same and are treated the same stand in one line.
    let mut groups: BTreeMap<(Treatment, &str), Vec<&Instruction>> = BTreeMap::new();
    for instruction in instructions {
        groups.entry((instruction.treatment, instruction.purpose)).or_default().push(instruction);
    }
    for ((treatment, purpose), group) in groups {
        let places: Vec<_> = group.iter().take(OFFSETS_MAX).map(|instruction| instruction.offset).collect();
        writeln!(
            f,
            "  {} x {}: {purpose}; {treatment} ({})",
            group.len(),
            group[0].text,
            offsets(&places, group.len())
        )?;
    }
    if left_out != 0 {
        writeln!(f, "  ... and {left_out} more")?;
    }
    Ok(())
}

impl Display for Treatment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rewritten => "rewritten when it is loaded",
            Self::Emulated => "emulated",
            Self::Executed => "executed as it is",
            Self::Exception => "raises an exception or ends the run",
        })
    }
}

fn uses(f: &mut Formatter<'_>, uses: &[TdiUse]) -> fmt::Result {
    if uses.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nWhat it uses of TDI, and what takes its place")?;
    for tdi in uses {
        writeln!(f, "  {}", tdi.what)?;
        writeln!(f, "    seen: {}", printable(&tdi.evidence.join(", ")))?;
        writeln!(f, "    WSK:  {}", tdi.wsk)?;
        if let Some(wfp) = tdi.wfp {
            writeln!(f, "    WFP:  {wfp}")?;
        }
        writeln!(f, "    but:  {} ({})", tdi.difference, tdi.rules.replace(' ', ", "))?;
    }
    Ok(())
}

fn left_out(f: &mut Formatter<'_>, total: usize) -> fmt::Result {
    match total.checked_sub(PRINTED_MAX) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(f, "    ... and {more} more (--json lists all)"),
    }
}

fn offsets(offsets: &[u32], total: usize) -> String {
    let mut text: Vec<_> = offsets.iter().map(|offset| format!("+{offset:#x}")).collect();
    if total > offsets.len() {
        text.push(format!("{} more", total - offsets.len()));
    }
    text.join(", ")
}

fn first(names: &[String]) -> String {
    let mut text: Vec<_> = names.iter().take(PRINTED_MAX).cloned().collect();
    if names.len() > PRINTED_MAX {
        text.push(format!("{} more", names.len() - PRINTED_MAX));
    }
    printable(&text.join(", ")).into_owned()
}
