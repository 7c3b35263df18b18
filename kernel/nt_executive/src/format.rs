//! The kernel's printf.
//!
//! One engine serves `DbgPrint`, `_snprintf`, `swprintf` and their relatives: it reads a format and argument words and
//! emits characters one by one; who stores them, and what happens when they do not fit, is the caller's business
//! ([`crate::c_runtime`]). Characters travel as UTF-16 code units; bytes are mapped by [`crate::code_page`].
//!
//! Follows what drivers pass: `%Z`, `%wZ`, `%hZ`, `%ws`, `%I64d` and `long` of 32 bits. Strings are read through
//! [`Arguments::read`], so a bad pointer prints a note instead of ending the host, and is told in [`Formatted`].
//!
//! Left out: `%a`, `%n` (refused and told), locales, digits grouping. A width or precision above 65,535 is cut to that.

mod directive;
mod number;
#[cfg(test)]
mod tests;

use crate::code_page;
use directive::{Conversion, Directive, Size};

/// Where a format's arguments come from.
pub trait Arguments {
    /// The next argument word. Asked for once per `*` and once per conversion, in order.
    fn next(&mut self) -> u64;

    /// Fills `into` from memory that an argument points to; `false` if that cannot be read.
    fn read(&self, address: u64, into: &mut [u8]) -> bool;
}

/// What `%s` means: each function's own character size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `printf`: `%s` is bytes, `%S` is UTF-16.
    Narrow,
    /// `wprintf`: `%s` is UTF-16, `%S` is bytes.
    Wide,
}

/// What happened while formatting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Formatted {
    /// Characters emitted.
    pub units: usize,
    /// An argument's address that could not be read.
    pub unreadable: Option<u64>,
    /// The format holds `%n`, which nothing was written for.
    pub refused_count: bool,
}

/// Formats `template` and hands each code unit to `emit`.
pub fn format(
    flavour: Flavour,
    template: &[u16],
    arguments: &mut impl Arguments,
    emit: &mut impl FnMut(u16),
) -> Formatted {
    let mut writer = Writer { flavour, emit, result: Formatted::default() };
    let mut rest = template;
    while let Some((&unit, behind)) = rest.split_first() {
        if unit != u16::from(b'%') {
            writer.put(unit);
            rest = behind;
            continue;
        }
        let (directive, behind) = Directive::parse(behind, arguments);
        match directive {
            Some(directive) => writer.directive(&directive, arguments),
            // What is no conversion is printed without its percent sign, as Microsoft's C run-time does; that
            // covers `%%` too.
            None => behind.iter().take(1).for_each(|&unit| writer.put(unit)),
        }
        rest = match directive {
            Some(_) => behind,
            None => behind.get(1..).unwrap_or_default(),
        };
    }
    writer.result
}

struct Writer<'a, E> {
    flavour: Flavour,
    emit: &'a mut E,
    result: Formatted,
}

impl<E: FnMut(u16)> Writer<'_, E> {
    fn put(&mut self, unit: u16) {
        (self.emit)(unit);
        self.result.units += 1;
    }

    fn fill(&mut self, unit: u8, count: usize) {
        (0..count).for_each(|_| self.put(unit.into()));
    }

    fn directive(&mut self, directive: &Directive, arguments: &mut impl Arguments) {
        let word = arguments.next();
        match directive.conversion {
            Conversion::Signed | Conversion::Unsigned { .. } | Conversion::Pointer | Conversion::Float(_) => {
                let text = number::text(directive, word);
                self.number(directive, &text);
            }
            Conversion::Character { opposite } => {
                let unit = if self.is_wide(directive, opposite) { word as u16 } else { code_page::to_wide(word as u8) };
                self.text(directive, &[unit]);
            }
            Conversion::String { opposite } => {
                let is_wide = self.is_wide(directive, opposite);
                let text = match word {
                    0 => null_text(directive),
                    _ => self.terminated(directive, word, is_wide, arguments),
                };
                self.text(directive, &text);
            }
            Conversion::Counted => {
                let text = match word {
                    0 => null_text(directive),
                    _ => self.counted(directive, word, arguments),
                };
                self.text(directive, &text);
            }
            Conversion::Count => self.result.refused_count = true,
        }
    }

    /// Whether a `%c` or `%s` argument is UTF-16. A size prefix decides; else the letter's case and the flavour.
    fn is_wide(&self, directive: &Directive, opposite: bool) -> bool {
        match directive.size {
            Size::Short | Size::Byte => false,
            Size::Long | Size::Wide => true,
            _ => (self.flavour == Flavour::Wide) != opposite,
        }
    }

    /// Reads a string up to its NUL or the precision.
    fn terminated(&mut self, directive: &Directive, address: u64, wide: bool, arguments: &impl Arguments) -> Vec<u16> {
        let most = directive.precision.unwrap_or(usize::MAX);
        let mut text = Vec::new();
        let mut place = address;
        while text.len() < most {
            let Some((unit, bytes)) = read_unit(place, wide, arguments) else {
                return self.unreadable(place);
            };
            if unit == 0 {
                break;
            }
            text.push(unit);
            place = place.wrapping_add(bytes);
        }
        text
    }

    /// Reads a `UNICODE_STRING` (`%wZ`) or `ANSI_STRING` (`%Z`, `%hZ`).
    fn counted(&mut self, directive: &Directive, address: u64, arguments: &impl Arguments) -> Vec<u16> {
        let wide = match directive.size {
            Size::Long | Size::Wide => true,
            Size::Short | Size::Byte => false,
            _ => self.flavour == Flavour::Wide,
        };
        let (mut length, mut buffer) = ([0; 2], [0; 8]);
        if !arguments.read(address, &mut length) || !arguments.read(address.wrapping_add(8), &mut buffer) {
            return self.unreadable(address);
        }
        let (length, buffer) = (usize::from(u16::from_le_bytes(length)), u64::from_le_bytes(buffer));
        if buffer == 0 {
            return null_text(directive);
        }
        let units = if wide { length / 2 } else { length };
        let mut text = Vec::new();
        let mut place = buffer;
        for _ in 0..units.min(directive.precision.unwrap_or(usize::MAX)) {
            let Some((unit, bytes)) = read_unit(place, wide, arguments) else {
                return self.unreadable(place);
            };
            text.push(unit);
            place = place.wrapping_add(bytes);
        }
        text
    }

    fn unreadable(&mut self, address: u64) -> Vec<u16> {
        self.result.unreadable.get_or_insert(address);
        format!("<unreadable {address:#x}>").encode_utf16().collect()
    }

    fn text(&mut self, directive: &Directive, text: &[u16]) {
        let padding = directive.width.saturating_sub(text.len());
        if !directive.left {
            self.fill(if directive.zero { b'0' } else { b' ' }, padding);
        }
        text.iter().for_each(|&unit| self.put(unit));
        if directive.left {
            self.fill(b' ', padding);
        }
    }

    fn number(&mut self, directive: &Directive, number: &number::Text) {
        let length = number.prefix.len() + number.zeros + number.digits.len();
        let padding = directive.width.saturating_sub(length);
        let zeros = directive.zero && !directive.left && number.may_be_zero_padded;
        if !directive.left && !zeros {
            self.fill(b' ', padding);
        }
        number.prefix.bytes().for_each(|byte| self.put(byte.into()));
        self.fill(b'0', if zeros { padding + number.zeros } else { number.zeros });
        number.digits.bytes().for_each(|byte| self.put(byte.into()));
        if directive.left {
            self.fill(b' ', padding);
        }
    }
}

fn read_unit(address: u64, wide: bool, arguments: &impl Arguments) -> Option<(u16, u64)> {
    if wide {
        let mut bytes = [0; 2];
        arguments.read(address, &mut bytes).then(|| (u16::from_le_bytes(bytes), 2))
    } else {
        let mut byte = [0; 1];
        arguments.read(address, &mut byte).then(|| (code_page::to_wide(byte[0]), 1))
    }
}

/// What a NULL string prints, cut by the precision like any other.
fn null_text(directive: &Directive) -> Vec<u16> {
    "(null)".encode_utf16().take(directive.precision.unwrap_or(usize::MAX)).collect()
}
