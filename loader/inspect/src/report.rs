//! What is said about an image.

use serde::Serialize;

use crate::tdi::TdiUse;

/// What an image is, needs and does, as far as its file tells.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// File name.
    pub name: String,
    /// Bytes of the file.
    pub file_size: u64,
    /// What comes of it when it is run.
    pub verdict: Verdict,
    /// What it says about itself; nothing if it is no PE image.
    pub image: Option<Facts>,
    /// What is unusual about it, in whole sentences.
    pub notes: Vec<String>,
    /// What it is built on, in whole sentences.
    pub technologies: Vec<Technology>,
    /// What it imports, by module.
    pub imports: Vec<Module>,
    /// Names it exports.
    pub exports: Vec<String>,
    /// How it handles exceptions; nothing if it has no table of functions.
    pub exceptions: Option<Exceptions>,
    /// Names of devices, links and keys among its strings.
    pub names: Vec<Name>,
    /// Instructions that a process cannot execute as they are.
    pub instructions: Vec<Instruction>,
    /// Instructions of this kind beyond those listed.
    pub instructions_left_out: usize,
    /// What it uses of TDI, with what takes its place in WSK or WFP.
    pub tdi: Vec<TdiUse>,
}

/// What comes of an image when it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Verdict {
    /// It is loaded, and everything it imports is there.
    Runs,
    /// It is loaded, and stopped when it calls one of these imports.
    Stops {
        /// How many imports nobody implements.
        missing: usize,
        /// Whether one of them can be reached by direct calls from the entry point.
        while_starting: bool,
    },
    /// It is not loaded.
    Refused {
        /// Why, and what to do about it.
        reason: String,
    },
}

/// What an image says about itself.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// The processor in words.
    pub machine: String,
    /// Its number.
    pub machine_number: u16,
    /// 32 or 64.
    pub bits: u8,
    /// What it was linked for, in words.
    pub subsystem: String,
    /// Whether it is marked as a library, as drivers linked by mingw-w64 are.
    pub is_dll: bool,
    /// Offset of the entry point, 0 if there is none.
    pub entry: u32,
    /// Where it would like to be.
    pub preferred_base: u64,
    /// Bytes of memory it takes.
    pub image_size: u32,
    /// Whether it can lie elsewhere.
    pub is_relocatable: bool,
    /// Whether its compiler guards stacks with a cookie that the loader sets.
    pub has_security_cookie: bool,
    /// The checksum in its header.
    pub checksum: Checksum,
    /// Its signature.
    pub signature: Signature,
    /// Its sections by offset.
    pub sections: Vec<Section>,
}

/// A section of an image.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// At most eight bytes.
    pub name: String,
    /// Offset in the image.
    pub offset: u32,
    /// Bytes in the image.
    pub size: u32,
    /// Whether it can be written.
    pub write: bool,
    /// Whether it holds code.
    pub execute: bool,
}

/// The checksum in an image's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Checksum {
    /// None was written.
    Absent,
    /// It is that of the file.
    Right,
    /// The file was changed after it was written. Windows refuses such a driver.
    Wrong {
        /// In the header.
        stored: u32,
        /// Of the file.
        computed: u32,
    },
}

/// The signature behind an image. It is looked for and not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Signature {
    /// There is none in the file; a catalogue may hold one.
    Absent,
    /// There is one, of this many bytes.
    Present {
        /// Bytes of the certificates and signatures.
        bytes: u32,
    },
    /// The header names one that the file does not hold.
    Damaged,
}

/// Something that drivers are built on.
#[derive(Clone, Debug, Serialize)]
pub struct Technology {
    /// Its short name, such as `TDI` or `NDIS`.
    pub name: &'static str,
    /// What the image does with it, and what comes of that here.
    pub meaning: String,
    /// What in the image says so.
    pub evidence: Vec<String>,
}

/// A module that is imported from.
#[derive(Clone, Debug, Serialize)]
pub struct Module {
    /// Its name as the image has it.
    pub name: String,
    /// What is imported, in the order of the table.
    pub imports: Vec<Import>,
}

/// A function or variable that is imported.
#[derive(Clone, Debug, Serialize)]
pub struct Import {
    /// Its name, or `#n` for an ordinal.
    pub name: String,
    /// Whether it is there.
    pub state: ImportState,
    /// Offsets of the instructions that call or read it, the first ones; through a jump that linkers put in between,
    /// too.
    pub sites: Vec<u32>,
    /// How many there are.
    pub site_count: usize,
    /// Whether one of them calls or jumps. What is only read may be a variable.
    pub is_called: bool,
}

/// Whether an import is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ImportState {
    /// Drydock implements it.
    Implemented {
        /// Its signature in Drydock's table.
        signature: String,
        /// The rules it follows.
        rules: String,
    },
    /// Nobody implements it. The image is loaded nevertheless.
    Missing {
        /// What that blocks.
        blocks: Blocks,
    },
}

/// What a missing import blocks: it stops the driver, by name, when it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocks {
    /// Code that direct calls lead to from the entry point uses it: most likely the driver is stopped while it starts.
    Starting,
    /// Other code uses it: the driver is stopped when it gets there.
    Later,
    /// No use was found. Either there is none, or only a computed address leads to it.
    NothingSeen,
    /// The code was not looked at, since it is not for this processor.
    Unknown,
}

/// How an image handles exceptions.
#[derive(Clone, Debug, Serialize)]
pub struct Exceptions {
    /// Functions in its table.
    pub functions: usize,
    /// Those with a handler.
    pub with_handler: usize,
    /// The handlers: an imported name, or the offset of one of the image's own.
    pub handlers: Vec<String>,
}

/// A name among an image's strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Name {
    /// What it names.
    pub kind: NameKind,
    /// The string.
    pub text: String,
    /// Where it was seen first.
    pub offset: u32,
}

/// What a name is a name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NameKind {
    /// `\Device\...`
    Device,
    /// `\DosDevices\...`, `\??\...`
    Link,
    /// `\Driver\...`: another driver's object, which those look for that hook it.
    Driver,
    /// `\Registry\...`
    Registry,
}

/// An instruction that a process cannot execute as it is, or that means something else there.
#[derive(Clone, Debug, Serialize)]
pub struct Instruction {
    /// Offset in the image.
    pub offset: u32,
    /// In Intel's spelling.
    pub text: String,
    /// What it does.
    pub purpose: &'static str,
    /// What becomes of it.
    pub treatment: Treatment,
}

/// What becomes of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// It is replaced when the image is loaded, at no cost.
    Rewritten,
    /// It faults, and its effect is made up; that costs a microsecond.
    Emulated,
    /// It is executed as it is, with an effect that differs from that in a kernel.
    Executed,
    /// It raises an exception, which ends the run unless the driver handles it.
    Exception,
}
