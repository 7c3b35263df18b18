//! The crash file (format in `docs/crash-file.md`): first for people, then the same as one line of JSON.
//!
//! What stands in it came from a process that crashed, so texts are cleaned of control characters, and an
//! address is shown as an offset only where it lies in an image that was mapped.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Value, json};
use trace::{BugCheckRecord, ImageRecord, Record};

use crate::json_lines::json_of;

/// Version of the format.
const VERSION: u32 = 1;
/// Names of [`BugCheckRecord::registers`], in order.
const REGISTERS: [&str; 16] =
    ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

/// What is known of a crash.
#[derive(Clone, Debug)]
pub struct Crash<'a> {
    /// Drydock's version.
    pub version: &'a str,
    /// Windows' name for the code; empty if it has none.
    pub name: &'a str,
    /// The record that the child left, or one made by the supervisor for a child that left none.
    pub bugcheck: &'a BugCheckRecord,
    /// What was mapped.
    pub images: &'a [ImageRecord],
    /// The last events, oldest first; as many as the caller wants to see.
    pub events: &'a [Record],
}

impl Crash<'_> {
    /// Writes the file.
    ///
    /// # Errors
    /// What `to` says.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        writeln!(to, "Drydock crash file, version {VERSION} (drydock {})\n", clean(self.version))?;
        to.write_all(self.headline().as_bytes())?;
        to.write_all(self.machine_state().as_bytes())?;
        to.write_all(self.history().as_bytes())?;
        writeln!(to, "The same for programs")?;
        serde_json::to_writer(&mut to, &self.to_json())?;
        writeln!(to)?;
        to.flush()
    }

    /// The file's last line as a value.
    pub fn to_json(&self) -> Value {
        let record = self.bugcheck;
        let image = |image: &ImageRecord| json!({ "name": image.name, "base": hex(image.base), "size": image.size });
        let registers =
            REGISTERS.iter().zip(record.registers).map(|(name, value)| (name.to_string(), json!(hex(value))));
        let more = [("rip", record.rip), ("rflags", record.rflags)];
        let more = more.map(|(name, value)| (name.to_string(), json!(hex(value))));
        json!({
            "format": "drydock-crash",
            "version": VERSION,
            "drydock": self.version,
            "bugcheck": {
                "complete": record.complete,
                "code": format!("{:#010x}", record.code),
                "name": self.name,
                "parameters": record.parameters.map(hex),
                "driver": record.driver,
                "image_base": hex(record.image_base),
                "offset": hex(record.offset),
                "thread": hex(record.thread),
                "import": record.import.map(|number| json!({ "number": number, "name": record.import_name })),
                "message": record.message,
            },
            "registers": registers.chain(more).collect::<serde_json::Map<_, _>>(),
            "frames": record.frames.iter().map(|&address| self.json_place(address)).collect::<Vec<_>>(),
            "images": self.images.iter().map(image).collect::<Vec<_>>(),
            "events": self.events.iter().map(json_of).collect::<Vec<_>>(),
        })
    }

    /// What happened, where, and what to make of it.
    fn headline(&self) -> String {
        let record = self.bugcheck;
        let mut out = match self.name {
            "" => format!("Bugcheck {:#010x}\n", record.code),
            name => format!("Bugcheck {:#010x} {}\n", record.code, clean(name)),
        };
        if !record.complete {
            out.push_str("  (the record is incomplete: what is missing reads as 0)\n");
        }
        if !record.message.is_empty() {
            let _ = writeln!(out, "  {}", clean(&record.message));
        }
        for (index, value) in record.parameters.iter().enumerate() {
            let _ = writeln!(out, "  parameter {}    {value:#018x}{}", index + 1, self.in_image(*value));
        }
        if !record.driver.is_empty() {
            let _ = writeln!(out, "  driver         {}+{:#x}", clean(&record.driver), record.offset);
        }
        if let Some(number) = record.import {
            let _ = writeln!(out, "  in import      {} (number {number})", clean(&record.import_name));
        }
        let _ = writeln!(out, "  thread         {:#x}\n", record.thread);
        out
    }

    /// Stack, registers, images.
    fn machine_state(&self) -> String {
        let record = self.bugcheck;
        let mut out = String::from("Stack, innermost first\n");
        for (index, &address) in [record.rip].iter().chain(&record.frames).enumerate() {
            let _ = writeln!(out, "  {index:>2}  {address:#018x}{}", self.in_image(address));
        }
        out.push_str("\nRegisters\n");
        let registers = REGISTERS.iter().copied().zip(record.registers);
        let all: Vec<_> = registers.chain([("rip", record.rip), ("rfl", record.rflags)]).collect();
        for row in all.chunks(3) {
            let row: Vec<_> = row.iter().map(|(name, value)| format!("{name:>3} {value:016x}")).collect();
            let _ = writeln!(out, "  {}", row.join("  "));
        }
        out.push_str("\nImages\n");
        for image in self.images {
            let end = image.base.saturating_add(image.size);
            let _ = writeln!(out, "  {:#018x} - {end:#018x}  {}", image.base, clean(&image.name));
        }
        out.push('\n');
        out
    }

    /// The last events.
    fn history(&self) -> String {
        let mut out = format!("Last {} events, oldest first\n", self.events.len());
        for record in self.events {
            let millis = record.time_ns / 1_000_000;
            let rest = record.time_ns / 1000 % 1000;
            let _ = write!(out, "  {millis:>7}.{rest:03} ms  thread {:<3} {}", record.thread, record.event.name());
            for (name, value) in record.event.fields() {
                let _ = write!(out, " {name}={value:#x}");
            }
            if !record.text.is_empty() {
                let _ = write!(out, " \"{}\"", clean(&record.text));
            }
            out.push('\n');
        }
        out.push('\n');
        out
    }

    /// `  driver.sys+0x10` for an address in an image, else nothing.
    fn in_image(&self, address: u64) -> String {
        match self.place(address) {
            Some((image, offset)) => format!("  {}+{offset:#x}", clean(&image.name)),
            None => String::new(),
        }
    }

    fn json_place(&self, address: u64) -> Value {
        let place = self.place(address);
        json!({
            "address": hex(address),
            "driver": place.map(|(image, _)| &image.name),
            "offset": place.map(|(_, offset)| hex(offset)),
        })
    }

    fn place(&self, address: u64) -> Option<(&ImageRecord, u64)> {
        // The newest first: an address range can be used again.
        self.images.iter().rev().find_map(|image| image.offset_of(address).map(|offset| (image, offset)))
    }
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

/// The text on one line, without control characters that could play tricks on a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests;
